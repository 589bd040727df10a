// CUDA graphs by LibTorch, whose allocator keeps the memory of a recording. A library of its own
// (graph_module.h).
#include "base/cuda/graph_module.h"

#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

namespace apo {
namespace {

struct CudaGraph final : DeviceGraph {
  void replay() override { graph.replay(); }
  at::cuda::CUDAGraph graph;
};

void wait(const c10::cuda::CUDAStream& stream) { stream.unwrap().synchronize(); }

std::unique_ptr<DeviceGraph> record(at::DeviceIndex device, const std::function<void()>& body) {
  wait(c10::cuda::getCurrentCUDAStream(device));
  const c10::cuda::CUDAStream stream = c10::cuda::getStreamFromPool(/*isHighPriority=*/false, device);
  auto recorded = std::make_unique<CudaGraph>();
  {
    const c10::cuda::CUDAStreamGuard guard(stream);
    body();  // what libraries make on their first use of a stream must not be recorded
    wait(stream);
    recorded->graph.capture_begin({0, 0}, cudaStreamCaptureModeThreadLocal);
    try {
      body();
    } catch (...) {
      try {
        recorded->graph.capture_end();
      } catch (...) {  // the reason is the first one's
      }
      throw;
    }
    recorded->graph.capture_end();
  }
  return recorded;
}

}  // namespace
}  // namespace apo

extern "C" __attribute__((visibility("default"))) const apo::GraphModule* apo_cuda_graph_module() {
  static const apo::GraphModule module = {.version = APO_VERSION, .record = apo::record};
  return &module;
}
