// Opening files for reading.
#include <hdf5.h>

#include "apo/base/error.h"
#include "base/lfs_pointer.h"
#include "base/open_file.h"
#include "data/hdf5_driver.h"
#include "data/reading_process.h"

namespace apo::data::hdf5 {
namespace {

namespace fs = std::filesystem;

// "truncated file: eof = 4096, sblock->base_addr = 0, stored_eof = 8192"
// -> "the file is cut off: 4096 of 8192 bytes"
std::optional<std::string> cut_off(const std::string& why) {
  const auto number = [&why](const std::string& name) {
    size_t at = why.find(name);
    if (at == std::string::npos) return std::string();
    at += name.size();
    return why.substr(at, why.find_first_not_of("0123456789", at) - at);
  };
  const std::string bytes = number("truncated file: eof = "), all = number("stored_eof = ");
  if (bytes.empty() || all.empty()) return std::nullopt;
  return concat("the file is cut off: ", bytes, " of ", all, " bytes");
}

}  // namespace

Group Group::open(const fs::path& path) {
  Session session;
  std::error_code error;
  const auto status = fs::status(path, error);
  APO_CHECK(DataError, fs::exists(status), path.string(), ": no such file");
  APO_CHECK(DataError, fs::is_regular_file(status), path.string(), ": expected an HDF5 file, found a ",
            fs::is_directory(status) ? "directory" : "special file");
  if (in_reading_process()) return open_here(path, path.string());
  Group root(std::make_shared<const GuardedFile>(path.string()), "");
  root.has("data");  // opens it
  return root;
}

Group Group::open_here(const fs::path& path, const std::string& name) {
  std::error_code error;
  const htri_t is_hdf5 = H5Fis_hdf5(path.c_str());
  APO_CHECK(DataError, is_hdf5 >= 0, name, ": cannot read: ", reason());
  if (is_hdf5 == 0) refuse_lfs_pointer(name, head_of(path));
  APO_CHECK(DataError, is_hdf5 > 0, name, ": expected an HDF5 file, found ",
            fs::file_size(path, error) == 0 ? "an empty file" : "other content");
  const Handle access = reading_access();
  Handle file(H5Fopen(path.c_str(), H5F_ACC_RDONLY, access.id()));
  const std::string why = file.id() >= 0 ? "" : reason();
  if (const auto cut = cut_off(why)) throw DataError(concat(name, ": ", *cut));
  APO_CHECK(DataError, file.id() >= 0, name, why == kBeingWritten ? ": " : ": damaged HDF5 file: ", why);
  Handle root(H5Gopen2(file.id(), "/", H5P_DEFAULT));
  APO_CHECK(DataError, root.id() >= 0, name, ": damaged HDF5 file: ", reason());
  return Group(std::move(root), name, "");
}

}  // namespace apo::data::hdf5
