// What the library that records CUDA graphs (libapo_cuda_graph.so) hands to whoever loads it. It is the one
// part that needs LibTorch's CUDA half to be there, and is loaded after it.
#pragma once

#include <functional>
#include <memory>

#include "base/device_graph.h"

namespace apo {

struct GraphModule {
  const char* version;  ///< of the library that it was built with; another one's is refused
  std::unique_ptr<DeviceGraph> (*record)(at::DeviceIndex device, const std::function<void()>& body);
};

/// The one function that the module exports.
inline constexpr const char* kGraphModuleSymbol = "apo_cuda_graph_module";
using GraphModuleFunction = const GraphModule* (*)();

}  // namespace apo
