#include "data/hdf5.h"

#include <hdf5.h>

#include <algorithm>

#include "apo/base/error.h"
#include "apo/base/text.h"
#include "data/elsewhere.h"
#include "data/listing.h"

namespace apo::data::hdf5 {
namespace {

namespace fs = std::filesystem;
static_assert(sizeof(hid_t) == sizeof(int64_t));

std::recursive_mutex& library_mutex() {
  static std::recursive_mutex mutex;
  return mutex;
}

// Refuses to walk through an external link anywhere on a path.
herr_t refuse_external(const char*, const char*, const char*, const char*, unsigned*, hid_t, void*) { return -1; }

Handle access_list(hid_t kind) {
  Handle list(H5Pcreate(kind));
  H5Pset_elink_cb(list.id(), refuse_external, nullptr);
  return list;
}

int iterate_names(hid_t, const char* name, const H5L_info_t*, void* out) {
  static_cast<std::vector<std::string>*>(out)->emplace_back(name);
  return 0;
}

// Reads one text through `read(memory type, buffer)`; `type` is how it is stored.
template <class Read>
std::optional<std::string> read_text(hid_t type, Read read) {
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
  const size_t end = H5Tget_strpad(type) == H5T_STR_SPACEPAD ? result.find_last_not_of(' ') + 1 : result.find('\0');
  return result.substr(0, end);
}

}  // namespace

Kind kind_of(int64_t type) {
  switch (H5Tget_class(type)) {
    case H5T_INTEGER:
    case H5T_ENUM:
      return Kind::integer;
    case H5T_FLOAT:
      return Kind::floating;
    case H5T_STRING:
      return Kind::text;
    default:
      return Kind::other;
  }
}

// The innermost line of the library's error stack, which says what really happened.
std::string reason() {
  std::string text;
  H5Ewalk2(
      H5E_DEFAULT, H5E_WALK_UPWARD,
      [](unsigned n, const H5E_error2_t* error, void* out) -> herr_t {
        if (n == 0 && error->desc) *static_cast<std::string*>(out) = error->desc;
        return 0;
      },
      &text);
  // "file write failed: time = ..., error message = 'No space left on device', buf = ..."
  constexpr std::string_view kOfTheSystem = "error message = '";
  if (const size_t at = text.find(kOfTheSystem); at != std::string::npos) {
    text.erase(0, at + kOfTheSystem.size());
    text.erase(std::min(text.find('\''), text.size()));
  }
  return text.empty() ? "unknown reason" : text;
}

Session::Session() : lock_(library_mutex(), std::defer_lock) {
  if (!in_reading_process()) lock_.lock();
  // At the program's end HDF5 would complain of its own leaks, which damaged files cause; all of ours is closed by then.
  [[maybe_unused]] static const herr_t no_cleanup_at_exit = H5dont_atexit();
  H5E_auto2_t print = nullptr;
  H5Eget_auto2(H5E_DEFAULT, &print, &print_data_);
  print_ = reinterpret_cast<int (*)(int64_t, void*)>(print);
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
}

Session::~Session() { H5Eset_auto2(H5E_DEFAULT, reinterpret_cast<H5E_auto2_t>(print_), print_data_); }

Handle::~Handle() {
  if (id_ < 0) return;
  Session session;
  H5Idec_ref(id_);
}

// ---- Array ----

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
  } catch (const DataError&) {   // told when it is read
    filters_known = false;
  }
  std::vector<int64_t> numbers{static_cast<int64_t>(kind_), is_signed_,   is_enumeration_, holds_bytes_,
                               filters_known,               is_written(), element_bytes_};
  numbers.insert(numbers.end(), shape_.begin(), shape_.end());
  return {std::move(numbers), other_};
}

Array::Array(Handle handle, std::string file, std::string path)
    : handle_(std::move(handle)), file_(std::move(file)), path_(std::move(path)) {
  Handle type(H5Dget_type(handle_.id()));
  Handle space(H5Dget_space(handle_.id()));
  Handle creation(H5Dget_create_plist(handle_.id()));
  APO_CHECK(DataError, type.id() >= 0 && space.id() >= 0 && creation.id() >= 0, where(), ": cannot read: ", reason());
  APO_CHECK(DataError, H5Pget_external_count(creation.id()) <= 0 && H5Pget_layout(creation.id()) != H5D_VIRTUAL,
            where(), ": its data are in another file, which is not followed");
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
  APO_CHECK(DataError, kind_ == kind && shape_.size() == rank, where(), ": expected ", what, ", found ", describe());
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
    const H5Z_filter_t id = H5Pget_filter2(creation.id(), static_cast<unsigned>(i), &flags, &num_values, nullptr,
                                           sizeof(name) - 1, name, nullptr);
    const bool known = id >= 0 && H5Zfilter_avail(id) > 0;
    APO_CHECK(DataError, known, where(), ": is compressed with '", is_utf8(name) ? name : "?", "' (HDF5 filter ", id,
              "), which is not available here; rewrite the file with gzip, e.g. h5repack -f GZIP=4 IN OUT where that "
              "filter is installed");
  }
}

int64_t Array::count() const {
  int64_t n = 1;
  for (const int64_t size : shape_) {
    APO_CHECK(DataError, size == 0 || n <= (int64_t{1} << 40) / size, where(), ": its size is not plausible: ",
              describe());
    n *= size;
  }
  return n;
}

// A corrupt shape must not become a giant allocation: the file has to hold the data (deflate packs 1032:1 at most).
void Array::check_size(int64_t bytes) const {
  check_filters();
  const auto stored = static_cast<int64_t>(H5Dget_storage_size(handle_.id()));
  Handle creation(H5Dget_create_plist(handle_.id()));
  const bool filtered = H5Pget_nfilters(creation.id()) > 0;
  const int64_t need = count() * element_bytes_;
  const bool held = filtered ? need / 1032 <= stored + 1024 : need <= stored;
  APO_CHECK(DataError, held, where(), ": expected ", need, " bytes for ", describe(), ", the file holds ", stored,
            " (never written, or the shape is corrupt)");
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
  APO_CHECK(DataError, kind_ == Kind::text && count() == 1, where(), ": expected one text, found ", describe());
  Handle type(H5Dget_type(handle_.id()));
  const auto text = read_text(type.id(), [&](hid_t memory, void* out) {
    return H5Dread(handle_.id(), memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, out);
  });
  APO_CHECK(DataError, text.has_value(), where(), ": cannot read the text: ", reason());
  return as_utf8(*text, where());
}

// ---- Group, reading ----

Group::Group(Handle handle, std::string file, std::string path)
    : handle_(std::move(handle)), file_(std::move(file)), path_(std::move(path)) {}

Group::Group(std::shared_ptr<const GuardedFile> guard, std::string path)
    : guard_(std::move(guard)), file_(guard_->file()), path_(std::move(path)) {}

std::string Group::path_of(const std::string& name) const { return name.empty() ? path_ : path_ + "/" + name; }

std::string Group::where(const std::string& name) const {
  const std::string path = path_of(name);
  return file_ + ": " + (path.empty() ? "/" : path);
}

std::vector<std::string> Group::names() const {
  if (guard_) {
    const Listing& here = listing();
    if (here.is_large) return elsewhere<&Group::names>();
    std::vector<std::string> names;
    for (const Listing::Entry& entry : here.entries) names.push_back(entry.name);
    return names;
  }
  Session session;
  std::vector<std::string> names;
  APO_CHECK(DataError, H5Literate(handle_.id(), H5_INDEX_NAME, H5_ITER_NATIVE, nullptr, iterate_names, &names) >= 0,
            where(), ": cannot list: ", reason());
  std::sort(names.begin(), names.end(), natural_less);
  return names;
}

void Group::check_link(const std::string& name) const {
  H5L_info_t info;
  APO_CHECK(DataError, H5Lexists(handle_.id(), name.c_str(), H5P_DEFAULT) > 0 &&
                           H5Lget_info(handle_.id(), name.c_str(), &info, H5P_DEFAULT) >= 0,
            where(name), ": missing");
  APO_CHECK(DataError, info.type == H5L_TYPE_HARD || info.type == H5L_TYPE_SOFT, where(name),
            ": a link to another file, which is not followed");
}

bool Group::has(const std::string& name) const {
  if (guard_) return is_listed(name) ? listing().entry(name) != nullptr : elsewhere<&Group::has>(name);
  Session session;
  return H5Lexists(handle_.id(), name.c_str(), H5P_DEFAULT) > 0;
}

bool Group::is_group(const std::string& name) const {
  if (guard_) {
    const Listing::Entry* entry = is_listed(name) ? listing().entry(name) : nullptr;
    if (entry && entry->what != Listing::What::unknown) return entry->what == Listing::What::group;
    return elsewhere<&Group::is_group>(name);
  }
  Session session;
  if (!has(name)) return false;
  check_link(name);
  const Handle access = access_list(H5P_LINK_ACCESS);
  Handle object(H5Oopen(handle_.id(), name.c_str(), access.id()));
  APO_CHECK(DataError, object.id() >= 0, where(name), ": cannot open: ", reason());
  return H5Iget_type(object.id()) == H5I_GROUP;
}

bool Group::check_group(const std::string& name) const {
  if (guard_) {
    const Listing::Entry* entry = is_listed(name) ? listing().entry(name) : nullptr;
    return (entry && entry->what == Listing::What::group) || elsewhere<&Group::check_group>(name);
  }
  APO_CHECK(DataError, has(name), where(name), ": expected a group, found nothing");
  APO_CHECK(DataError, is_group(name), where(name), ": expected a group, found a dataset");
  return true;
}

Group Group::group(const std::string& name) const {
  Session session;
  check_group(name);
  if (guard_) return Group(guard_, path_of(name));
  const Handle access = access_list(H5P_GROUP_ACCESS);
  Handle handle(H5Gopen2(handle_.id(), name.c_str(), access.id()));
  APO_CHECK(DataError, handle.id() >= 0, where(name), ": cannot open: ", reason());
  return Group(std::move(handle), file_, path_of(name));
}

std::pair<std::vector<int64_t>, std::string> Group::describe_array(const std::string& name) const {
  return array(name).description();
}

Array Group::array(const std::string& name) const {
  if (guard_) {
    const Listing::Entry* entry = is_listed(name) ? listing().entry(name) : nullptr;
    const bool known = entry && entry->what == Listing::What::array;
    return Array(guard_, path_of(name), known ? entry->array : elsewhere<&Group::describe_array>(name));
  }
  Session session;
  APO_CHECK(DataError, has(name), where(name), ": expected a dataset, found nothing");
  APO_CHECK(DataError, !is_group(name), where(name), ": expected a dataset, found a group");
  const Handle access = access_list(H5P_DATASET_ACCESS);
  Handle handle(H5Dopen2(handle_.id(), name.c_str(), access.id()));
  APO_CHECK(DataError, handle.id() >= 0, where(name), ": cannot open: ", reason());
  return Array(std::move(handle), file_, path_of(name));
}

namespace {

// An attribute that holds one value of this kind, and its type.
std::pair<Handle, Handle> open_attribute(hid_t object, const std::string& name, Kind kind, const std::string& at,
                                         const char* what) {
  Handle attribute(H5Aopen(object, name.c_str(), H5P_DEFAULT));
  APO_CHECK(DataError, attribute.id() >= 0, at, ": cannot open: ", reason());
  Handle type(H5Aget_type(attribute.id()));
  APO_CHECK(DataError, is_plausible_number(type.id()), at, ": damaged: a type of impossible numbers");
  const Handle space(H5Aget_space(attribute.id()));
  APO_CHECK(DataError, kind_of(type.id()) == kind && H5Sget_simple_extent_npoints(space.id()) == 1, at, ": expected one ",
            what);
  return {std::move(attribute), std::move(type)};
}

}  // namespace

std::optional<std::string> Group::text_attribute(const std::string& name) const {
  if (guard_) {
    const Listing::Attribute* listed = listing().attribute(name);
    if (!listed) return std::nullopt;
    const auto text = listed->text ? listed->text : elsewhere<&Group::text_attribute>(name);
    return text ? std::optional(as_utf8(*text, where() + " attribute " + name)) : text;
  }
  Session session;
  if (H5Aexists(handle_.id(), name.c_str()) <= 0) return std::nullopt;
  const std::string at = where() + " attribute " + name;
  const auto [attribute, type] = open_attribute(handle_.id(), name, Kind::text, at, "text");
  const auto text =
      read_text(type.id(), [id = attribute.id()](hid_t memory, void* out) { return H5Aread(id, memory, out); });
  APO_CHECK(DataError, text.has_value(), at, ": cannot read the text: ", reason());
  return as_utf8(*text, at);
}

std::optional<int64_t> Group::integer_attribute(const std::string& name) const {
  if (guard_) {
    const Listing::Attribute* listed = listing().attribute(name);
    if (!listed || listed->integer) return listed ? listed->integer : std::nullopt;
    return elsewhere<&Group::integer_attribute>(name);
  }
  Session session;
  if (H5Aexists(handle_.id(), name.c_str()) <= 0) return std::nullopt;
  const std::string at = where() + " attribute " + name;
  const auto [attribute, type] = open_attribute(handle_.id(), name, Kind::integer, at, "integer");
  if (H5Tget_class(type.id()) == H5T_ENUM) {
    APO_CHECK(DataError, H5Tget_size(type.id()) == 1, at, ": expected one integer, found an enumeration");
    int8_t value = 0;
    APO_CHECK(DataError, H5Aread(attribute.id(), type.id(), &value) >= 0, at, ": cannot read: ", reason());
    return value;
  }
  int64_t value = 0;
  APO_CHECK(DataError, H5Aread(attribute.id(), H5T_NATIVE_INT64, &value) >= 0, at, ": cannot read: ", reason());
  return value;
}

}  // namespace apo::data::hdf5
