// Arrays: what they are, and their numbers.
#include <hdf5.h>

#include <algorithm>

#include "apo/base/error.h"
#include "apo/base/text.h"
#include "data/elsewhere.h"
#include "data/hdf5.h"
#include "data/hdf5_driver.h"
#include "data/listing.h"

namespace apo::data::hdf5 {

Array::Array(std::shared_ptr<const GuardedFile> guard, std::string path, const Description& description)
    : guard_(std::move(guard)),
      file_(guard_->file()),
      path_(std::move(path)),
      kind_(static_cast<Kind>(description.first.at(0))),
      is_signed_(description.first.at(1) != 0),
      is_enumeration_(description.first.at(2) != 0),
      holds_bytes_(description.first.at(3) != 0),
      filters_known_(description.first.at(4) != 0),
      is_written_(description.first.at(5) != 0),
      other_(description.second),
      element_bytes_(description.first.at(6)),
      shape_(description.first.begin() + 7, description.first.end()) {}

Array::Description Array::description() const {
  bool filters_known = true;
  try {
    check_filters();
  } catch (const DataError&) {  // told when it is read
    filters_known = false;
  }
  std::vector<int64_t> numbers{static_cast<int64_t>(kind_),
                               is_signed_,
                               is_enumeration_,
                               holds_bytes_,
                               filters_known,
                               is_written(),
                               element_bytes_};
  numbers.insert(numbers.end(), shape_.begin(), shape_.end());
  return {std::move(numbers), other_};
}

Array::Array(Handle handle, std::string file, std::string path)
    : handle_(std::move(handle)), file_(std::move(file)), path_(std::move(path)) {
  Handle type(H5Dget_type(handle_.id()));
  Handle space(H5Dget_space(handle_.id()));
  Handle creation(H5Dget_create_plist(handle_.id()));
  APO_CHECK(DataError, type.id() >= 0 && space.id() >= 0 && creation.id() >= 0, where(),
            ": cannot read: ", reason());
  APO_CHECK(DataError,
            H5Pget_external_count(creation.id()) <= 0 && H5Pget_layout(creation.id()) != H5D_VIRTUAL, where(),
            ": its data are in another file, which is not followed");
  APO_CHECK(DataError, is_plausible_number(type.id()), where(), ": damaged: a type of impossible numbers");
  const bool is_null = H5Sget_simple_extent_type(space.id()) == H5S_NULL;
  kind_ = is_null ? Kind::other : kind_of(type.id());
  is_enumeration_ = H5Tget_class(type.id()) == H5T_ENUM;
  holds_bytes_ = !is_null && hdf5::holds_bytes(type.id());
  if (kind_ == Kind::other) other_ = is_null ? "an empty dataspace" : describe_other(type.id());
  element_bytes_ = static_cast<int64_t>(H5Tget_size(type.id()));
  is_signed_ = H5Tget_class(type.id()) == H5T_INTEGER && H5Tget_sign(type.id()) == H5T_SGN_2;
  const int rank = H5Sget_simple_extent_ndims(space.id());
  APO_CHECK(DataError, rank >= 0, where(), ": cannot read: ", reason());
  std::vector<hsize_t> sizes(static_cast<size_t>(rank));
  if (rank > 0) H5Sget_simple_extent_dims(space.id(), sizes.data(), nullptr);
  for (const hsize_t size : sizes) {
    APO_CHECK(DataError, size <= (hsize_t{1} << 32), where(), ": a dimension of ", size, " is not plausible");
    shape_.push_back(static_cast<int64_t>(size));
  }
  if (H5Pget_layout(creation.id()) == H5D_CHUNKED) {
    std::vector<hsize_t> chunk(sizes.size());
    H5Pget_chunk(creation.id(), rank, chunk.data());
    double bytes = static_cast<double>(element_bytes_);
    for (const hsize_t size : chunk) bytes *= static_cast<double>(size);
    APO_CHECK(DataError, bytes <= 0x1p30, where(), ": chunks of ", bytes, " bytes are not plausible");
  }
}

void Array::expect(Kind kind, size_t rank, const char* what) const {
  APO_CHECK(DataError, kind_ == kind && shape_.size() == rank, where(), ": expected ", what, ", found ",
            describe());
  check_filters();
}

// h5py's lzf, blosc and the like are plug-ins that a plain HDF5 lacks.
void Array::check_filters() const {
  if (guard_) return filters_known_ ? void() : elsewhere<&Array::check_filters>();
  Session session;
  Handle creation(H5Dget_create_plist(handle_.id()));
  const int n = H5Pget_nfilters(creation.id());
  for (int i = 0; i < n; ++i) {
    unsigned flags = 0;
    size_t num_values = 0;
    char name[64] = {};
    const H5Z_filter_t id = H5Pget_filter2(creation.id(), static_cast<unsigned>(i), &flags, &num_values,
                                           nullptr, sizeof(name) - 1, name, nullptr);
    const bool known = id >= 0 && H5Zfilter_avail(id) > 0;
    APO_CHECK(DataError, known, where(), ": is compressed with '", is_utf8(name) ? name : "?",
              "' (HDF5 filter ", id,
              "), which is not available here; rewrite the file with gzip, e.g. h5repack -f GZIP=4 IN OUT "
              "where that filter is installed");
  }
}

int64_t Array::count() const {
  int64_t n = 1;
  for (const int64_t size : shape_) {
    APO_CHECK(DataError, size == 0 || n <= (int64_t{1} << 40) / size, where(),
              ": its size is not plausible: ", describe());
    n *= size;
  }
  return n;
}

// A corrupt shape must not become a giant allocation: the file has to hold the data (deflate packs 1032:1 at
// most).
void Array::check_size(int64_t bytes) const {
  check_filters();
  const auto stored = static_cast<int64_t>(H5Dget_storage_size(handle_.id()));
  Handle creation(H5Dget_create_plist(handle_.id()));
  const bool filtered = H5Pget_nfilters(creation.id()) > 0;
  const int64_t need = count() * element_bytes_;
  const bool held = filtered ? need / 1032 <= stored + 1024 : need <= stored;
  APO_CHECK(DataError, held, where(), ": expected ", need, " bytes for ", describe(), ", the file holds ",
            stored, " (never written, or the shape is corrupt)");
  APO_CHECK(DataError, bytes <= (int64_t{1} << 31), where(), ": too large to be read at once: ", describe());
}

void Array::read_all(int64_t memory_type, void* out, int64_t bytes) const {
  if (bytes == 0) return;
  APO_CHECK(DataError, H5Dread(handle_.id(), memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, out) >= 0, where(),
            ": cannot read ", describe(), ": ", reason());
}

std::vector<float> Array::floats() const {
  if (guard_) return elsewhere<&Array::floats>();
  Session session;
  if (is_enumeration_) {
    const std::vector<int64_t> codes = integers();
    return {codes.begin(), codes.end()};
  }
  const int64_t n = count();
  check_size(n * 4);
  std::vector<float> values(static_cast<size_t>(n));
  read_all(H5T_NATIVE_FLOAT, values.data(), n);
  return values;
}

std::vector<int64_t> Array::integers() const {
  if (guard_) return elsewhere<&Array::integers>();
  Session session;
  const int64_t n = count();
  check_size(n * 8);
  std::vector<int64_t> values(static_cast<size_t>(n));
  if (is_enumeration_) {  // h5py's bool, and what else counts its values
    const Handle type(H5Dget_type(handle_.id())), base(H5Tget_super(type.id()));
    APO_CHECK(DataError, element_bytes_ <= 8, where(), ": expected integers, found ", describe());
    read_all(type.id(), values.data(), n);
    APO_CHECK(
        DataError,
        H5Tconvert(base.id(), H5T_NATIVE_INT64, values.size(), values.data(), nullptr, H5P_DEFAULT) >= 0,
        where(), ": cannot read ", describe(), ": ", reason());
    return values;
  }
  read_all(H5T_NATIVE_INT64, values.data(), n);
  return values;
}

// In the reading process: row (or all, if it is negative) and size.
void Array::answer_bytes(Unpacker& in, Packer& out) {
  const Array& array = Elsewhere::find(in, static_cast<const Array*>(nullptr));
  const auto row = in.take<int64_t>();
  const std::span<uint8_t> bytes = out.room(in.take<uint64_t>());
  row < 0 ? array.read_bytes(bytes) : array.read_row(row, bytes);
}

void Array::ask_bytes(int64_t row, std::span<uint8_t> bytes) const {
  Packer arguments = Elsewhere::begin(*this);
  arguments.put(row);
  arguments.put<uint64_t>(bytes.size());
  guard_->run(answer_bytes, arguments, where(), bytes);
}

void Array::read_row(int64_t row, std::span<uint8_t> bytes) const {
  if (guard_) return ask_bytes(row, bytes);
  Session session;
  APO_ASSERT(row >= 0 && count_of_row(row) == static_cast<int64_t>(bytes.size()));
  read_selected(row, H5T_NATIVE_UINT8, bytes.data());
}

void Array::read_selected(int64_t row, int64_t memory_type, void* out) const {
  if (row < 0) return read_all(memory_type, out, 1);
  std::vector<hsize_t> start(shape_.size(), 0), size(shape_.begin(), shape_.end());
  start[0] = static_cast<hsize_t>(row);
  size[0] = 1;
  Handle space(H5Dget_space(handle_.id()));
  // of the same rank as the file's: HDF5 then copies whole rows instead of mapping element by element
  Handle memory(H5Screate_simple(static_cast<int>(size.size()), size.data(), nullptr));
  APO_CHECK(
      DataError,
      H5Sselect_hyperslab(space.id(), H5S_SELECT_SET, start.data(), nullptr, size.data(), nullptr) >= 0 &&
          H5Dread(handle_.id(), memory_type, memory.id(), space.id(), H5P_DEFAULT, out) >= 0,
      where(), ": cannot read row ", row, " of ", describe(), ": ", reason());
}

void Array::read_bytes(std::span<uint8_t> bytes) const {
  if (guard_) return ask_bytes(-1, bytes);
  Session session;
  APO_ASSERT(static_cast<int64_t>(bytes.size()) == count());
  check_size(count());
  read_all(H5T_NATIVE_UINT8, bytes.data(), count());
}

std::string Array::text() const {
  if (guard_) return as_utf8(elsewhere<&Array::text>(), where());
  Session session;
  APO_CHECK(DataError, kind_ == Kind::text && count() == 1, where(), ": expected one text, found ",
            describe());
  Handle type(H5Dget_type(handle_.id()));
  const auto text = read_text(type.id(), [&](hid_t memory, void* out) {
    return H5Dread(handle_.id(), memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, out);
  });
  APO_CHECK(DataError, text.has_value(), where(), ": cannot read the text: ", reason());
  return as_utf8(*text, where());
}

}  // namespace apo::data::hdf5
