// What a group holds, brought from the reading process at once: a call there costs more than most answers.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "data/hdf5.h"
#include "data/reading_process.h"

namespace apo::data::hdf5 {

struct Listing {
  enum class What : int64_t { unknown, group, array };
  struct Entry {
    std::string name;
    What what = What::unknown;  // also what cannot be opened, and all of a large group
    std::pair<std::vector<int64_t>, std::string> array = {};  // as Array describes itself
    void pack(Packer& out) const;
    static Entry unpack(Unpacker& in);
  };
  struct Attribute {
    std::string name;
    Kind kind = Kind::other;
    std::optional<std::string> text = {};  // if it is of fixed length and short
    std::optional<int64_t> integer = {};
    std::optional<double> number = {};
    void pack(Packer& out) const;
    static Attribute unpack(Unpacker& in);
  };
  bool is_large = false;              // then the entries are not here
  std::vector<Entry> entries;         // in natural order
  std::vector<Attribute> attributes;  // as attribute_names
  void pack(Packer& out) const;
  static Listing unpack(Unpacker& in);

  const Entry* entry(const std::string& name) const;
  const Attribute* attribute(const std::string& name) const;
};

}  // namespace apo::data::hdf5
