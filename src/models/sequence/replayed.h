// One computation without gradient, repeated with other numbers in tensors of the same shapes: recorded on
// the device when it comes again, and replayed from then on.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <vector>

#include "base/device_graph.h"

namespace apo::models {

class Replayed {
 public:
  using Inputs = std::vector<at::Tensor>;  ///< on one device; undefined ones stay so
  using Body = std::function<at::Tensor(const Inputs&)>;

  /// What `body` gives for `inputs`, in a tensor of its own. From the third time on that the inputs' shapes
  /// and types come, it is the device's recording that runs (`record_graph` says what a body must not do),
  /// and `body` itself does where nothing can be recorded. `state` stands for all else that the body reads:
  /// where it is another, every recording is thrown away.
  at::Tensor run(const Inputs& inputs, const std::vector<int64_t>& state, const Body& body);
  /// Gives back the recordings and their memory.
  void clear() { entries_.clear(); }

 private:
  struct Entry {
    std::vector<int64_t> shapes;
    int64_t calls = 0, last_call = 0;
    Inputs inputs;
    at::Tensor result;
    std::unique_ptr<DeviceGraph> graph;  // behind the tensors that it writes: gone before them
  };
  Entry& entry_of(const Inputs& inputs);

  std::vector<int64_t> state_;
  std::list<Entry> entries_;  // which stay where they are
  int64_t calls_ = 0;
};

}  // namespace apo::models
