// Puts a tree together from what a parser meets, one thing after the other, and bounds it.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "wire/limits.h"
#include "wire/value.h"

namespace apo::wire {

/// Nothing is reserved for what is only announced. What breaks a limit, and a key that is there twice, is a
/// DataError "WHERE: KEY: ...".
class TreeBuilder {
 public:
  /// What a whole map stands for: itself, or the array that it spells. Its DataErrors "expected ..." are
  /// given the map's place.
  using MapReader = Value (*)(Map&& map);

  /// `where` must outlive it.
  TreeBuilder(const std::string& where, const Limits& limits, MapReader read_map)
      : where_(where), limits_(limits), read_map_(read_map) {}

  /// `announced` values to come, keys among them, where that is known.
  void start_list(size_t announced = 0);
  void start_map(size_t announced = 0);
  void end_list();
  void end_map();
  /// Of the member whose value comes next.
  void key(std::string key);
  void add(Value value);

  /// The whole tree, once its parser says that it ended.
  Value take() { return std::move(root_); }

  /// DataError "WHERE: KEY: MESSAGE" about the value that comes next.
  [[noreturn]] void fail(std::string_view message) const;

 private:
  struct Open {
    Value value;      // a list or a map
    std::string key;  // of a map's next member
  };
  void open(Value value, size_t announced);
  void spend(size_t values);
  void put(Value value);

  const std::string& where_;
  const Limits limits_;
  const MapReader read_map_;
  size_t spent_ = 0;
  std::vector<Open> open_;
  Value root_;
};

}  // namespace apo::wire
