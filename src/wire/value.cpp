#include "wire/value.h"

#include <algorithm>
#include <array>
#include <limits>

#include "apo/base/error.h"
#include "apo/base/text.h"
#include "wire/numpy.h"

namespace apo::wire {
namespace {

constexpr size_t kLongestExcerpt = 60;
constexpr size_t kMostDimensions = 32;

struct Row {
  std::string_view descr;
  size_t size;
  bool floating;
};
// in the order of Dtype
constexpr std::array<Row, 12> kRows = {{{"|b1", 1, false},
                                        {"|i1", 1, false},
                                        {"|u1", 1, false},
                                        {"<i2", 2, false},
                                        {"<u2", 2, false},
                                        {"<i4", 4, false},
                                        {"<u4", 4, false},
                                        {"<i8", 8, false},
                                        {"<u8", 8, false},
                                        {"<f2", 2, true},
                                        {"<f4", 4, true},
                                        {"<f8", 8, true}}};

const Row& row(Dtype dtype) { return kRows.at(static_cast<size_t>(dtype)); }

}  // namespace

size_t size_of(Dtype dtype) { return row(dtype).size; }
bool is_floating(Dtype dtype) { return row(dtype).floating; }
std::string_view descr(Dtype dtype) { return row(dtype).descr; }

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string sizes;
  for (const int64_t size : shape) append_item(sizes, ", ", size);
  return "[" + sizes + "]";
}

int64_t num_elements(const std::vector<int64_t>& shape, size_t bytes_each) {
  APO_CHECK(DataError, shape.size() <= kMostDimensions, "expected at most ", kMostDimensions,
            " dimensions, found ", shape.size());
  // as if no size were 0: strides must not overflow either
  int64_t most = std::numeric_limits<int64_t>::max() / static_cast<int64_t>(std::max<size_t>(bytes_each, 1));
  int64_t count = 1;
  for (const int64_t size : shape) {
    APO_CHECK(DataError, size >= 0, "expected sizes of 0 or more, found the shape ", shape_text(shape));
    most /= std::max<int64_t>(size, 1);
    APO_CHECK(DataError, most > 0, "expected an array that fits into memory, found the shape ",
              shape_text(shape));
    count *= size;
  }
  return count;
}

int64_t num_elements(const std::vector<int64_t>& shape, Dtype dtype) {
  return num_elements(shape, size_of(dtype));
}

const Value* Value::find(std::string_view key) const {
  const auto* map = as<Map>();
  if (map == nullptr) return nullptr;
  const auto found =
      std::find_if(map->begin(), map->end(), [key](const Member& member) { return member.key == key; });
  return found == map->end() ? nullptr : &found->value;
}

bool Value::operator==(const Value& other) const { return data_ == other.data_; }

std::string excerpt(const Value& value) {
  struct Words {
    std::string operator()(std::monostate) const { return "nil"; }
    std::string operator()(bool truth) const { return truth ? "true" : "false"; }
    std::string operator()(int64_t number) const { return std::to_string(number); }
    std::string operator()(uint64_t number) const { return std::to_string(number); }
    std::string operator()(double number) const { return concat(number); }
    std::string operator()(const std::string& text) const {
      return concat("the text \"", shortened(text, kLongestExcerpt), "\"");
    }
    std::string operator()(const Bytes& bytes) const { return concat(bytes.data.size(), " bytes"); }
    std::string operator()(const List& list) const { return concat("a list of ", list.size()); }
    std::string operator()(const Map& map) const { return concat("a map of ", map.size()); }
    std::string operator()(const Array& array) const {
      return concat("an array ", descr(array.dtype), " ", shape_text(array.shape));
    }
  };
  return std::visit(Words(), value.data());
}

}  // namespace apo::wire
