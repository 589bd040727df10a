#include "data/hdf5_driver.h"

#include <errno.h>
#include <fcntl.h>
#include <hdf5.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <limits>
#include <tuple>

#include "apo/base/error.h"
#include "base/open_file.h"

namespace apo::data::hdf5 {
namespace {

constexpr haddr_t kMaxAddress = static_cast<haddr_t>(std::numeric_limits<int64_t>::max());

struct File {
  H5FD_t shared = {};  // HDF5's part comes first
  int descriptor = -1;
  struct stat status = {};
  haddr_t allocated = 0;
};

File* of(H5FD_t* file) { return reinterpret_cast<File*>(file); }
const File* of(const H5FD_t* file) { return reinterpret_cast<const File*>(file); }

herr_t fail(const char* why) {
  H5Epush2(H5E_DEFAULT, __FILE__, __func__, __LINE__, H5E_ERR_CLS, H5E_VFL, H5E_READERROR, "%s", why);
  return -1;
}

H5FD_t* open_file(const char* name, unsigned flags, hid_t, haddr_t) {
  auto file = std::make_unique<File>();
  if (flags & H5F_ACC_RDWR) return nullptr;
  file->descriptor = ::open(name, O_RDONLY | O_CLOEXEC);
  if (file->descriptor < 0 || ::fstat(file->descriptor, &file->status) != 0) {
    fail(strerror(errno));
    if (file->descriptor >= 0) ::close(file->descriptor);
    return nullptr;
  }
  return &file.release()->shared;
}

herr_t close_file(H5FD_t* shared) {
  const std::unique_ptr<File> file(of(shared));
  return ::close(file->descriptor);
}

int compare(const H5FD_t* a, const H5FD_t* b) {
  const auto identity = [](const H5FD_t* f) {
    return std::tuple(of(f)->status.st_dev, of(f)->status.st_ino);
  };
  return identity(a) < identity(b) ? -1 : identity(b) < identity(a) ? 1 : 0;
}

herr_t query(const H5FD_t*, unsigned long* flags) {
  if (flags) *flags = H5FD_FEAT_AGGREGATE_METADATA | H5FD_FEAT_DATA_SIEVE | H5FD_FEAT_AGGREGATE_SMALLDATA;
  return 0;
}

haddr_t allocated(const H5FD_t* file, H5FD_mem_t) { return of(file)->allocated; }

herr_t set_allocated(H5FD_t* file, H5FD_mem_t, haddr_t address) {
  of(file)->allocated = address;
  return 0;
}

haddr_t end_of_file(const H5FD_t* file, H5FD_mem_t) { return static_cast<haddr_t>(of(file)->status.st_size); }

herr_t read_at(H5FD_t* file, H5FD_mem_t, hid_t, haddr_t address, size_t size, void* buffer) {
  if (address > kMaxAddress || size > kMaxAddress - address) return fail("an address outside the file");
  auto* bytes = static_cast<uint8_t*>(buffer);
  while (size > 0) {
    const ssize_t n = ::pread(of(file)->descriptor, bytes, size, static_cast<off_t>(address));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail(strerror(errno));
    if (n == 0) return fail("the file ends before it");
    bytes += n;
    address += static_cast<haddr_t>(n);
    size -= static_cast<size_t>(n);
  }
  return 0;
}

herr_t refuse_write(H5FD_t*, H5FD_mem_t, hid_t, haddr_t, size_t, const void*) {
  return fail("the file is open for reading");
}

// HDF5 asks for it while it opens a file, unless HDF5_USE_FILE_LOCKING says no; whoever writes a file holds
// it alone.
herr_t lock(H5FD_t* file, hbool_t) {
  if (take_lock(of(file)->descriptor, LOCK_SH) || errno != EWOULDBLOCK) return 0;  // some disks have no locks
  return fail(kBeingWritten);
}

herr_t unlock(H5FD_t* file) {
  ::flock(of(file)->descriptor, LOCK_UN);
  return 0;
}

hid_t register_driver() {
  H5FD_class_t driver = {};
#ifdef H5FD_CLASS_VERSION  // since HDF5 1.13
  driver.version = H5FD_CLASS_VERSION;
  driver.value = H5_VFD_RESERVED;
#endif
  driver.name = "apo_reading";
  driver.maxaddr = kMaxAddress;
  driver.fc_degree = H5F_CLOSE_WEAK;
  driver.open = open_file;
  driver.close = close_file;
  driver.cmp = compare;
  driver.query = query;
  driver.get_eoa = allocated;
  driver.set_eoa = set_allocated;
  driver.get_eof = end_of_file;
  driver.read = read_at;
  driver.write = refuse_write;
  driver.lock = lock;
  driver.unlock = unlock;
  for (H5FD_mem_t& type : driver.fl_map) type = H5FD_MEM_SUPER;  // one address space
  return H5FDregister(&driver);
}

}  // namespace

Handle reading_access() {
  Session session;
  static const hid_t driver = register_driver();
  Handle access(H5Pcreate(H5P_FILE_ACCESS));
  APO_CHECK(RunError, driver >= 0 && access.id() >= 0 && H5Pset_driver(access.id(), driver, nullptr) >= 0,
            "HDF5: cannot set up reading: ", reason());
  return access;
}

std::optional<std::string> read_text(int64_t type, const std::function<int(int64_t, void*)>& read) {
  if (H5Tis_variable_str(type) > 0) {
    Handle memory(H5Tcopy(H5T_C_S1));
    H5Tset_size(memory.id(), H5T_VARIABLE);
    H5Tset_cset(memory.id(), H5Tget_cset(type));
    char* text = nullptr;
    if (read(memory.id(), static_cast<void*>(&text)) < 0) return std::nullopt;
    std::string result = text ? text : "";
    H5free_memory(text);
    return result;
  }
  const size_t size = H5Tget_size(type);
  if (size > (size_t{16} << 20)) return std::nullopt;
  std::string result(size, '\0');
  if (read(type, static_cast<void*>(result.data())) < 0) return std::nullopt;
  const size_t end =
      H5Tget_strpad(type) == H5T_STR_SPACEPAD ? result.find_last_not_of(' ') + 1 : result.find('\0');
  return result.substr(0, end);
}

}  // namespace apo::data::hdf5
