// One item of the GPU check a call; scripts/gpu_check.sh runs them all.
//
//   apo-gpu-check kernels --device cuda --data tests/gpu/data
//
// Prints JSON lines on stdout; the last one is the item's result: {"item", "device", "verdict", "numbers",
// "message"}. Exit code: 0 passed or no device, 1 failed, 2 wrong usage.
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <torch/types.h>
#include <torch/version.h>

#include <CLI/CLI.hpp>
#include <iostream>
#include <map>

#include "apo/base/device.h"
#include "apo/base/error.h"
#include "gpu/check.h"

namespace {

using namespace apo;
using gpu::Json;

// What the library itself sees of the device.
void check_device(const gpu::Options&, at::Device device, gpu::Item& item) {
  item.put("library", std::string(TORCH_VERSION));
  item.put("cpu_threads", at::get_num_threads());
  if (!device.is_cuda()) return;
  const auto& hooks = at::detail::getCUDAHooks();
  item.put("devices", hooks.getNumGPUs());
  item.put("runtime", hooks.versionCUDART());
  item.put("cudnn", hooks.hasCuDNN() ? hooks.versionCuDNN() : 0);
  const at::Tensor x = at::ones({1000}, at::TensorOptions(at::kFloat).device(device));
  item.at_most("sum_error", std::abs(x.sum().item<double>() - 1000), 0);
}

using Check = void (*)(const gpu::Options&, at::Device, gpu::Item&);
const std::map<std::string, std::pair<Check, const char*>> kChecks = {
    {"device", {check_device, "what the library sees of the device"}},
    {"kernels", {gpu::check_kernels, "row kernels against the plain composition"}},
    {"collectives", {gpu::check_collectives, "sums over ranks by NCCL"}},
    {"tabletop", {gpu::check_tabletop, "SFT and APO of the built-in policy on recorded episodes"}},
    {"parity", {gpu::check_parity, "a tiny OpenVLA against transformers' numbers"}},
    {"openvla",
     {gpu::check_openvla, "an OpenVLA of the released size with random weights: speed and memory"}},
};

int finish_without_device(const std::string& name) {
  const CudaState& state = cuda_state();
  const Json line = {{"item", name},
                     {"device", "none"},
                     {"verdict", state.driver ? "failed" : "no device"},
                     {"numbers", Json::object()},
                     {"message", state.problem}};
  std::cout << line.dump(-1, ' ', false, Json::error_handler_t::replace) << std::endl;
  return state.driver ? 1 : 0;  // a card that cannot be used is no missing card
}

int run(const std::string& name, const gpu::Options& options) {
  try {
    if (options.device.starts_with("cuda") && cuda_state().devices == 0) return finish_without_device(name);
    const at::Device device = select_device(options.device);
    gpu::Item item(name, device.str());
    try {
      kChecks.at(name).first(options, device, item);
    } catch (const c10::Error& error) {
      item.complain(error.what_without_backtrace());
    } catch (const std::exception& error) {
      item.complain(error.what());
    }
    return item.finish();
  } catch (const ConfigError& error) {
    std::cerr << "apo-gpu-check: " << error.what() << std::endl;
    return 2;
  }
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("One item of the GPU check; scripts/gpu_check.sh runs them all.", "apo-gpu-check");
  gpu::Options options;
  std::string data;
  app.require_subcommand(1);
  for (const auto& [name, check] : kChecks) {
    CLI::App* command = app.add_subcommand(name, check.second);
    command->add_option("--device", options.device, "cpu, cuda or cuda:N")->capture_default_str();
    command->add_option("--data", data, "recordings, configs and the tiny OpenVLA")->type_name("DIR");
    command->add_flag("--small", options.small, "few cases and small sizes");
    command->add_flag("--checkpointing", options.checkpointing,
                      "openvla: recompute activations in the backward pass");
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  options.data = data;
  return run(app.get_subcommands().front()->get_name(), options);
}
