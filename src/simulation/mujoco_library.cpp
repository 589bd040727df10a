#include "simulation/mujoco_library.h"

#include <dlfcn.h>

#include <filesystem>

#include "apo/base/error.h"
#include "apo/base/location.h"

namespace apo::simulation {
namespace {

// Structs are used as the headers declare them, so another version will not do.
constexpr int kMajor = mjVERSION_HEADER / 100, kMinor = mjVERSION_HEADER / 10 % 10, kPatch = mjVERSION_HEADER % 10;

struct Loaded {
  MujocoLibrary library = {};
  std::string problem = {};
};

Loaded load() {
  const std::string version = concat(kMajor, ".", kMinor, ".", kPatch), name = "libmujoco.so." + version;
  const std::string path = find_beside({"../../mujoco/" + name}).value_or(name);
  const auto problem = [&version](const auto&... found) {
    return Loaded{.problem = concat("the tabletop simulation needs MuJoCo ", version, ": ", found..., "; pip install mujoco==",
                                    version)};
  };
  void* handle = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) return problem(::dlerror());
  Loaded loaded;
  std::string missing;
  const auto find = [&](auto& function, const char* symbol) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(::dlsym(handle, symbol));
    if (function == nullptr && missing.empty()) missing = symbol;
  };
#define APO_MUJOCO_FIND(name) find(loaded.library.name, #name);
  APO_MUJOCO_FUNCTIONS(APO_MUJOCO_FIND)
#undef APO_MUJOCO_FIND
  find(loaded.library.user_error, "mju_user_error");
  find(loaded.library.user_warning, "mju_user_warning");
  if (!missing.empty()) return problem(path, " has no ", missing);
  const int found = loaded.library.mj_version();
  if (found != mjVERSION_HEADER) return problem("found ", found / 100, ".", found / 10 % 10, ".", found % 10, " in ", path);
  return loaded;
}

const Loaded& loaded() {
  static const Loaded& once = *new Loaded(load());  // renderers of threads that outlive main still need it
  return once;
}

}  // namespace

const MujocoLibrary& mujoco() {
  APO_CHECK(RunError, loaded().problem.empty(), loaded().problem);
  return loaded().library;
}

std::string mujoco_problem() { return loaded().problem; }

}  // namespace apo::simulation
