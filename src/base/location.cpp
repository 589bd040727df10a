#include "apo/base/location.h"

#include <dlfcn.h>

#include "apo/base/error.h"

namespace apo {

namespace fs = std::filesystem;

fs::path file_of(const void* symbol) {
  Dl_info info{};
  APO_ASSERT(::dladdr(symbol, &info) != 0 && info.dli_fname != nullptr);
  std::error_code error;
  fs::path path = fs::canonical(info.dli_fname, error);
  // a program started through PATH is known by a bare name
  if (error) path = fs::canonical("/proc/self/exe", error);
  return error ? fs::path(info.dli_fname) : path;
}

const fs::path& own_file() {
  static const fs::path file = file_of(reinterpret_cast<const void*>(&own_file));
  return file;
}

std::optional<std::string> find_beside(std::initializer_list<std::string> relative_paths) {
  for (const std::string& relative : relative_paths) {
    std::error_code error;
    const fs::path path = (own_file().parent_path() / relative).lexically_normal();
    if (fs::exists(path, error)) return path.string();
  }
  return std::nullopt;
}

}  // namespace apo
