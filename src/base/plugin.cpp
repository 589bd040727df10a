#include "apo/base/plugin.h"

#include <mutex>
#include <set>
#include <string_view>

#include "apo/base/error.h"
#include "apo/base/log.h"
#include "base/shared_library.h"

namespace apo {
namespace {

namespace fs = std::filesystem;

// The symbol, for a library that was compiled with APO_PLUGIN.
template <class Function>
Function find(const SharedLibrary& library, const char* symbol) {
  Function function = nullptr;
  try {
    library.find(function, symbol);
  } catch (const RunError&) {
    throw ConfigError(concat(library.name(),
                             ": expected a plug-in of apo (APO_PLUGIN in one of its sources), found a "
                             "library without ",
                             symbol));
  }
  return function;
}

SharedLibrary open(const fs::path& file) {
  try {
    return SharedLibrary(file.string());
  } catch (const RunError& error) {
    throw ConfigError(concat("--plugin ", file.string(), ": cannot be loaded: ", error.what()));
  }
}

}  // namespace

void load_plugin(const fs::path& given) {
  static std::mutex mutex;
  static std::set<fs::path> loaded;
  const std::lock_guard lock(mutex);
  std::error_code error;
  const fs::path file = fs::canonical(given, error);  // never by a search of the loader's own
  APO_CHECK(ConfigError, !error && fs::is_regular_file(file, error), "--plugin ", given.string(),
            ": expected a shared library, found ", error ? "nothing" : "something else");
  if (!loaded.insert(file).second) return;
  SharedLibrary library = open(file);
  library.keep();  // the registries hold what is in it
  const std::string_view compiled = find<const char* (*)()>(library, "apo_plugin_version")();
  APO_CHECK(ConfigError, compiled == version(), file.string(), ": expected a plug-in compiled against apo ",
            version(), ", found one for ", compiled, "; compile it anew");
  const auto register_all = find<void (*)()>(library, "apo_plugin_register");
  try {
    register_all();
  } catch (const std::exception& thrown) {
    throw RunError(concat(file.string(), ": its registration failed: ", thrown.what()));
  } catch (...) {
    throw RunError(
        concat(file.string(), ": its registration failed with something that is no std::exception"));
  }
  log_debug("plug-in ", file.string());
}

}  // namespace apo
