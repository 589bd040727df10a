#include "simulation/mujoco_library.h"

#include "apo/base/error.h"
#include "apo/base/location.h"
#include "base/shared_library.h"

namespace apo::simulation {
namespace {

// Structs are used as the headers declare them, so another version will not do.
constexpr int kMajor = mjVERSION_HEADER / 100, kMinor = mjVERSION_HEADER / 10 % 10,
              kPatch = mjVERSION_HEADER % 10;

struct Loaded {
  MujocoLibrary library = {};
  std::string problem = {};
};

Loaded load() {
  const std::string version = concat(kMajor, ".", kMinor, ".", kPatch), name = "libmujoco.so." + version;
  Loaded loaded;
  try {
    SharedLibrary file(find_beside({"../../mujoco/" + name}).value_or(name));
#define APO_MUJOCO_FIND(function) file.find(loaded.library.function, #function);
    APO_MUJOCO_FUNCTIONS(APO_MUJOCO_FIND)
#undef APO_MUJOCO_FIND
    file.find(loaded.library.user_error, "mju_user_error");
    file.find(loaded.library.user_warning, "mju_user_warning");
    file.keep();
    const int found = loaded.library.mj_version();
    APO_CHECK(RunError, found == mjVERSION_HEADER, "found ", found / 100, ".", found / 10 % 10, ".",
              found % 10, " in ", file.name());
  } catch (const RunError& error) {
    loaded.problem = concat("the tabletop simulation needs MuJoCo ", version, ": ", error.what(),
                            "; pip install mujoco==", version);
  }
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
