#include "wire/tree_builder.h"

#include <algorithm>

#include "apo/base/error.h"
#include "apo/base/text.h"

namespace apo::wire {
namespace {

constexpr size_t kLongestKey = 60;  // in a message

// A key that is there twice; null where there is none.
const std::string* twice(const Map& map) {
  std::vector<const std::string*> keys;
  keys.reserve(map.size());
  for (const Member& member : map) keys.push_back(&member.key);
  std::sort(keys.begin(), keys.end(), [](const auto* a, const auto* b) { return *a < *b; });
  const auto found =
      std::adjacent_find(keys.begin(), keys.end(), [](const auto* a, const auto* b) { return *a == *b; });
  return found == keys.end() ? nullptr : *found;
}

}  // namespace

void TreeBuilder::fail(std::string_view message) const {
  std::string path;
  for (const Open& open : open_) {
    if (const auto* list = open.value.as<List>())
      path += concat("[", list->size(), "]");
    else if (!open.key.empty())
      append_item(path, ".", shortened(open.key, kLongestKey));
  }
  throw DataError(concat(where_, ": ", path, path.empty() ? "" : ": ", message));
}

void TreeBuilder::spend(size_t values) {
  if (values > limits_.values - spent_)
    fail(concat("expected at most ", limits_.values, " values in a message, found more"));
}

void TreeBuilder::open(Value value, size_t announced) {
  if (open_.size() >= limits_.depth)
    fail(concat("expected at most ", limits_.depth, " lists and maps within each other, found more"));
  spend(1);
  ++spent_;
  spend(announced);
  open_.push_back({std::move(value), {}});
}

void TreeBuilder::start_list(size_t announced) { open(List(), announced); }
void TreeBuilder::start_map(size_t announced) { open(Map(), announced); }

void TreeBuilder::key(std::string key) {
  spend(1);
  ++spent_;
  open_.back().key = std::move(key);
}

void TreeBuilder::add(Value value) {
  spend(1);
  ++spent_;
  put(std::move(value));
}

void TreeBuilder::put(Value value) {
  if (open_.empty()) {
    root_ = std::move(value);
    return;
  }
  Open& parent = open_.back();
  if (auto* list = parent.value.as<List>())
    list->push_back(std::move(value));
  else
    parent.value.as<Map>()->push_back({std::exchange(parent.key, {}), std::move(value)});
}

void TreeBuilder::end_list() {
  Value list = std::move(open_.back().value);
  open_.pop_back();
  put(std::move(list));
}

void TreeBuilder::end_map() {
  Map map = std::move(*open_.back().value.as<Map>());
  open_.pop_back();
  if (const std::string* key = twice(map))
    fail(concat("expected each key once, found \"", shortened(*key, kLongestKey), "\" twice"));
  try {
    put(read_map_(std::move(map)));
  } catch (const DataError& error) {
    fail(error.what());
  }
}

}  // namespace apo::wire
