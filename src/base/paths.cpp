#include "base/paths.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

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

fs::path parent_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

void sync_to_disk(const fs::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  const bool good = descriptor >= 0 && ::fsync(descriptor) == 0;
  const std::string why = strerror(errno);
  if (descriptor >= 0) ::close(descriptor);
  APO_CHECK(RunError, good, path.string(), ": cannot sync to disk: ", why);
}

void put_in_place(const fs::path& partial, const fs::path& path, Sync sync) {
  if (sync == Sync::yes) sync_to_disk(partial);
  std::error_code error;
  fs::rename(partial, path, error);
  APO_CHECK(RunError, !error, path.string(), ": cannot write: ", error.message());
  if (sync == Sync::yes) sync_to_disk(parent_of(path));
}

void replace_link(const fs::path& link, const fs::path& target) {
  const fs::path partial = link.string() + ".partial";
  std::error_code error;
  fs::remove(partial, error);
  fs::create_symlink(target, partial, error);
  if (!error) fs::rename(partial, link, error);
  APO_CHECK(RunError, !error, link.string(), ": cannot point it at ", target.string(), ": ", error.message());
}

}  // namespace apo
