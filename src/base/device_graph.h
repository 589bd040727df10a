// Work of a device recorded once and started again as a whole, for work of so many small steps that starting
// them takes longer than doing them.
#pragma once

#include <c10/core/Device.h>

#include <functional>
#include <memory>

namespace apo {

/// What was recorded. Every replay reads and writes the very memory of the recording.
class DeviceGraph {
 public:
  virtual ~DeviceGraph() = default;
  /// Queues all of it behind what the device was told before.
  virtual void replay() = 0;
};

/// Runs `body` twice, the second time recorded: once to make what is made on first use. It must not wait for
/// the device, draw random numbers or read what the host changes, and its tensors stay the graph's own. Null
/// where nothing can be recorded: no CUDA device, no libapo_cuda_graph.so beside the library (a warning says
/// why, once), or the recording failed (a warning, too; no other is tried then).
std::unique_ptr<DeviceGraph> record_graph(at::Device device, const std::function<void()>& body);

/// Stands for `record_graph` on devices that are not CUDA's, in tests; null: none.
using GraphRecorder = std::function<std::unique_ptr<DeviceGraph>(const std::function<void()>&)>;
void set_graph_recorder(GraphRecorder recorder);

}  // namespace apo
