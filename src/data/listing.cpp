#include "data/listing.h"

#include <hdf5.h>

#include <algorithm>

#include "apo/base/error.h"
#include "data/elsewhere.h"

namespace apo::data::hdf5 {
namespace {

constexpr size_t kLargeGroup = 256;            // entries
constexpr size_t kLongText = size_t{1} << 12;  // bytes

// The value, or nothing where there is none of this kind: whoever needs it asks again and is told why.
template <class Read>
auto tried(Read read) -> decltype(read()) {
  try {
    return read();
  } catch (const DataError&) {
    return std::nullopt;
  }
}

bool is_short_text(const Handle& attribute) {
  const Handle type(H5Aget_type(attribute.id()));
  return H5Tis_variable_str(type.id()) == 0 && H5Tget_size(type.id()) <= kLongText;
}

template <class Named>
const Named* find(const std::vector<Named>& all, const std::string& name) {
  const auto found = std::find_if(all.begin(), all.end(), [&name](const Named& n) { return n.name == name; });
  return found == all.end() ? nullptr : &*found;
}

}  // namespace

void Listing::Entry::pack(Packer& out) const {
  out.put(name);
  out.put(what);
  if (what == What::array) out.put(array);
}

Listing::Entry Listing::Entry::unpack(Unpacker& in) {
  Entry entry;
  entry.name = in.take<std::string>();
  entry.what = in.take<What>();
  if (entry.what == What::array) entry.array = in.take<decltype(array)>();
  return entry;
}

void Listing::Attribute::pack(Packer& out) const {
  out.put(name);
  out.put(kind);
  out.put(text);
  out.put(integer);
  out.put(number);
}

Listing::Attribute Listing::Attribute::unpack(Unpacker& in) {
  Attribute attribute;
  attribute.name = in.take<std::string>();
  attribute.kind = in.take<Kind>();
  attribute.text = in.take<std::optional<std::string>>();
  attribute.integer = in.take<std::optional<int64_t>>();
  attribute.number = in.take<std::optional<double>>();
  return attribute;
}

void Listing::pack(Packer& out) const {
  out.put(is_large);
  out.put(entries);
  out.put(attributes);
}

Listing Listing::unpack(Unpacker& in) {
  Listing listing;
  listing.is_large = in.take<bool>();
  listing.entries = in.take<std::vector<Entry>>();
  listing.attributes = in.take<std::vector<Attribute>>();
  return listing;
}

const Listing::Entry* Listing::entry(const std::string& name) const { return find(entries, name); }
const Listing::Attribute* Listing::attribute(const std::string& name) const { return find(attributes, name); }

std::vector<std::string> Group::attribute_names() const {
  if (guard_) {
    std::vector<std::string> names;
    for (const Listing::Attribute& attribute : listing().attributes) names.push_back(attribute.name);
    return names;
  }
  Session session;
  std::vector<std::string> names;
  H5Aiterate2(
      handle_.id(), H5_INDEX_NAME, H5_ITER_INC, nullptr,
      [](hid_t, const char* name, const H5A_info_t*, void* out) -> herr_t {
        static_cast<std::vector<std::string>*>(out)->emplace_back(name);
        return 0;
      },
      &names);
  return names;
}

std::vector<std::pair<std::string, std::string>> Group::attributes() const {
  if (guard_) {
    auto attributes = elsewhere<&Group::attributes>();
    for (auto& [name, text] : attributes) text = as_utf8(text, where() + " attribute " + name);
    return attributes;
  }
  Session session;
  std::vector<std::pair<std::string, std::string>> result;
  for (const std::string& name : attribute_names()) {
    Handle attribute(H5Aopen(handle_.id(), name.c_str(), H5P_DEFAULT));
    Handle type(H5Aget_type(attribute.id()));
    Handle space(H5Aget_space(attribute.id()));
    if (H5Sget_simple_extent_npoints(space.id()) != 1) continue;
    double number = 0;
    const Kind kind = kind_of(type.id());
    if (kind == Kind::text) {
      result.emplace_back(name, *text_attribute(name));
    } else if (kind == Kind::integer) {
      result.emplace_back(name, concat(*integer_attribute(name)));
    } else if (kind == Kind::floating && H5Aread(attribute.id(), H5T_NATIVE_DOUBLE, &number) >= 0) {
      result.emplace_back(name, concat(number));
    }
  }
  return result;
}

// In the reading process.
Listing Group::make_listing() const {
  Listing listing;
  const std::vector<std::string> all = names();
  listing.is_large = all.size() > kLargeGroup;
  for (size_t i = 0; i < all.size() && !listing.is_large; ++i) {
    Listing::Entry& entry = listing.entries.emplace_back();
    entry.name = all[i];
    try {
      const bool group = is_group(entry.name);
      if (!group) entry.array = describe_array(entry.name);
      entry.what = group ? Listing::What::group : Listing::What::array;
    } catch (const DataError&) {  // told when it is asked for
    }
  }
  for (const std::string& name : attribute_names()) {
    Listing::Attribute& attribute = listing.attributes.emplace_back();
    attribute.name = name;
    const auto kind = tried([&] { return attribute_kind(name); });
    attribute.kind = kind.value_or(Kind::other);
    const Handle handle(H5Aopen(handle_.id(), name.c_str(), H5P_DEFAULT));
    if (kind == Kind::text && handle.id() >= 0 && is_short_text(handle))
      attribute.text = tried([&] { return text_attribute(name); });
    if (kind == Kind::integer) attribute.integer = tried([&] { return integer_attribute(name); });
    if (kind == Kind::integer || kind == Kind::floating)
      attribute.number = tried([&] { return number_attribute(name); });
  }
  return listing;
}

// A name of this group, no path, of a group whose entries are at hand.
bool Group::is_listed(const std::string& name) const {
  return name.find('/') == name.npos && name != "." && !listing().is_large;
}

const Listing& Group::listing() const {
  Session session;
  if (!listing_) listing_ = std::make_shared<const Listing>(elsewhere<&Group::make_listing>());
  return *listing_;
}

}  // namespace apo::data::hdf5
