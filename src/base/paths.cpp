#include "base/paths.h"

#include <algorithm>
#include <system_error>

#include "apo/base/error.h"

namespace apo {

namespace fs = std::filesystem;

fs::file_status status_of(const fs::path& path) {
  std::error_code ignored;
  return fs::symlink_status(path, ignored);
}

bool lies_there(const fs::path& path) { return fs::exists(status_of(path)); }

std::vector<std::string> names_in(const fs::path& directory) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end; entry.increment(error))
    names.push_back(entry->path().filename().string());
  std::ranges::sort(names);
  return names;
}

void make_directory(const fs::path& directory) {
  std::error_code error;
  fs::create_directories(directory, error);
  APO_CHECK(RunError, !error && fs::is_directory(directory, error), directory.string(),
            ": cannot create directory: ", error ? error.message() : "a file is in the way");
}

}  // namespace apo
