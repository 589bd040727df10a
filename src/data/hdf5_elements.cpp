// Elements that are no plain numbers: pictures as bytes, texts, what was made and never filled, attributes of
// any type.
#include <hdf5.h>

#include <algorithm>
#include <set>

#include "apo/base/error.h"
#include "apo/base/log.h"
#include "apo/base/text.h"
#include "data/elsewhere.h"
#include "data/listing.h"

namespace apo::data::hdf5 {
namespace {

constexpr size_t kLongestElement = size_t{1} << 28;  // bytes
constexpr int64_t kMostTexts = int64_t{1} << 20;
constexpr size_t kShortestPicture = 64;  // a text of fixed length below that is none

// Frees what the library made for variable-length elements.
class Reclaim {
 public:
  Reclaim(hid_t type, hid_t space, void* elements) : type_(type), space_(space), elements_(elements) {}
  ~Reclaim() { H5Dvlen_reclaim(type_, space_, H5P_DEFAULT, elements_); }
  Reclaim(const Reclaim&) = delete;
  Reclaim& operator=(const Reclaim&) = delete;

 private:
  hid_t type_, space_;
  void* elements_;
};

bool is_complex(hid_t type) {
  if (H5Tget_nmembers(type) != 2) return false;
  for (unsigned i = 0; i < 2; ++i) {
    const Handle member(H5Tget_member_type(type, i));
    if (H5Tget_class(member.id()) != H5T_FLOAT) return false;
  }
  return true;
}

}  // namespace

std::string as_utf8(std::string text, const std::string& where) {
  if (is_utf8(text) || answers_another_process()) return text;  // whoever has a voice does it
  const bool latin1 =
      std::none_of(text.begin(), text.end(), [](unsigned char c) { return c >= 0x80 && c < 0xa0; });
  APO_CHECK(DataError, latin1, where, ": expected UTF-8 text, found other bytes");
  std::string result;
  for (const unsigned char c : text) {
    if (c >= 0x80) result += static_cast<char>(0xc0 | (c >> 6));
    result += static_cast<char>(c >= 0x80 ? 0x80 | (c & 0x3f) : c);
  }
  static std::set<std::string> told;  // files; guarded by the library's lock
  if (told.insert(where.substr(0, where.find(": "))).second) log_warn(where, ": not UTF-8, taken as Latin-1");
  return result;
}

bool is_plausible_number(int64_t type) {
  const H5T_class_t kind = H5Tget_class(type);
  if (kind == H5T_ENUM) return is_plausible_number(Handle(H5Tget_super(type)).id());
  if (kind != H5T_INTEGER && kind != H5T_FLOAT) return true;
  const int offset = H5Tget_offset(type);
  const size_t bits = 8 * H5Tget_size(type), precision = H5Tget_precision(type);
  return offset >= 0 && precision > 0 && precision <= bits && static_cast<size_t>(offset) <= bits - precision;
}

std::string describe_other(int64_t type) {
  const size_t bits = 8 * H5Tget_size(type);
  switch (H5Tget_class(type)) {
    case H5T_COMPOUND:
      return is_complex(type) ? concat("complex", bits) : "a compound type";
    case H5T_OPAQUE:
      return concat("opaque bytes of ", bits / 8);
    case H5T_REFERENCE:
      return "references";
    case H5T_ARRAY:
      return "an array type";
    case H5T_VLEN: {
      const Handle element(H5Tget_super(type));
      return H5Tget_class(element.id()) == H5T_INTEGER && H5Tget_size(element.id()) == 1
                 ? "variable-length uint8"
                 : "variable-length numbers";
    }
    default:
      return "an unknown type";
  }
}

bool holds_bytes(int64_t type) {
  switch (H5Tget_class(type)) {
    case H5T_OPAQUE:
      return true;
    case H5T_STRING:
      return H5Tis_variable_str(type) == 0 && H5Tget_size(type) >= kShortestPicture;
    case H5T_VLEN: {
      const Handle element(H5Tget_super(type));
      return H5Tget_class(element.id()) == H5T_INTEGER && H5Tget_size(element.id()) == 1;
    }
    default:
      return false;
  }
}

std::string Array::describe() const {
  std::string text;
  switch (kind_) {
    case Kind::integer:
      text = !is_enumeration_      ? concat(is_signed_ ? "int" : "uint", element_bytes_ * 8)
             : element_bytes_ == 1 ? "bool"
                                   : "enumeration";
      break;
    case Kind::floating:
      text = concat("float", element_bytes_ * 8);
      break;
    case Kind::text:
      text = "text";
      break;
    case Kind::other:
      text = other_;
      break;
  }
  text += " [";
  for (size_t i = 0; i < shape_.size(); ++i) text += concat(i ? ", " : "", shape_[i]);
  return text + "]";
}

int64_t Array::count_of_row(int64_t row) const {
  if (row < 0) return count();
  APO_ASSERT(!shape_.empty() && row < shape_[0]);
  return count() / shape_[0];
}

// What a damaged shape asks for is not made room for.
size_t Array::room_of_row(int64_t row, size_t element_bytes) const {
  const auto n = static_cast<size_t>(count_of_row(row));
  APO_CHECK(DataError, n <= kLongestElement / element_bytes, where(),
            ": too large to be read at once: ", describe());
  return n;
}

bool Array::is_written() const {
  if (guard_) return is_written_;
  Session session;
  return H5Dget_storage_size(handle_.id()) > 0;
}

float Array::fill() const {
  if (guard_) return elsewhere<&Array::fill>();
  Session session;
  const Handle creation(H5Dget_create_plist(handle_.id()));
  float value = 0;
  if (H5Pget_fill_value(creation.id(), H5T_NATIVE_FLOAT, &value) < 0) return 0;  // of an enumeration
  return value;
}

std::vector<float> Array::row_floats(int64_t row) const {
  if (guard_) return elsewhere<&Array::row_floats>(row);
  Session session;
  std::vector<float> values(room_of_row(row, sizeof(float)));
  read_selected(row, H5T_NATIVE_FLOAT, values.data());
  return values;
}

std::vector<uint8_t> Array::row_bytes(int64_t row) const {
  if (guard_) return elsewhere<&Array::row_bytes>(row);
  Session session;
  check_filters();
  if (is_byte()) {
    std::vector<uint8_t> bytes(room_of_row(row, 1));
    read_selected(row, H5T_NATIVE_UINT8, bytes.data());
    return bytes;
  }
  const std::string at = row < 0 ? where() : concat(where(), " row ", row);
  APO_CHECK(DataError, holds_bytes_ && count_of_row(row) == 1, at, ": expected bytes, found ", describe());
  const Handle type(H5Dget_type(handle_.id()));
  if (H5Tget_class(type.id()) != H5T_VLEN) {
    std::vector<uint8_t> bytes(H5Tget_size(type.id()));
    APO_CHECK(DataError, bytes.size() <= kLongestElement, at,
              ": too large to be read at once: ", bytes.size(), " bytes");
    read_selected(row, type.id(), bytes.data());
    return bytes;
  }
  const Handle memory(H5Tvlen_create(H5T_NATIVE_UINT8)), one(H5Screate(H5S_SCALAR));
  hvl_t element = {};
  const Reclaim reclaim(memory.id(), one.id(), &element);
  read_selected(row, memory.id(), &element);
  APO_CHECK(DataError, element.len <= kLongestElement, at, ": too large to be read at once: ", element.len,
            " bytes");
  const auto* begin = static_cast<const uint8_t*>(element.p);
  return {begin, begin + element.len};
}

std::vector<std::string> Array::texts() const {
  if (guard_) {
    auto texts = elsewhere<&Array::texts>();
    for (std::string& text : texts) text = as_utf8(text, where());
    return texts;
  }
  Session session;
  check_filters();
  APO_CHECK(DataError, kind_ == Kind::text && count() <= kMostTexts, where(), ": expected texts, found ",
            describe());
  const auto n = static_cast<size_t>(count());
  const Handle type(H5Dget_type(handle_.id())), space(H5Dget_space(handle_.id()));
  std::vector<std::string> texts;
  if (H5Tis_variable_str(type.id()) > 0) {
    const Handle memory(H5Tcopy(type.id()));
    std::vector<char*> elements(n, nullptr);
    const Reclaim reclaim(memory.id(), space.id(), elements.data());
    read_all(memory.id(), elements.data(), static_cast<int64_t>(n));
    for (const char* text : elements) texts.push_back(as_utf8(text ? text : "", where()));
    return texts;
  }
  const size_t size = H5Tget_size(type.id());
  APO_CHECK(DataError, n == 0 || size <= kLongestElement / n, where(),
            ": too large to be read at once: ", describe());
  std::string bytes(size * n, '\0');
  read_all(type.id(), bytes.data(), static_cast<int64_t>(bytes.size()));
  for (size_t i = 0; i < n; ++i) {
    std::string text = bytes.substr(i * size, size);
    text.resize(H5Tget_strpad(type.id()) == H5T_STR_SPACEPAD ? text.find_last_not_of(' ') + 1
                                                             : std::min(text.find('\0'), size));
    texts.push_back(as_utf8(std::move(text), where()));
  }
  return texts;
}

std::optional<Kind> Group::attribute_kind(const std::string& name) const {
  if (guard_) {
    const Listing::Attribute* listed = listing().attribute(name);
    return listed ? std::optional(listed->kind) : std::nullopt;
  }
  Session session;
  if (H5Aexists(handle_.id(), name.c_str()) <= 0) return std::nullopt;
  const Handle attribute(H5Aopen(handle_.id(), name.c_str(), H5P_DEFAULT));
  APO_CHECK(DataError, attribute.id() >= 0, where(), " attribute ", name, ": cannot open: ", reason());
  const Handle type(H5Aget_type(attribute.id())), space(H5Aget_space(attribute.id()));
  return H5Sget_simple_extent_npoints(space.id()) == 1 ? kind_of(type.id()) : Kind::other;
}

std::optional<double> Group::number_attribute(const std::string& name) const {
  if (guard_) {
    const Listing::Attribute* listed = listing().attribute(name);
    if (!listed || listed->number) return listed ? listed->number : std::nullopt;
    return elsewhere<&Group::number_attribute>(name);
  }
  const auto kind = attribute_kind(name);
  if (!kind) return std::nullopt;
  if (kind == Kind::integer) return static_cast<double>(*integer_attribute(name));
  Session session;
  const std::string at = concat(where(), " attribute ", name);
  APO_CHECK(DataError, kind == Kind::floating, at, ": expected one number");
  const Handle attribute(H5Aopen(handle_.id(), name.c_str(), H5P_DEFAULT));
  double value = 0;
  APO_CHECK(DataError, H5Aread(attribute.id(), H5T_NATIVE_DOUBLE, &value) >= 0, at,
            ": cannot read: ", reason());
  return value;
}

}  // namespace apo::data::hdf5
