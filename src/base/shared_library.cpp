#include "base/shared_library.h"

#include <dlfcn.h>

#include <utility>

#include "apo/base/error.h"

namespace apo {

std::string loader_error() {
  const char* message = ::dlerror();
  return message != nullptr ? message : "the loader gives no reason";
}

SharedLibrary::SharedLibrary(const std::string& name, Symbols symbols) : name_(name) {
  handle_ =
      ::dlopen(name.c_str(), symbols == Symbols::hidden ? RTLD_NOW | RTLD_LOCAL : RTLD_LAZY | RTLD_GLOBAL);
  APO_CHECK(RunError, handle_ != nullptr, loader_error());
}

SharedLibrary::~SharedLibrary() {
  if (handle_ != nullptr && !kept_) ::dlclose(handle_);
}

SharedLibrary::SharedLibrary(SharedLibrary&& other) noexcept
    : name_(std::move(other.name_)), handle_(std::exchange(other.handle_, nullptr)), kept_(other.kept_) {}

void* SharedLibrary::address(const char* symbol) const {
  void* found = ::dlsym(handle_, symbol);
  APO_CHECK(RunError, found != nullptr, name_, ": expected a function ", symbol, ", found none");
  return found;
}

}  // namespace apo
