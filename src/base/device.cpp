#include "apo/base/device.h"

#include <ATen/Context.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/util/Exception.h>

#include <charconv>
#include <mutex>

#include "apo/base/error.h"
#include "apo/base/location.h"
#include "apo/base/log.h"
#include "base/shared_library.h"

namespace apo {
namespace {

constexpr int kNeededDriver = 13000;  // of CUDA 13, which LibTorch is built with

std::string dotted(int version) { return concat(version / 1000, ".", version % 1000 / 10); }

// Asks the driver whether it is worth loading a gigabyte of libraries.
CudaState ask_driver() {
  int (*initialize)(unsigned) = nullptr;
  int (*driver_version)(int*) = nullptr;
  int (*device_count)(int*) = nullptr;
  try {
    SharedLibrary driver("libcuda.so.1");
    driver.find(initialize, "cuInit");
    driver.find(driver_version, "cuDriverGetVersion");
    driver.find(device_count, "cuDeviceGetCount");
    driver.keep();
  } catch (const RunError& error) {
    return {.problem = concat("no NVIDIA driver: ", error.what())};
  }
  int version = 0, count = 0;
  driver_version(&version);
  constexpr int kNoDevice = 100;  // CUDA_ERROR_NO_DEVICE
  int error = initialize(0);
  if (error == 0) error = device_count(&count);
  if (error == kNoDevice || (error == 0 && count == 0))
    return {.problem = "the NVIDIA driver has no device for this process"};
  if (version < kNeededDriver)
    return {.driver = true,
            .problem = concat("the NVIDIA driver is too old: expected CUDA ", dotted(kNeededDriver),
                              " or newer (driver 580), found CUDA ", dotted(version))};
  if (error != 0)
    return {.driver = true, .problem = concat("the NVIDIA driver does not start (cuInit gives ", error, ")")};
  return {.devices = count, .driver = true};
}

// The CUDA half of LibTorch lies beside its CPU half and registers itself when it is loaded.
void load_libtorch_cuda(CudaState& state) {
  state.devices = 0;
  try {
    SharedLibrary library(file_of(reinterpret_cast<const void*>(&at::globalContext))
                              .replace_filename("libtorch_cuda.so")
                              .string(),
                          SharedLibrary::Symbols::visible);
    library.keep();
  } catch (const RunError& error) {
    state.problem = concat("the CUDA half of LibTorch cannot be loaded: ", error.what(),
                           "; `pip install torch` with its dependencies brings what it needs");
    return;
  }
  const at::CUDAHooksInterface& cuda = at::detail::getCUDAHooks();
  state.devices = cuda.getNumGPUs();
  if (state.devices > 0) return;
  try {
    state.problem = concat("LibTorch (CUDA ", dotted(static_cast<int>(cuda.versionCUDART())),
                           ") finds no device that it can use");
  } catch (const c10::Error&) {  // the hooks of a process without CUDA, made when something asked for them
    state.problem = "the CUDA half of LibTorch came too late: something asked for CUDA before";
  }
}

CudaState find_cuda() {
  CudaState state = ask_driver();
  if (state.devices > 0) load_libtorch_cuda(state);
  return state;
}

}  // namespace

const CudaState& cuda_state() {
  static const CudaState state = find_cuda();
  return state;
}

at::Device select_device(const std::string& device) {
  if (device == "cpu") return at::Device(at::kCPU);
  if (device == "auto") {
    const CudaState& cuda = cuda_state();
    if (cuda.devices > 0) return at::Device(at::kCUDA, 0);
    static std::once_flag told;
    if (cuda.driver)
      std::call_once(
          told, [&cuda] { log_warn("run.device auto: the CPU, although there is a GPU: ", cuda.problem); });
    return at::Device(at::kCPU);
  }
  int64_t index = 0;
  bool valid = device == "cuda";
  if (device.starts_with("cuda:")) {
    const char* end = device.data() + device.size();
    const auto [rest, error] = std::from_chars(device.data() + 5, end, index);
    valid = error == std::errc() && rest == end && index >= 0;
  }
  APO_CHECK(ConfigError, valid, "run.device: expected auto, cpu, cuda or cuda:N, found '", device, "'");
  const CudaState& cuda = cuda_state();
  APO_CHECK(ConfigError, cuda.devices > 0, "run.device: expected a usable CUDA device for '", device,
            "', found none: ", cuda.problem, "; cpu always works");
  APO_CHECK(ConfigError, index < cuda.devices, "run.device: expected one of the ", cuda.devices,
            " CUDA devices of this machine, found '", device, "'; cpu always works");
  return at::Device(at::kCUDA, static_cast<at::DeviceIndex>(index));
}

}  // namespace apo
