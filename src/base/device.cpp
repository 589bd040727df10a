#include "apo/base/device.h"

#include <ATen/Context.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/util/Exception.h>
#include <dlfcn.h>

#include <charconv>

#include "apo/base/error.h"
#include "apo/base/location.h"
#include "apo/base/log.h"

namespace apo {
namespace {

constexpr int kNeededDriver = 13000;  // of CUDA 13, which LibTorch is built with

// The three functions of the driver that say whether it is worth loading a gigabyte of libraries.
struct Driver {
  int (*init)(unsigned) = nullptr;
  int (*version)(int*) = nullptr;
  int (*device_count)(int*) = nullptr;
};

std::string load_error() {
  const char* error = ::dlerror();
  return error == nullptr ? "unknown reason" : error;
}

std::string dotted(int version) { return concat(version / 1000, ".", version % 1000 / 10); }

CudaState ask_driver() {
  void* library = ::dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return {.problem = concat("no NVIDIA driver: ", load_error())};
  Driver driver;
  driver.init = reinterpret_cast<decltype(driver.init)>(::dlsym(library, "cuInit"));
  driver.version = reinterpret_cast<decltype(driver.version)>(::dlsym(library, "cuDriverGetVersion"));
  driver.device_count = reinterpret_cast<decltype(driver.device_count)>(::dlsym(library, "cuDeviceGetCount"));
  if (driver.init == nullptr || driver.version == nullptr || driver.device_count == nullptr)
    return {.problem = "libcuda.so.1 is not the driver's library"};
  int version = 0, count = 0;
  driver.version(&version);
  constexpr int kNoDevice = 100;  // CUDA_ERROR_NO_DEVICE
  int error = driver.init(0);
  if (error == 0) error = driver.device_count(&count);
  if (error == kNoDevice || (error == 0 && count == 0)) return {.problem = "the NVIDIA driver has no device for this process"};
  CudaState state{.devices = count, .driver = true};
  if (version < kNeededDriver)
    state = {.driver = true, .problem = concat("the NVIDIA driver is too old: expected CUDA ", dotted(kNeededDriver),
                                               " or newer (driver 580), found CUDA ", dotted(version))};
  else if (error != 0)
    state = {.driver = true, .problem = concat("the NVIDIA driver does not start (cuInit gives ", error, ")")};
  return state;
}

// The CUDA half of LibTorch lies beside its CPU half and registers itself when it is loaded.
void load_libtorch_cuda(CudaState& state) {
  const auto fail = [&state](std::string problem) {
    state.devices = 0;
    state.problem = std::move(problem);
  };
  const auto library = file_of(reinterpret_cast<const void*>(&at::globalContext)).replace_filename("libtorch_cuda.so");
  if (::dlopen(library.c_str(), RTLD_LAZY | RTLD_GLOBAL) == nullptr)
    return fail(concat("the CUDA half of LibTorch cannot be loaded: ", load_error(),
                       "; a full `pip install torch` brings what it needs"));
  const at::CUDAHooksInterface& cuda = at::detail::getCUDAHooks();
  state.devices = cuda.getNumGPUs();
  if (state.devices > 0) return;
  try {
    fail(concat("LibTorch (CUDA ", dotted(static_cast<int>(cuda.versionCUDART())), ") finds no device that it can use"));
  } catch (const c10::Error&) {  // the hooks of a process without CUDA, made when something asked for them
    fail("the CUDA half of LibTorch came too late: something asked for CUDA before");
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
    static const bool told = [&cuda] {
      if (cuda.driver) log_warn("run.device auto: the CPU, although there is a GPU: ", cuda.problem);
      return true;
    }();
    (void)told;
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
