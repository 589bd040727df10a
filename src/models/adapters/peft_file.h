// A PEFT adapter directory as it lies on disk, before it meets the weights that it changes.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "apo/models/lora.h"

namespace apo::models {

/// How PEFT names the tensors of a layer: kPeftPrefix, the layer's name, and one of the endings.
inline constexpr std::string_view kPeftPrefix = "base_model.model.", kLoraA = ".lora_A.weight",
                                  kLoraB = ".lora_B.weight";

/// adapter_config.json and adapter_model.safetensors, checked as far as that goes without the base.
struct PeftAdapter {
  /// One layer's part: its weight grows by scale · B A, reshaped to the weight's shape.
  struct Part {
    at::Tensor a;      ///< linear [rank, in], convolution [rank, in, Y, X]; the file's dtype
    at::Tensor b;      ///< linear [out, rank], convolution [out, rank, 1, 1]
    double scale = 1;  ///< alpha / rank, or alpha / sqrt(rank); alpha_pattern and rank_pattern considered
    std::string name_a, name_b;  ///< the tensors' names in the file, for messages

    /// The shape of the weight that it fits: [out, in] or [out, in, Y, X].
    std::vector<int64_t> weight_shape() const;
  };

  LoraOptions options;     ///< rank, alpha, dropout, rslora of the config; target_modules stays "all-linear"
  std::string base_model;  ///< base_model_name_or_path; empty: the file does not say
  std::map<std::string, Part> layers;  ///< by layer name ("language_model.lm_head"), without PEFT's prefix
  /// Copies of base weights that peft stores beside an adapted embedding or head, by the base's own tensor
  /// names ("language_model.lm_head.weight"); they are no part of the adapter and must equal the base's.
  std::map<std::string, at::Tensor> base_copies;
  std::filesystem::path file;  ///< adapter_model.safetensors, for messages
};

/// Reads an adapter that any peft since 0.11 wrote; which layers it has is read off the tensors' names,
/// whatever target_modules says. The adapter's own name may stand in the tensors' names. Tensors stay in the
/// mapped file: copy before changing them.
///
/// Errors  DataError naming file and key or tensor: missing, A without B, ranks that disagree with each other
///         or with r and rank_pattern, shapes of neither a linear layer nor a convolution, NaN or infinity,
///         not a floating-point type; and every kind of adapter that is not plain LoRA (dora, fan_in_fan_out,
///         trained biases, modules_to_save, trained tokens, megatron, ...) or was saved from a wrapped model
///         (_orig_mod., module.), which would otherwise be left out silently: with what to do about it
PeftAdapter read_peft(const std::filesystem::path& directory);

/// A content hash of what the adapter does (layers, scales, A and B in float32), whatever the file calls its
/// tensors and in which type it has them as long as they convert exactly.
std::string adapter_hash(const PeftAdapter& adapter);

/// DataError if `adapter` has a copy of the base weight `name` that is not `weight`: it was trained beside
/// the adapter, or belongs to another base, or the adapter is merged into `weight` already. Equal is equal
/// after both are rounded to the narrower of their types, a float32 tensor that holds nothing but bfloat16 or
/// float16 numbers being one of these.
void check_base(const PeftAdapter& adapter, const std::string& name, const at::Tensor& weight);

/// Warns if the adapter names another directory here as its base than `base`: fine-tuned models have the same
/// shapes.
void warn_if_other_base(const std::filesystem::path& adapter_directory, const std::filesystem::path& base);

/// The directory that holds the adapter which `path` names: itself, its only sub-folder with an
/// adapter_config.json (peft saves an adapter of another name than "default" so), or the policy of a run or
/// training checkpoint. DataError saying what is there instead, or that `key` names nothing on this disk.
std::filesystem::path resolve_adapter(const std::filesystem::path& path, const char* key);

/// The directory of the weights that the adapter in `directory` changes: itself if it holds weights,
/// otherwise what its base_model_name_or_path names, relative to it. DataError naming adapter_config.json and
/// what it names.
std::filesystem::path base_of_adapter(const std::filesystem::path& directory);

}  // namespace apo::models
