#include <dlfcn.h>

#include <utility>

#include "apo/base/error.h"
#include "apo/base/location.h"
#include "simulation/gl_platform.h"

namespace apo::simulation {
namespace {

std::string loader_error() {
  const char* message = ::dlerror();
  return message ? message : "the loader gives no reason";
}

}  // namespace

SharedLibrary::SharedLibrary(const std::string& name) : name_(name) {
  // private until it has drawn: MuJoCo would take a useless library's functions too
  handle_ = ::dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
  APO_CHECK(RunError, handle_, loader_error());
}

SharedLibrary::~SharedLibrary() {
  if (handle_ && !kept_) ::dlclose(handle_);
}

SharedLibrary::SharedLibrary(SharedLibrary&& other) noexcept
    : name_(std::move(other.name_)), handle_(std::exchange(other.handle_, nullptr)), kept_(other.kept_) {}

void* SharedLibrary::address(const char* name) const {
  void* found = ::dlsym(handle_, name);
  APO_CHECK(RunError, found, name_, ": expected a function ", name, ", found none");
  return found;
}

void SharedLibrary::show_to_mujoco(const char* get_proc_address) const {
  APO_CHECK(RunError, ::dlopen(name_.c_str(), RTLD_NOW | RTLD_GLOBAL | RTLD_NOLOAD), loader_error());
  void* process = ::dlopen(nullptr, RTLD_NOW);
  APO_CHECK(RunError, process, loader_error());
  void* taken = nullptr;
  for (const char* name : {"eglGetProcAddress", "OSMesaGetProcAddress", "glXGetProcAddressARB"})
    if (!taken) taken = ::dlsym(process, name);
  ::dlclose(process);
  APO_CHECK(RunError, taken == address(get_proc_address), name_, ": MuJoCo would take its OpenGL functions from ",
            taken == nullptr ? "nowhere" : file_of(taken).string(), ", which this program has loaded before");
}

}  // namespace apo::simulation
