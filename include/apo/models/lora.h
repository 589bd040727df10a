// Low-rank adapters in named slots: every linear layer carries several, one of them is active.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace apo::config {
class Visitor;
}

namespace apo::models {

struct LoraOptions {
  int64_t rank = 0;    ///< 0: that of a loaded adapter; without one no adapter, all weights train
  double alpha = 16;   ///< update = (alpha / rank) · B A x
  double dropout = 0;  ///< on the adapter's input, training only
  std::string target_modules = "all-linear";  ///< "all-linear", or names separated by commas
  bool rslora = false;                        ///< alpha / sqrt(rank) instead
  std::string init = "kaiming";               ///< of A: kaiming | gaussian; B starts at zero
  bool merge = false;  ///< a loaded adapter becomes part of the weights, all of which train
  void visit(config::Visitor& v);
};

class Linear;
class Policy;

/// The slot that training changes and that a policy's `save` writes.
inline constexpr const char* kTrainedSlot = "default";

/// Which adapter slot is active, shared by all linear layers of one policy. Empty name: the base alone.
class AdapterSlots {
 public:
  AdapterSlots() = default;
  AdapterSlots(const AdapterSlots&) = delete;
  AdapterSlots& operator=(const AdapterSlots&) = delete;

  /// Makes a linear layer able to carry adapters, under its checkpoint name. The layer must outlive the slots
  /// and stay where it is.
  void attach(const std::string& name, Linear& linear);
  /// The attached layers in checkpoint order.
  const std::vector<std::pair<std::string, Linear*>>& layers() const { return layers_; }
  /// How a slot's adapter was made. Bug if there is no such slot.
  const LoraOptions& options(const std::string& name) const;
  /// Whether adapters drop out their input.
  bool training() const { return training_; }
  void set_training(bool training) { training_ = training; }

  const std::string& active() const { return active_; }
  const std::vector<std::string>& names() const { return names_; }
  bool has(const std::string& name) const;
  /// Bug if there is no such slot.
  void activate(const std::string& name);
  /// Registers a name (called by the functions below that create the tensors).
  void add(const std::string& name, const LoraOptions& options = {});
  /// Forgets a slot and its tensors; the base alone is active if it was the active one.
  void remove(const std::string& name);

 private:
  std::string active_;
  std::vector<std::string> names_;
  std::map<std::string, LoraOptions> options_;
  std::vector<std::pair<std::string, Linear*>> layers_;
  bool training_ = false;
};

/// Makes a slot active for a block of code and restores the one before.
class AdapterScope {
 public:
  AdapterScope(AdapterSlots& slots, const std::string& name) : slots_(slots), before_(slots.active()) {
    slots_.activate(name);
  }
  ~AdapterScope() { slots_.activate(before_); }
  AdapterScope(const AdapterScope&) = delete;
  AdapterScope& operator=(const AdapterScope&) = delete;

 private:
  AdapterSlots& slots_;
  std::string before_;
};

/// Adds a fresh adapter (B = 0, so that nothing changes yet) in slot `name` to the layers that
/// `options.target_modules` names. Its tensors are float32, on the layers' device, and require a gradient.
/// ConfigError for rank < 1, a target that matches no layer (naming what there is), or a slot in use.
void add_adapter(AdapterSlots& slots, const std::string& name, const LoraOptions& options, uint64_t seed);
/// A copy of slot `from` in the new slot `to`, frozen.
void copy_adapter(AdapterSlots& slots, const std::string& from, const std::string& to);
/// Looks which B of a slot are zero, where they have changed since it was called last: a frozen one is left
/// out of all products from then on, as long as it does not change.
void note_zeros(const AdapterSlots& slots, const std::string& name);

/// Reads a PEFT adapter directory (adapter_config.json, adapter_model.safetensors) into the new slot `name`;
/// which layers carry an adapter is read off the tensors' names. Its tensors are float32 and require a
/// gradient; its own lora_dropout is that of another run and does not count.
/// DataError naming file, key or tensor: missing, of another shape, for a layer that this policy lacks, a
/// kind of adapter that is not plain LoRA (dora, trained biases, modules_to_save), or a copy of a base weight
/// that differs from this policy's.
void load_adapter(Policy& policy, const std::string& name, const std::filesystem::path& directory,
                  double dropout = 0);
/// Writes slot `name` in PEFT's layout into an existing directory. RunError naming the file that cannot be
/// written.
void save_adapter(const AdapterSlots& slots, const std::string& name, const std::filesystem::path& directory,
                  const std::string& base_model);

/// Adds the active adapter to the base weights and removes it; afterwards all weights require a gradient.
/// Bug while another slot (a reference) still stands on the base.
void merge_adapter(Policy& policy);

}  // namespace apo::models
