// What draws the pictures, and what is said where nothing can. A process chooses once, so every case starts
// this program again: with the variable kJob it draws instead of testing, and ends.
#include "apo/simulation/rendering.h"

#include <dlfcn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <torch/types.h>

#include <condition_variable>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "apo/base/error.h"
#include "apo/simulation/tabletop.h"
#include "support/program.h"
#include "support/temp_dir.h"

namespace apo::simulation {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr const char* kJob = "APO_TEST_DRAWING_JOB";

// What the child does.

/// Pictures of both tasks in both looks and sizes, undisrupted and with everything that changes a picture.
std::string pictures() {
  std::string bytes;
  const auto append = [&](const at::Tensor& picture) {
    bytes.append(reinterpret_cast<const char*>(picture.data_ptr<uint8_t>()),
                 static_cast<size_t>(picture.numel()));
  };
  for (const TabletopTask task : {TabletopTask::pick, TabletopTask::push}) {
    for (const double disrupted : {0.0, 1.0}) {
      Tabletop table({.task = task, .image_size = disrupted > 0 ? 96 : 64},
                     {.lighting = {.probability = disrupted},
                      .background = {.probability = disrupted},
                      .distractors = {.probability = disrupted},
                      .camera_moved = {.probability = disrupted}});
      for (uint64_t seed = 0; seed < 3; seed++) {
        table.reset(seed);
        for (int i = 0; i < 6; i++) table.step(scripted_expert(table.state()));
        append(table.observe().images.at("front"));
        append(table.render(128));
      }
    }
  }
  return bytes;
}

/// The lines of the process's map that name an OpenGL platform's library.
std::vector<std::string> platform_libraries() {
  std::vector<std::string> found;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);)
    if (line.find("libOSMesa") != std::string::npos || line.find("libEGL") != std::string::npos)
      found.push_back(line);
  return found;
}

/// A thread that has drawn and gives its contexts back when the program's static objects are destroyed.
class LateThread {
 public:
  void start() {
    thread_ = std::thread([this] {
      Tabletop table;
      table.observe();
      std::unique_lock lock(mutex_);
      drawn_ = true;
      changed_.notify_all();
      changed_.wait(lock, [this] { return leave_; });
    });
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return drawn_; });
  }
  ~LateThread() {
    if (!thread_.joinable()) return;
    {
      const std::lock_guard lock(mutex_);
      leave_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool drawn_ = false, leave_ = false;
  std::thread thread_;
};
LateThread late_thread;  // before any driver's exit handler, so it ends after it

int work(const std::string& job) {
  Tabletop table;  // all but the pictures works without OpenGL, and loads none
  for (int i = 0; i < 3; i++) table.step(scripted_expert(table.state()));
  if (!platform_libraries().empty()) return 90;
  std::cout << "stepped" << std::endl;
  if (job == "late") {
    late_thread.start();
  } else if (job == "threads") {
    std::vector<std::string> drawn(4);
    std::vector<std::thread> threads;
    for (std::string& bytes : drawn) threads.emplace_back([&bytes] { bytes = pictures(); });
    for (std::thread& thread : threads) thread.join();
    const std::string alone = pictures();
    for (const std::string& bytes : drawn)
      if (bytes != alone) return 91;
  } else if (job == "one") {
    table.observe();
  } else {
    testing::spit(job, pictures());
  }
  std::cout << "renderer: " << renderer_name() << "\n";
  for (const std::string& line : platform_libraries()) std::cout << "library: " << line << "\n";
  return 0;
}

class Child : public ::testing::Environment {
  void SetUp() override {
    const char* job = std::getenv(kJob);
    if (!job) return;
    int code = 92;
    try {
      code = work(job);
    } catch (const Error& error) {
      std::cerr << "error: " << error.what() << "\n";
      code = static_cast<int>(error.exit_code());
    }
    std::exit(code);
  }
};
const auto* const child = ::testing::AddGlobalTestEnvironment(new Child);

// What the test does.

struct Drawn {
  int exit_code = -1;
  std::string renderer, out, err;
};

class RenderingTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!Tabletop::available()) GTEST_SKIP() << "built without MuJoCo";
    fs::create_directory(shadows_);
  }

  /// Runs the job ("one" picture, "threads", "late", or a file for many pictures) with these settings of the
  /// environment.
  Drawn draw(const std::string& settings, const std::string& job = "one",
             fs::path program = "/proc/self/exe") const {
    if (program == "/proc/self/exe") program = fs::read_symlink(program);
    const std::string out = (dir_ / "out").string(), err = (dir_ / "err").string();
    const std::string command = concat(
        "env -u MUJOCO_GL -u MUJOCO_EGL_DEVICE_ID ", kJob, "='", job, "' ", settings, " '", program.string(),
        "' --gtest_filter=RenderingTest.ObeysTheVariable >'", out, "' 2>'", err, "'");
    const int status = std::system(command.c_str());
    Drawn drawn{.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1,
                .out = testing::slurp(out),
                .err = testing::slurp(err)};
    if (const size_t at = drawn.out.find("renderer: "); at != std::string::npos)
      drawn.renderer = drawn.out.substr(at + 10, drawn.out.find('\n', at) - at - 10);
    return drawn;
  }

  /// The setting with which the loader finds our files before the system's.
  std::string shadowed() const { return concat("LD_LIBRARY_PATH='", shadows_.string(), "'"); }
  void put_garbage(std::initializer_list<const char*> names) const {
    for (const char* name : names) testing::spit(shadows_ / name, "this is no library\n");
  }
  void put_another_library(std::initializer_list<const char*> names) const {
    Dl_info info{};
    ASSERT_TRUE(::dladdr(::dlsym(RTLD_DEFAULT, "cos"), &info));
    for (const char* name : names) fs::create_symlink(info.dli_fname, shadows_ / name);
  }

  const testing::TempDir dir_;
  const fs::path shadows_ = dir_ / "shadows";
};

// The file of a library that is loaded here.
fs::path mapped(const std::string& name) {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);)
    if (line.find(name) != std::string::npos) return line.substr(line.find('/'));
  return {};
}

// Says why and skips where the platform cannot be used here.
#define NEEDS(platform)                                                          \
  if (const Drawn usable = draw("MUJOCO_GL=" platform); usable.exit_code != 0) { \
    ASSERT_EQ(usable.exit_code, 4) << usable.err;                                \
    GTEST_SKIP() << usable.err;                                                  \
  }

TEST_F(RenderingTest, ObeysTheVariable) {
  NEEDS("osmesa");
  for (const char* setting : {"MUJOCO_GL=osmesa", "MUJOCO_GL=OSMesa", "MUJOCO_GL=' osmesa '"}) {
    const Drawn drawn = draw(setting);
    EXPECT_EQ(drawn.exit_code, 0) << drawn.err;
    EXPECT_THAT(drawn.renderer, StartsWith("OSMesa (")) << setting;
    EXPECT_THAT(drawn.out, Not(HasSubstr("libEGL"))) << "only what is asked for is loaded";
    EXPECT_THAT(drawn.err, HasSubstr("pictures are drawn by " + drawn.renderer));
  }
  NEEDS("egl");
  for (const char* setting : {"MUJOCO_GL=egl", "MUJOCO_GL=EGL"}) {
    const Drawn drawn = draw(setting);
    EXPECT_THAT(drawn.renderer, StartsWith("EGL (")) << setting;
    EXPECT_THAT(drawn.out, Not(HasSubstr("libOSMesa")));
  }
}

TEST_F(RenderingTest, TakesEglAloneWhereItCan) {
  NEEDS("egl");
  for (const char* setting : {"", "MUJOCO_GL=", "MUJOCO_GL=' '"})
    EXPECT_THAT(draw(setting).renderer, StartsWith("EGL ("));
}

TEST_F(RenderingTest, AnotherValueIsAnError) {
  for (const char* value : {"glfw", "1", "eg l"}) {
    const Drawn drawn = draw(concat("MUJOCO_GL='", value, "'"));
    EXPECT_EQ(drawn.exit_code, 2);
    EXPECT_THAT(drawn.err, AllOf(HasSubstr("MUJOCO_GL: expected egl, osmesa or nothing"),
                                 HasSubstr(concat("found '", value, "'"))));
  }
}

TEST_F(RenderingTest, WithoutEitherOnlyThePicturesAreMissing) {
  put_garbage({"libEGL.so.1", "libOSMesa.so.8", "libOSMesa.so.6", "libOSMesa.so"});
  const Drawn drawn = draw(shadowed());
  EXPECT_EQ(drawn.exit_code, 4);
  EXPECT_THAT(drawn.out, HasSubstr("stepped"));
  EXPECT_THAT(drawn.err, AllOf(HasSubstr("pictures cannot be drawn: EGL: "), HasSubstr("libEGL.so.1: "),
                               HasSubstr("; OSMesa: "), HasSubstr("libOSMesa.so.8: "),
                               HasSubstr("libOSMesa.so.6: "), HasSubstr("libOSMesa.so: ")));
  EXPECT_THAT(drawn.err, AllOf(HasSubstr("package libosmesa6"),
                               HasSubstr("libegl1 with libegl-mesa0 and libgl1-mesa-dri")));
}

TEST_F(RenderingTest, LibrariesWithoutTheFunctionsAreNotTaken) {
  put_another_library({"libEGL.so.1", "libOSMesa.so.8", "libOSMesa.so.6", "libOSMesa.so"});
  const Drawn drawn = draw(shadowed());
  EXPECT_EQ(drawn.exit_code, 4);
  EXPECT_THAT(drawn.err,
              AllOf(HasSubstr("libEGL.so.1: expected a function eglGetProcAddress, found none"),
                    HasSubstr("libOSMesa.so.8: expected a function OSMesaCreateContextExt, found none")));
}

TEST_F(RenderingTest, WhatIsDemandedIsNeverReplaced) {
  put_garbage({"libEGL.so.1"});
  for (const char* setting : {"MUJOCO_GL=egl", "MUJOCO_EGL_DEVICE_ID=0"}) {
    const Drawn drawn = draw(concat(setting, " ", shadowed()));
    EXPECT_EQ(drawn.exit_code, 4);
    EXPECT_THAT(drawn.err, AllOf(HasSubstr(concat("cannot be drawn as ", setting, " demands: EGL: ")),
                                 HasSubstr("or unset that variable"), Not(HasSubstr("OSMesa: "))));
  }
  put_garbage({"libOSMesa.so.8", "libOSMesa.so.6", "libOSMesa.so"});
  const Drawn drawn = draw("MUJOCO_GL=osmesa " + shadowed());
  EXPECT_EQ(drawn.exit_code, 4);
  EXPECT_THAT(drawn.err, AllOf(HasSubstr("as MUJOCO_GL=osmesa demands"), Not(HasSubstr("libEGL.so.1"))));
}

TEST_F(RenderingTest, OsMesaTakesTheUselessEglsPlace) {
  NEEDS("osmesa");
  // glvnd's libEGL with no driver behind it
  const Drawn driverless = draw(concat("__EGL_VENDOR_LIBRARY_DIRS='", shadows_.string(), "'"));
  EXPECT_EQ(driverless.exit_code, 0) << driverless.err;
  put_garbage({"libEGL.so.1"});
  const Drawn drawn = draw(shadowed());
  EXPECT_EQ(drawn.exit_code, 0) << drawn.err;
  EXPECT_THAT(drawn.renderer, StartsWith("OSMesa ("));
}

TEST_F(RenderingTest, DevicesAreChosenByNumber) {
  NEEDS("egl");
  for (const char* number : {"-1", "1000", "0x", "first"}) {
    const Drawn drawn = draw(concat("MUJOCO_EGL_DEVICE_ID=", number));
    EXPECT_EQ(drawn.exit_code, 2);
    EXPECT_THAT(drawn.err, AllOf(HasSubstr("MUJOCO_EGL_DEVICE_ID: expected the number of an EGL device"),
                                 HasSubstr(concat("found '", number, "'"))));
  }
  const Drawn first = draw("MUJOCO_EGL_DEVICE_ID=0");
  if (first.exit_code == 0) {
    EXPECT_THAT(first.renderer, StartsWith("EGL ("));
  } else {
    EXPECT_THAT(first.err, HasSubstr("device 0: "));
  }
  EXPECT_EQ(draw("MUJOCO_EGL_DEVICE_ID=").exit_code, 0) << "as if it were unset";
}

TEST_F(RenderingTest, EglAndOsMesaDrawTheSame) {
  NEEDS("osmesa");
  NEEDS("egl");
  const std::string first = (dir_ / "osmesa").string(), second = (dir_ / "egl").string();
  draw("MUJOCO_GL=osmesa", first);
  const Drawn egl = draw("MUJOCO_GL=egl", second);
  const std::string a = testing::slurp(first), b = testing::slurp(second);
  ASSERT_EQ(a.size(), b.size());
  ASSERT_GT(a.size(), 0);
  double sum = 0;
  size_t far = 0;
  for (size_t i = 0; i < a.size(); i++) {
    const int difference = std::abs(static_cast<uint8_t>(a[i]) - static_cast<uint8_t>(b[i]));
    sum += difference;
    far += difference > 32;
  }
  const auto size = static_cast<double>(a.size());
  // Mesa's software draws bit by bit the same either way; a graphics card's edges and shadows fall a little
  // differently.
  EXPECT_LE(sum / size, egl.renderer.find("llvmpipe") != std::string::npos ? 0.1 : 2.0) << egl.renderer;
  EXPECT_LE(static_cast<double>(far) / size, 0.03) << egl.renderer;
}

TEST_F(RenderingTest, ThreadsDrawTheSame) {
  int drew = 0;
  for (const char* setting : {"MUJOCO_GL=egl", "MUJOCO_GL=osmesa"}) {
    const Drawn drawn = draw(setting, "threads");
    if (drawn.exit_code == 4 && drawn.renderer.empty()) continue;  // not here
    EXPECT_EQ(drawn.exit_code, 0) << setting << ": " << drawn.err;
    drew++;
  }
  if (drew == 0) GTEST_SKIP() << "nothing draws here";
}

TEST_F(RenderingTest, ThreadsMayOutliveTheDriver) {
  int drew = 0;
  for (const char* setting : {"MUJOCO_GL=egl", "MUJOCO_GL=osmesa"}) {
    const Drawn drawn = draw(setting, "late");
    if (drawn.exit_code == 4 && drawn.renderer.empty()) continue;  // not here
    EXPECT_EQ(drawn.exit_code, 0) << setting << ": " << drawn.err;
    drew++;
  }
  if (drew == 0) GTEST_SKIP() << "nothing draws here";
}

TEST_F(RenderingTest, ACopyOfOsMesaBesideTheProgramComesFirst) {
  NEEDS("osmesa");
  const Drawn usual = draw("MUJOCO_GL=osmesa");
  const size_t at = usual.out.find("library: ");
  ASSERT_NE(at, std::string::npos);
  const std::string line = usual.out.substr(at, usual.out.find('\n', at) - at);
  const fs::path library = line.substr(line.find('/'));
  put_garbage({"libOSMesa.so.8", "libOSMesa.so.6", "libOSMesa.so"});
  ASSERT_TRUE(Tabletop::available());
  const fs::path mujoco = mapped("libmujoco");  // which a program elsewhere finds no more
  fs::create_symlink(mujoco, shadows_ / mujoco.filename());
  for (const char* place : {"bin", "lib"}) {
    const fs::path root = dir_ / place, program = root / "bin" / "simulation_test";
    fs::create_directories(root / "bin");
    fs::create_directories(root / place);
    fs::copy_file("/proc/self/exe", program);
    fs::copy_file(library, root / place / "libOSMesa.so.8");
    const Drawn drawn = draw("MUJOCO_GL=osmesa " + shadowed(), "one", program);
    EXPECT_EQ(drawn.exit_code, 0) << drawn.err;
    EXPECT_THAT(drawn.out, HasSubstr((root / place / "libOSMesa.so.8").string()));
  }
}

}  // namespace
}  // namespace apo::simulation
