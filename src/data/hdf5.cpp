#include "data/hdf5.h"

#include <hdf5.h>

#include <algorithm>

#include "apo/base/error.h"
#include "apo/base/text.h"
#include "data/elsewhere.h"
#include "data/hdf5_driver.h"
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
herr_t refuse_external(const char*, const char*, const char*, const char*, unsigned*, hid_t, void*) {
  return -1;
}

Handle access_list(hid_t kind) {
  Handle list(H5Pcreate(kind));
  H5Pset_elink_cb(list.id(), refuse_external, nullptr);
  return list;
}

int iterate_names(hid_t, const char* name, const H5L_info_t*, void* out) {
  static_cast<std::vector<std::string>*>(out)->emplace_back(name);
  return 0;
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
  // At the program's end HDF5 would complain of its own leaks, which damaged files cause; all of ours is
  // closed by then.
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

// ---- Group, reading ----

Group::Group(Handle handle, std::string file, std::string path)
    : handle_(std::move(handle)), file_(std::move(file)), path_(std::move(path)) {}

Group::Group(std::shared_ptr<const GuardedFile> guard, std::string path)
    : guard_(std::move(guard)), file_(guard_->file()), path_(std::move(path)) {}

std::string Group::path_of(const std::string& name) const {
  return name.empty() ? path_ : path_ + "/" + name;
}

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
  APO_CHECK(DataError,
            H5Literate(handle_.id(), H5_INDEX_NAME, H5_ITER_NATIVE, nullptr, iterate_names, &names) >= 0,
            where(), ": cannot list: ", reason());
  std::sort(names.begin(), names.end(), natural_less);
  return names;
}

void Group::check_link(const std::string& name) const {
  H5L_info_t info;
  APO_CHECK(DataError,
            H5Lexists(handle_.id(), name.c_str(), H5P_DEFAULT) > 0 &&
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
std::pair<Handle, Handle> open_attribute(hid_t object, const std::string& name, Kind kind,
                                         const std::string& at, const char* what) {
  Handle attribute(H5Aopen(object, name.c_str(), H5P_DEFAULT));
  APO_CHECK(DataError, attribute.id() >= 0, at, ": cannot open: ", reason());
  Handle type(H5Aget_type(attribute.id()));
  APO_CHECK(DataError, is_plausible_number(type.id()), at, ": damaged: a type of impossible numbers");
  const Handle space(H5Aget_space(attribute.id()));
  APO_CHECK(DataError, kind_of(type.id()) == kind && H5Sget_simple_extent_npoints(space.id()) == 1, at,
            ": expected one ", what);
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
  const auto text = read_text(
      type.id(), [id = attribute.id()](hid_t memory, void* out) { return H5Aread(id, memory, out); });
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
  APO_CHECK(DataError, H5Aread(attribute.id(), H5T_NATIVE_INT64, &value) >= 0, at,
            ": cannot read: ", reason());
  return value;
}

}  // namespace apo::data::hdf5
