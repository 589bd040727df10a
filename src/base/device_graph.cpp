#include "base/device_graph.h"

#include <c10/util/Exception.h>

#include <atomic>
#include <string>

#include "apo/base/error.h"
#include "apo/base/location.h"
#include "apo/base/log.h"
#include "apo/base/version.h"
#include "base/cuda/graph_module.h"
#include "base/shared_library.h"

namespace apo {
namespace {

constexpr const char* kModule = "libapo_cuda_graph.so";

GraphRecorder& other_recorder() {
  static GraphRecorder recorder;
  return recorder;
}

const GraphModule* load() {
  try {
    SharedLibrary library(find_beside({kModule, std::string("../lib/") + kModule}).value_or(kModule));
    GraphModuleFunction module = nullptr;
    library.find(module, kGraphModuleSymbol);
    APO_CHECK(RunError, module()->version == version(), library.name(), ": expected the one of apo ",
              version(), ", found that of ", module()->version);
    library.keep();
    return module();
  } catch (const RunError& error) {
    log_warn("decisions start each kernel by itself, which is slower, since CUDA graphs cannot be recorded: ",
             error.what());
    return nullptr;
  }
}

}  // namespace

void set_graph_recorder(GraphRecorder recorder) { other_recorder() = std::move(recorder); }

std::unique_ptr<DeviceGraph> record_graph(at::Device device, const std::function<void()>& body) {
  if (!device.is_cuda()) return other_recorder() ? other_recorder()(body) : nullptr;
  static const GraphModule* const module = load();
  static std::atomic<bool> failed{false};
  if (module == nullptr || failed) return nullptr;
  try {
    return module->record(device.index(), body);
  } catch (const c10::Error& error) {
    failed = true;
    log_warn("decisions start each kernel by itself, which is slower, since recording a CUDA graph failed: ",
             error.what_without_backtrace());
    return nullptr;
  }
}

}  // namespace apo
