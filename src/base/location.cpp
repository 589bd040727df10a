#include "apo/base/location.h"

#include <dlfcn.h>
#include <link.h>

#include "apo/base/error.h"

namespace apo {

namespace fs = std::filesystem;

fs::path file_of(const void* symbol) {
  Dl_info info{};
  link_map* map = nullptr;
  APO_ASSERT(::dladdr1(symbol, &info, reinterpret_cast<void**>(&map), RTLD_DL_LINKMAP) != 0 &&
             map != nullptr);
  // the loader keeps no path of the program itself
  const fs::path path = map->l_name[0] != '\0' ? map->l_name : "/proc/self/exe";
  std::error_code error;
  const fs::path resolved = fs::canonical(path, error);
  return error ? path : resolved;
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
