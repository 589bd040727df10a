// What the programs say of GPUs: none, an old driver, a device that the process may not use, a LibTorch
// without its CUDA half. The driver is a fake; everything else is real.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "support/places.h"
#include "support/program.h"

namespace apo::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

// The environment of the programs that a test starts.
class Variables {
 public:
  explicit Variables(std::initializer_list<std::pair<std::string, std::string>> values) {
    for (const auto& [name, value] : values) {
      const char* before = std::getenv(name.c_str());
      before_[name] = before == nullptr ? "" : before;
      ::setenv(name.c_str(), value.c_str(), 1);
    }
  }
  ~Variables() {
    for (const auto& [name, value] : before_)
      value.empty() ? ::unsetenv(name.c_str()) : ::setenv(name.c_str(), value.c_str(), 1);
  }

 private:
  std::map<std::string, std::string> before_;
};

const std::string kDriver = apo::testing::in_build("fake_driver");

ProgramResult evaluate(const std::string& device) {
  return run_program("apo-eval", {"--config", "tabletop", "--set", "run.device=" + device, "--set",
                                  "policy.checkpoint=none", "--set", "eval.trials=1"});
}

TEST(Device, CudaWithoutADriverIsAnErrorThatSaysSo) {
  const Variables variables{{"LD_LIBRARY_PATH", "/nonexistent"}};
  const ProgramResult result = evaluate("cuda");
  if (result.err.find("libcuda") == std::string::npos)
    GTEST_SKIP() << "a machine with a driver: " << result.err;
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.err, AllOf(HasSubstr("run.device: expected a usable CUDA device for 'cuda'"),
                                HasSubstr("no NVIDIA driver"), HasSubstr("cpu always works")));
}

TEST(Device, ADriverThatIsTooOldIsNamedWithWhatIsNeeded) {
  const Variables variables{{"LD_LIBRARY_PATH", kDriver}, {"FAKE_CUDA_VERSION", "12080"}};
  const ProgramResult result = evaluate("cuda:0");
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.err, AllOf(HasSubstr("expected CUDA 13.0 or newer (driver 580), found CUDA 12.8")));
}

TEST(Device, AutoWarnsOfAGpuThatItCannotUseAndTakesTheCpu) {
  const Variables variables{{"LD_LIBRARY_PATH", kDriver}, {"FAKE_CUDA_VERSION", "12080"}};
  const ProgramResult result = evaluate("auto");
  EXPECT_THAT(result.err, AllOf(HasSubstr("although there is a GPU"), HasSubstr("found CUDA 12.8")));
  EXPECT_EQ(result.exit_code, 3) << "the checkpoint is not there: " << result.err;
}

TEST(Device, AutoIsSilentWhereNoDeviceIs) {
  for (const auto& [name, value] :
       std::map<std::string, std::string>{{"FAKE_CUDA_DEVICES", "0"}, {"FAKE_CUDA_INIT", "100"}}) {
    const Variables variables{{"LD_LIBRARY_PATH", kDriver}, {name, value}};
    EXPECT_THAT(evaluate("auto").err, Not(HasSubstr("GPU"))) << name;
    EXPECT_THAT(evaluate("cuda").err, HasSubstr("has no device for this process")) << name;
  }
}

TEST(Device, ADriverThatDoesNotStartIsAnError) {
  const Variables variables{{"LD_LIBRARY_PATH", kDriver}, {"FAKE_CUDA_INIT", "999"}};
  EXPECT_THAT(evaluate("cuda").err, HasSubstr("does not start (cuInit gives 999)"));
}

// The fake passes for a driver with a device; LibTorch's CUDA half, or what it needs, then finds out. In
// every program it is loaded before anything has asked for CUDA, which LibTorch would remember for good.
TEST(Device, ADeviceThatLibTorchCannotUseIsAnErrorNotACrash) {
  const Variables variables{{"LD_LIBRARY_PATH", kDriver + ":/usr/local/cuda/lib64"}};
  const TempDir dir;
  std::ofstream(dir / "data.hdf5") << "no recording";
  for (const auto& [program, more] : std::map<std::string, std::vector<std::string>>{
           {"apo-eval", {"policy.checkpoint=none"}},
           {"apo-collect", {"policy.checkpoint=none"}},
           {"apo-refine", {"run.dir=" + (dir / "loop").string()}},
           {"apo-train",
            {"run.dir=" + (dir / "run").string(),
             "data.expert=[{path: " + (dir / "data.hdf5").string() + "}]"}}}) {
    std::vector<std::string> arguments = {"--config", "tabletop", "--set", "run.device=cuda"};
    for (const std::string& assignment : more) arguments.insert(arguments.end(), {"--set", assignment});
    if (program == "apo-collect") arguments.insert(arguments.end(), {"--output", dir / "out.hdf5"});
    const ProgramResult result = run_program(program, arguments);
    EXPECT_EQ(result.exit_code, 2) << program << ": " << result.err;
    EXPECT_THAT(result.err, AllOf(HasSubstr("expected a usable CUDA device for 'cuda', found none: "),
                                  Not(HasSubstr("too late"))))
        << program;
  }
}

TEST(Device, TheCpuAsksNoDriver) {
  const Variables variables{{"LD_LIBRARY_PATH", kDriver}, {"FAKE_CUDA_VERSION", "12080"}};
  EXPECT_THAT(evaluate("cpu").err, Not(HasSubstr("CUDA")));
}

TEST(Device, WhatTheMachineLacksIsToldBeforeFilesAreBegun) {
  const TempDir dir;
  const Variables variables{
      {"LD_LIBRARY_PATH", kDriver}, {"FAKE_CUDA_VERSION", "12080"}, {"MUJOCO_GL", "crayons"}};
  const std::vector<std::string> refine = {"--config", "tabletop", "--set",
                                           "run.dir=" + (dir / "loop").string(), "--set"};
  for (const std::string device : {"run.device=cuda", "run.device=cpu"}) {
    std::vector<std::string> arguments = refine;
    arguments.push_back(device);
    EXPECT_EQ(run_program("apo-refine", arguments).exit_code, 2) << device;
    EXPECT_FALSE(std::filesystem::exists(dir / "loop/state.json")) << device;
    EXPECT_FALSE(std::filesystem::exists(dir / "loop/config.yaml")) << device;
  }
  const ProgramResult collect = run_program(
      "apo-collect", {"--config", "tabletop", "--demonstrations", "--output", (dir / "demos.hdf5").string()});
  EXPECT_EQ(collect.exit_code, 2) << collect.err;
  EXPECT_FALSE(std::filesystem::exists(dir / "demos.hdf5"));
}

TEST(Device, TheVersionSaysWhatTheMachineOffers) {
  const Variables variables{{"LD_LIBRARY_PATH", kDriver}, {"FAKE_CUDA_VERSION", "12080"}};
  const std::string out = run_program("apo-train", {"--version"}).out;
  EXPECT_THAT(out, AllOf(HasSubstr("0.1.0"), HasSubstr("libapo.so"), HasSubstr("LibTorch"),
                         HasSubstr("MuJoCo"), HasSubstr("found CUDA 12.8")));
}

}  // namespace
}  // namespace apo::testing
