#include "apo/models/lora.h"

#include <ATen/CPUGeneratorImpl.h>
#include <torch/types.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>

#include "apo/base/error.h"
#include "apo/base/random.h"
#include "apo/base/text.h"
#include "apo/config/options.h"
#include "apo/models/linear.h"
#include "apo/models/policy.h"
#include "models/adapters/copy.h"
#include "models/sequence/quantized.h"

namespace apo::models {
namespace {

constexpr std::array<std::string_view, 2> kInits{"kaiming", "gaussian"};

std::vector<std::string> split_names(const std::string& text) {
  std::vector<std::string> names;
  std::string name;
  for (const char c : text + ",") {
    if (c == ',') {
      if (!name.empty()) names.push_back(name);
      name.clear();
    } else if (c != ' ') {
      name += c;
    }
  }
  return names;
}

// PEFT's rule: a target is a layer's whole name or its last parts.
bool names_layer(const std::string& target, const std::string& layer) {
  if (layer == target) return true;
  return layer.size() > target.size() && layer.ends_with("." + target);
}

std::vector<Linear*> target_layers(const AdapterSlots& slots, const std::string& target_modules) {
  std::vector<Linear*> layers;
  const bool all = target_modules == "all-linear";
  const std::vector<std::string> targets = all ? std::vector<std::string>{} : split_names(target_modules);
  std::vector<bool> used(targets.size(), false);
  std::vector<std::string> available;
  for (const auto& [name, linear] : slots.layers()) {
    available.push_back(name);
    bool wanted = all;
    for (size_t i = 0; i < targets.size(); ++i) {
      if (!names_layer(targets[i], name)) continue;
      wanted = used[i] = true;
    }
    if (wanted) layers.push_back(linear);
  }
  for (size_t i = 0; i < targets.size(); ++i) {
    if (used[i]) continue;
    throw ConfigError(concat("policy.lora.target_modules: no linear layer is called \"", targets[i],
                             "\"; there are: ", join(available)));
  }
  APO_CHECK(ConfigError, !layers.empty(),
            "policy.lora.target_modules: expected \"all-linear\" or names of layers, found \"",
            target_modules, "\"");
  return layers;
}

double scale_of(const LoraOptions& options) {
  const double rank = static_cast<double>(options.rank);
  return options.alpha / (options.rslora ? std::sqrt(rank) : rank);
}

}  // namespace

void LoraOptions::visit(config::Visitor& v) {
  v("rank", rank,
    "rank of the low-rank adapter; 0: that of the adapter that policy.adapter or the checkpoint brings, and "
    "without one no adapter: all weights train",
    config::at_least(0));
  v("alpha", alpha, "the adapter's update counts alpha / rank times", config::positive());
  v("dropout", dropout,
    "share of the adapter's input dropped in training; what a loaded adapter's file says does not count. "
    "Where a reference is compared with, both drop the same",
    config::between(0, 0.99));
  v("target_modules", target_modules,
    "\"all-linear\", or names of layers (or their last parts) separated by commas");
  v("rslora", rslora, "alpha / sqrt(rank) instead of alpha / rank");
  v.choice("init", init, kInits, "how A starts (B starts at zero)");
  v("merge", merge,
    "make the adapter that is loaded part of the weights, all of which train; otherwise it trains on");
}

void AdapterSlots::attach(const std::string& name, Linear& linear) {
  linear.slots = this;
  layers_.emplace_back(name, &linear);
}

bool AdapterSlots::has(const std::string& name) const {
  return std::find(names_.begin(), names_.end(), name) != names_.end();
}

const LoraOptions& AdapterSlots::options(const std::string& name) const {
  APO_ASSERT(has(name));
  return options_.at(name);
}

void AdapterSlots::activate(const std::string& name) {
  APO_ASSERT(name.empty() || has(name));
  active_ = name;
}

void AdapterSlots::add(const std::string& name, const LoraOptions& options) {
  APO_ASSERT(!name.empty());
  if (!has(name)) names_.push_back(name);
  options_[name] = options;
}

void AdapterSlots::remove(const std::string& name) {
  APO_ASSERT(has(name));
  for (const auto& [layer, linear] : layers_)
    std::erase_if(linear->adapters, [&name](const LinearAdapter& adapter) { return adapter.slot == name; });
  std::erase(names_, name);
  options_.erase(name);
  if (active_ == name) active_.clear();
}

void add_adapter(AdapterSlots& slots, const std::string& name, const LoraOptions& options, uint64_t seed) {
  APO_CHECK(ConfigError, options.rank >= 1, "policy.lora.rank: expected at least 1 for an adapter, found ",
            options.rank);
  APO_CHECK(ConfigError, !slots.has(name), "adapter slot \"", name, "\" is in use");
  auto generator = at::make_generator<at::CPUGeneratorImpl>(mix_seed(seed, "adapter"));
  const at::NoGradGuard no_grad;
  for (Linear* linear : target_layers(slots, options.target_modules)) {
    LinearAdapter adapter{.slot = name,
                          .a = at::empty({options.rank, linear->in_features()}, at::kFloat),
                          .b = {},
                          .scale = scale_of(options)};
    if (options.init == "gaussian") {
      adapter.a.normal_(0, 1.0 / static_cast<double>(options.rank), generator);
    } else {
      const double bound = 1.0 / std::sqrt(static_cast<double>(linear->in_features()));
      adapter.a.uniform_(-bound, bound, generator);
    }
    adapter.a = adapter.a.to(linear->device()).set_requires_grad(true);
    adapter.b =
        at::zeros({linear->out_features(), options.rank}, adapter.a.options()).set_requires_grad(true);
    linear->adapters.push_back(std::move(adapter));
  }
  slots.add(name, options);
}

void copy_adapter(AdapterSlots& slots, const std::string& from, const std::string& to) {
  APO_ASSERT(slots.has(from));
  APO_CHECK(ConfigError, !slots.has(to), "adapter slot \"", to, "\" is in use");
  for (const auto& [name, linear] : slots.layers()) {
    const LinearAdapter* source = linear->find(from);
    if (source == nullptr) continue;
    linear->adapters.push_back({.slot = to,
                                .a = source->a.detach().clone(),
                                .b = source->b.detach().clone(),
                                .scale = source->scale});
  }
  const LoraOptions options = slots.options(from);
  slots.add(to, options);
}

void note_zeros(const AdapterSlots& slots, const std::string& name) {
  for (const auto& [layer, linear] : slots.layers()) {
    LinearAdapter* adapter = linear->find(name);
    if (adapter == nullptr || adapter->version_looked_at == adapter->b._version()) continue;
    adapter->version_looked_at = adapter->b._version();
    adapter->was_zero = adapter->b.count_nonzero().item<int64_t>() == 0;
  }
}

void copy_slots(const AdapterSlots& source, AdapterSlots& target) {
  APO_ASSERT(target.names().empty() && source.layers().size() == target.layers().size());
  for (const std::string& slot : source.names()) {
    target.add(slot, source.options(slot));
    for (size_t i = 0; i < source.layers().size(); ++i) {
      const LinearAdapter* adapter = source.layers()[i].second->find(slot);
      if (adapter == nullptr) continue;
      const auto copy = [](const at::Tensor& tensor) {
        return tensor.detach().clone().set_requires_grad(tensor.requires_grad());
      };
      target.layers()[i].second->adapters.push_back(
          {.slot = slot, .a = copy(adapter->a), .b = copy(adapter->b), .scale = adapter->scale});
    }
  }
  target.activate(source.active());
  target.set_training(source.training());
}

void merge_adapter(Policy& policy) {
  AdapterSlots* slots = policy.adapter_slots();
  APO_ASSERT(slots != nullptr && !slots->active().empty());
  const std::string_view quantization = quantization_of(*slots);
  APO_CHECK(ConfigError, quantization == "none",
            "policy.lora.merge: quantized weights cannot take an adapter in; "
            "expected quantization none of policy.openvla or policy.pi0_fast, found ",
            quantization);
  APO_ASSERT(slots->names().size() == 1);  // a reference in another slot would silently move with the base
  const at::NoGradGuard no_grad;
  for (const auto& [name, linear] : slots->layers()) {
    const LinearAdapter* adapter = linear->find(slots->active());
    if (adapter == nullptr) continue;
    const at::Tensor merged =
        linear->weight.to(at::kFloat) + adapter_product(*adapter).view_as(linear->weight);
    linear->weight.copy_(merged);
  }
  slots->remove(slots->active());
  for (auto& [name, tensor] : policy.named_parameters()) tensor.set_requires_grad(true);
}

}  // namespace apo::models
