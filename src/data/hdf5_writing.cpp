// Writing through the wrapper: groups, arrays, attributes and links.
#include <hdf5.h>

#include <algorithm>

#include "apo/base/error.h"
#include "apo/base/text.h"
#include "data/hdf5.h"

namespace apo::data::hdf5 {

Group Group::create(const std::filesystem::path& path) {
  Session session;
  Handle file(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT));
  APO_CHECK(RunError, file.id() >= 0, path.string(), ": cannot create: ", reason());
  Handle root(H5Gopen2(file.id(), "/", H5P_DEFAULT));
  APO_CHECK(RunError, root.id() >= 0, path.string(), ": cannot create: ", reason());
  return Group(std::move(root), path.string(), "");
}

Group Group::open_for_writing(const std::filesystem::path& path) {
  Session session;
  Handle file(H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT));
  APO_CHECK(RunError, file.id() >= 0, path.string(), ": cannot open for writing: ", reason());
  Handle root(H5Gopen2(file.id(), "/", H5P_DEFAULT));
  APO_CHECK(RunError, root.id() >= 0, path.string(), ": cannot open for writing: ", reason());
  return Group(std::move(root), path.string(), "");
}

Group Group::create_group_for_long_attributes(const std::string& name) {
  Session session;
  const Handle file(H5Iget_file_id(handle_.id()));
  H5Fset_libver_bounds(file.id(), H5F_LIBVER_V18, H5F_LIBVER_LATEST);
  Group made = create_group(name);
  H5Fset_libver_bounds(file.id(), H5F_LIBVER_EARLIEST, H5F_LIBVER_LATEST);
  return made;
}

Group Group::create_group(const std::string& name) {
  Session session;
  Handle handle(H5Gcreate2(handle_.id(), name.c_str(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
  APO_CHECK(RunError, handle.id() >= 0, where(name), ": cannot create the group: ", reason());
  return Group(std::move(handle), file_, path_of(name));
}

Handle Group::create_array(const std::string& name, int64_t file_type, const std::vector<int64_t>& shape,
                           bool row_chunks, int gzip) {
  std::vector<hsize_t> sizes(shape.begin(), shape.end());
  Handle space(sizes.empty() ? H5Screate(H5S_SCALAR)
                             : H5Screate_simple(static_cast<int>(sizes.size()), sizes.data(), nullptr));
  Handle creation(H5Pcreate(H5P_DATASET_CREATE));
  H5Pset_obj_track_times(creation.id(), false);  // equal data give equal files
  if (row_chunks && std::find(sizes.begin(), sizes.end(), 0) == sizes.end()) {
    sizes[0] = 1;
    H5Pset_chunk(creation.id(), static_cast<int>(sizes.size()), sizes.data());
    H5Pset_fill_time(creation.id(), H5D_FILL_TIME_NEVER);
    if (gzip > 0) H5Pset_deflate(creation.id(), static_cast<unsigned>(gzip));
  }
  Handle array(
      H5Dcreate2(handle_.id(), name.c_str(), file_type, space.id(), H5P_DEFAULT, creation.id(), H5P_DEFAULT));
  APO_CHECK(RunError, array.id() >= 0, where(name), ": cannot create the dataset: ", reason());
  return array;
}

void Group::write_any(const std::string& name, int64_t file_type, int64_t memory_type, const void* values,
                      size_t count, const std::vector<int64_t>& shape, bool row_chunks, int gzip) {
  Session session;
  size_t need = 1;
  for (const int64_t size : shape) need *= static_cast<size_t>(size);
  APO_ASSERT(need == count);
  const Handle array = create_array(name, file_type, shape, row_chunks, gzip);
  if (need == 0) return;
  APO_CHECK(RunError, H5Dwrite(array.id(), memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0,
            where(name), ": cannot write: ", reason());
}

RowWriter Group::make_rows(const std::string& name, const std::vector<int64_t>& shape) {
  Session session;
  return RowWriter(create_array(name, H5T_STD_U8LE, shape, true, 0), where(name), shape);
}

RowWriter::RowWriter(Handle array, std::string where, const std::vector<int64_t>& shape)
    : array_(std::move(array)), where_(std::move(where)), shape_(shape) {}

void RowWriter::append(std::span<const uint8_t> row) {
  Session session;
  std::vector<hsize_t> first(shape_.size(), 0), one(shape_.begin(), shape_.end());
  APO_ASSERT(next_ < shape_[0]);
  first[0] = static_cast<hsize_t>(next_++);
  one[0] = 1;
  size_t need = 1;
  for (const hsize_t size : one) need *= size;
  APO_ASSERT(need == row.size());
  const Handle there(H5Dget_space(array_.id()));
  const Handle here(H5Screate_simple(static_cast<int>(one.size()), one.data(), nullptr));
  APO_CHECK(
      RunError,
      H5Sselect_hyperslab(there.id(), H5S_SELECT_SET, first.data(), nullptr, one.data(), nullptr) >= 0 &&
          H5Dwrite(array_.id(), H5T_NATIVE_UINT8, here.id(), there.id(), H5P_DEFAULT, row.data()) >= 0,
      where_, " row ", first[0], ": cannot write: ", reason());
}

void Group::write(const std::string& name, std::span<const float> values, const std::vector<int64_t>& shape) {
  write_any(name, H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, values.data(), values.size(), shape, false, 0);
}

void Group::write(const std::string& name, std::span<const double> values,
                  const std::vector<int64_t>& shape) {
  write_any(name, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, values.data(), values.size(), shape, false, 0);
}

void Group::write(const std::string& name, std::span<const int8_t> values,
                  const std::vector<int64_t>& shape) {
  write_any(name, H5T_STD_I8LE, H5T_NATIVE_INT8, values.data(), values.size(), shape, false, 0);
}

void Group::write(const std::string& name, std::span<const int64_t> values,
                  const std::vector<int64_t>& shape) {
  write_any(name, H5T_STD_I64LE, H5T_NATIVE_INT64, values.data(), values.size(), shape, false, 0);
}

void Group::write(const std::string& name, std::span<const uint8_t> values, const std::vector<int64_t>& shape,
                  bool row_chunks, int gzip) {
  write_any(name, H5T_STD_U8LE, H5T_NATIVE_UINT8, values.data(), values.size(), shape, row_chunks, gzip);
}

void Group::make_unwritten(const std::string& name, const std::vector<int64_t>& shape, bool bytes) {
  Session session;
  const std::vector<hsize_t> sizes(shape.begin(), shape.end());
  const Handle space(H5Screate_simple(static_cast<int>(sizes.size()), sizes.data(), nullptr));
  const Handle array(H5Dcreate2(handle_.id(), name.c_str(), bytes ? H5T_STD_U8LE : H5T_IEEE_F32LE, space.id(),
                                H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
  APO_CHECK(RunError, array.id() >= 0, where(name), ": cannot create the dataset: ", reason());
}

namespace {

// Of fixed length: what HDF5 1.10 does with texts of variable length does not hold against damaged files.
Handle text_type(size_t length) {
  Handle type(H5Tcopy(H5T_C_S1));
  H5Tset_size(type.id(), std::max<size_t>(1, length));
  H5Tset_strpad(type.id(), H5T_STR_NULLPAD);
  H5Tset_cset(type.id(), H5T_CSET_UTF8);
  return type;
}

}  // namespace

void Group::write_text(const std::string& name, const std::string& text) {
  Session session;
  const Handle type = text_type(text.size());
  write_any(name, type.id(), type.id(), text.c_str(), 1, {}, false, 0);
}

void Group::write_texts(const std::string& name, const std::vector<std::string>& texts) {
  Session session;
  size_t length = 1;
  for (const std::string& text : texts) length = std::max(length, text.size());
  std::string bytes(length * texts.size(), '\0');
  for (size_t i = 0; i < texts.size(); ++i) texts[i].copy(&bytes[i * length], length);
  const Handle type = text_type(length);
  write_any(name, type.id(), type.id(), bytes.data(), texts.size(), {static_cast<int64_t>(texts.size())},
            false, 0);
}

void Group::set_any(const std::string& name, int64_t type, const void* value) {
  if (H5Aexists(handle_.id(), name.c_str()) > 0) H5Adelete(handle_.id(), name.c_str());
  Handle space(H5Screate(H5S_SCALAR));
  Handle attribute(H5Acreate2(handle_.id(), name.c_str(), type, space.id(), H5P_DEFAULT, H5P_DEFAULT));
  APO_CHECK(RunError, attribute.id() >= 0 && H5Awrite(attribute.id(), type, value) >= 0, where(),
            " attribute ", name, ": cannot write: ", reason());
}

void Group::set_attribute(const std::string& name, const std::string& text) {
  APO_CHECK(DataError, text.size() < 60000, where(), " attribute ", name,
            ": expected at most 60000 bytes, found ", text.size());
  set_long_attribute(name, text);
}

void Group::set_long_attribute(const std::string& name, const std::string& text) {
  Session session;
  APO_CHECK(DataError, is_utf8(text), where(), " attribute ", name,
            ": expected UTF-8 text, found other bytes");
  const Handle type = text_type(text.size());
  set_any(name, type.id(), text.c_str());
}

void Group::set_attribute(const std::string& name, int64_t value) {
  Session session;
  set_any(name, H5T_NATIVE_INT64, &value);
}

void Group::link_soft(const std::string& name, const std::string& target) {
  Session session;
  APO_CHECK(RunError,
            H5Lcreate_soft(target.c_str(), handle_.id(), name.c_str(), H5P_DEFAULT, H5P_DEFAULT) >= 0,
            where(name), ": cannot link: ", reason());
}

void Group::link_external(const std::string& name, const std::string& file, const std::string& target) {
  Session session;
  APO_CHECK(RunError,
            H5Lcreate_external(file.c_str(), target.c_str(), handle_.id(), name.c_str(), H5P_DEFAULT,
                               H5P_DEFAULT) >= 0,
            where(name), ": cannot link: ", reason());
}

void Group::remove(const std::string& name) {
  Session session;
  APO_CHECK(RunError, H5Ldelete(handle_.id(), name.c_str(), H5P_DEFAULT) >= 0, where(name),
            ": cannot remove: ", reason());
}

void Group::flush() {
  Session session;
  APO_CHECK(RunError, H5Fflush(handle_.id(), H5F_SCOPE_LOCAL) >= 0, file_, ": cannot write: ", reason());
}

void Group::remove_attribute(const std::string& name) {
  Session session;
  APO_CHECK(RunError, H5Adelete(handle_.id(), name.c_str()) >= 0, where(), " attribute ", name,
            ": cannot remove: ", reason());
}

}  // namespace apo::data::hdf5
