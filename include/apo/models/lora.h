// Low-rank adapters in named slots: every linear layer carries several, one of them is active.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace apo::config {
class Visitor;
}

namespace apo::models {

struct LoraOptions {
  int64_t rank = 0;              ///< 0: no adapter, all weights train
  double alpha = 16;             ///< update = (alpha / rank) · B A x
  double dropout = 0;            ///< on the adapter's input, training only
  std::string target_modules = "all-linear";  ///< "all-linear", or names separated by commas
  bool rslora = false;           ///< alpha / sqrt(rank) instead
  std::string init = "kaiming";  ///< of A: kaiming | gaussian; B starts at zero
  void visit(config::Visitor& v);
};

/// Which adapter slot is active, shared by all linear layers of one policy. Empty name: the base alone.
class AdapterSlots {
 public:
  const std::string& active() const { return active_; }
  const std::vector<std::string>& names() const { return names_; }
  bool has(const std::string& name) const;
  /// Bug if there is no such slot.
  void activate(const std::string& name);
  /// Registers a name (called by the layers that create the tensors).
  void add(const std::string& name);

 private:
  std::string active_;
  std::vector<std::string> names_;
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

}  // namespace apo::models
