// A file's tensors put into a network.
#pragma once

#include <torch/types.h>

#include <functional>
#include <map>
#include <optional>
#include <string>

#include "apo/base/error.h"
#include "apo/models/safetensors.h"
#include "models/sequence/layers.h"
#include "models/sequence/quantized.h"

namespace apo::models {

/// Fills a network on the meta device: with the mapped file itself where type and device are right. DataError
/// for what is not float32, float16 or bfloat16.
class WeightLoader final : public LayerVisitor {
 public:
  using NameInFile = std::function<std::string(const std::string&)>;
  /// One type for all: a checkpoint may keep some tensors in float32. `name_in_file`: of a tensor of the
  /// network; null: the same. `apart`: tensors that are not in that file, by their names in the network.
  WeightLoader(const SafetensorsReader& weights, at::ScalarType type, at::Device device,
               NameInFile name_in_file = nullptr, const std::map<std::string, at::Tensor>* apart = nullptr)
      : weights_(weights),
        type_(type),
        device_(device),
        name_in_file_(std::move(name_in_file)),
        apart_(apart) {}
  /// Linear layers but the head are brought to it as they are read.
  WeightLoader& quantize_to(std::optional<Quantization> quantization) {
    quantization_ = quantization;
    return *this;
  }

 protected:
  void parameter(const std::string& name, at::Tensor& value) override {
    if (apart_ != nullptr)
      if (const auto found = apart_->find(name); found != apart_->end()) {
        value = found->second.to(device_, type_);
        return;
      }
    const std::string in_file = name_in_file_ ? name_in_file_(name) : name;
    const at::Tensor stored = weights_.tensor(in_file);
    APO_CHECK(DataError, stored.is_floating_point() && stored.scalar_type() != at::kDouble,
              weights_.path().string(), ": tensor ", name, ": expected float32, float16 or bfloat16, found ",
              stored.scalar_type());
    value = stored.to(device_, type_);
    if (!value.is_alias_of(stored)) weights_.release(in_file);  // the copy is enough
  }
  void linear(const std::string& name, Linear& layer) override {
    LayerVisitor::linear(name, layer);
    if (!quantization_ || !is_quantized_layer(name, layer, *quantization_)) return;
    QuantizedWeight codes = quantize(layer.weight, *quantization_);
    APO_CHECK(DataError, codes.scales.isfinite().all().item<bool>(), weights_.path().string(), ": tensor ",
              name, ".weight: expected finite numbers to quantize, found NaN or infinity");
    keep_codes_alone(layer, std::move(codes), type_);
    weights_.release(name_in_file_ ? name_in_file_(name + ".weight") : name + ".weight");
  }

 private:
  const SafetensorsReader& weights_;
  at::ScalarType type_;
  at::Device device_;
  NameInFile name_in_file_;
  const std::map<std::string, at::Tensor>* apart_;
  std::optional<Quantization> quantization_ = std::nullopt;
};

}  // namespace apo::models
