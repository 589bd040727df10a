#include "config/value.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>
#include <sstream>

#include "apo/base/error.h"
#include "apo/base/text.h"

namespace apo::config {
namespace {

// A config is small; what exceeds these is a mistake or an attack ("billion laughs").
constexpr size_t kMaxBytes = size_t{4} << 20;
constexpr size_t kMaxWeight = size_t{32} << 20;  // bytes of the tree with all aliases written out
constexpr int kMaxDepth = 64;
constexpr size_t kMaxMembers = 1000;  // of one map

size_t weight(const Value& value) {
  size_t sum = sizeof(Value) + value.text.size();
  for (const Value& item : value.items) sum += weight(item);
  for (const Key& key : value.members) sum += sizeof(Key) + key.name.size() + weight(key.value);
  return sum;
}

int height(const Value& value) {
  int tallest = 0;
  for (const Value& item : value.items) tallest = std::max(tallest, height(item));
  for (const Key& key : value.members) tallest = std::max(tallest, height(key.value));
  return tallest + 1;
}

// Builds the tree from the parser's events and refuses what a config has no use for.
class TreeBuilder : public YAML::EventHandler {
 public:
  explicit TreeBuilder(const Source& source) : source_(source) {}

  Value take() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override { put(mark, make(mark), anchor); }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& text) override {
    Value value = make(mark);
    value.kind = Value::Kind::text;
    value.text = text;
    value.quoted = tag == "!" || tag == "tag:yaml.org,2002:str";
    check_tag(mark, tag);
    if (!is_utf8(text)) refuse(mark, "an escape that yields no Unicode character");
    put(mark, std::move(value), anchor);
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto found = anchors_.find(anchor);
    if (found == anchors_.end()) refuse(mark, "an alias inside its own anchor");
    if (static_cast<int>(open_.size()) + found->second.height > kMaxDepth) refuse_depth(mark);
    if (weight_ + found->second.weight > kMaxWeight) refuse(mark, "aliases that unfold to an enormous text");
    weight_ += found->second.weight;
    put(mark, found->second.value, 0);
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, Value::Kind::list);
  }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, Value::Kind::map);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapEnd() override {
    merge_into(open_.back().value);
    close();
  }

 private:
  struct Open {
    Value value;
    YAML::anchor_t anchor = 0;
    std::optional<Key> key;  // of a map: waits for its value
  };
  struct Anchored {
    Value value;
    size_t weight = 0;
    int height = 0;
  };

  [[noreturn]] void refuse(const YAML::Mark& mark, std::string_view what) const {
    refuse(mark.line + 1, what);
  }
  [[noreturn]] void refuse(int line, std::string_view what) const {
    throw ConfigError(concat(location(source_, line), ": ", what, " is not supported here"));
  }
  [[noreturn]] void refuse_depth(const YAML::Mark& mark) const {
    refuse(mark, concat("nesting deeper than ", kMaxDepth, " levels"));
  }

  void check_tag(const YAML::Mark& mark, const std::string& tag) const {
    const bool plain = tag.empty() || tag == "?" || tag == "!" || tag.starts_with("tag:yaml.org,2002:");
    if (!plain) refuse(mark, concat("the tag '", tag, "'"));
  }

  Value make(const YAML::Mark& mark) const {
    Value value;
    value.source = &source_;
    value.line = mark.line + 1;
    return value;
  }

  bool expects_key() const {
    return !open_.empty() && open_.back().value.kind == Value::Kind::map && !open_.back().key;
  }

  void open(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, Value::Kind kind) {
    if (expects_key()) refuse(mark, "a list or map as a key, or a bracket that is never closed,");
    if (static_cast<int>(open_.size()) >= kMaxDepth) refuse_depth(mark);
    check_tag(mark, tag);
    Open frame;
    frame.value = make(mark);
    frame.value.kind = kind;
    frame.anchor = anchor;
    open_.push_back(std::move(frame));
  }

  void close() {
    Open done = std::move(open_.back());
    open_.pop_back();
    put_at(done.value.line, std::move(done.value), done.anchor);
  }

  void put(const YAML::Mark& mark, Value value, YAML::anchor_t anchor) {
    if (expects_key()) {
      put_key(mark, std::move(value), anchor);
    } else {
      put_at(mark.line + 1, std::move(value), anchor);
    }
  }

  void put_at(int line, Value value, YAML::anchor_t anchor) {
    if (anchor != 0) {
      const size_t size = weight(value);
      weight_ += size;
      if (weight_ > kMaxWeight) refuse(line, "aliases that unfold to an enormous text");
      anchors_[anchor] = {.value = value, .weight = size, .height = height(value)};
    }
    if (open_.empty()) {
      root_ = std::move(value);
    } else if (open_.back().value.kind == Value::Kind::list) {
      open_.back().value.items.push_back(std::move(value));
    } else {
      Open& map = open_.back();
      if (value.kind == Value::Kind::null) value.line = map.key->line;  // "key:" has no mark of its own
      map.key->value = std::move(value);
      map.value.members.push_back(std::move(*map.key));
      map.key.reset();
    }
  }

  void put_key(const YAML::Mark& mark, Value value, YAML::anchor_t anchor) {
    if (value.kind != Value::Kind::text) refuse(mark, "a key that is not a word");
    Open& map = open_.back();
    if (map.value.members.size() >= kMaxMembers)
      refuse(mark, concat("a map of more than ", kMaxMembers, " keys"));
    if (const Key* first = map.value.find(value.text)) {
      throw ConfigError(concat(location(source_, mark.line + 1), ": duplicate key '", value.text,
                               "' (first on line ", first->line, ")"));
    }
    if (anchor != 0) anchors_[anchor] = {.value = value, .weight = weight(value), .height = 1};
    map.key = Key{.name = value.text, .source = &source_, .line = mark.line + 1, .value = {}};
  }

  // "<<: *defaults": members that the map does not name itself come from the merged maps, the earlier one
  // first.
  void merge_into(Value& map) {
    const auto merge = std::ranges::find(map.members, "<<", &Key::name);
    if (merge == map.members.end()) return;
    const Key key = std::move(*merge);
    map.members.erase(merge);
    std::vector<Value> others;
    if (key.value.kind == Value::Kind::list) {
      others = key.value.items;
    } else {
      others.push_back(key.value);
    }
    for (const Value& other : others) {
      if (other.kind != Value::Kind::map) refuse(key.line, "a merge key '<<' with anything but maps");
      for (const Key& member : other.members)
        if (!map.find(member.name)) map.members.push_back(member);
    }
  }

  const Source& source_;
  Value root_;
  std::vector<Open> open_;
  std::map<YAML::anchor_t, Anchored> anchors_;
  size_t weight_ = 0;
};

// YAML text holds no control characters except tab and line ends.
bool is_printable(std::string_view text) {
  return std::ranges::all_of(text, [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return (byte >= 0x20 && byte != 0x7f) || c == '\t' || c == '\n' || c == '\r';
  });
}

}  // namespace

Key* Value::find(std::string_view name) {
  const auto found = std::ranges::find(members, name, &Key::name);
  return found == members.end() ? nullptr : &*found;
}
const Key* Value::find(std::string_view name) const { return const_cast<Value*>(this)->find(name); }

std::string location(const Source& source, int line) {
  return source.is_override ? source.name : concat(source.name, ":", line);
}

std::string shown(const Value& value) {
  constexpr size_t kLongest = 60;
  switch (value.kind) {
    case Value::Kind::null:
      return "nothing (null)";
    case Value::Kind::list:
      return "a list";
    case Value::Kind::map:
      return "a section";
    case Value::Kind::text:
      break;
  }
  if (value.text.size() <= kLongest) return concat(value.quoted ? "the text '" : "'", value.text, "'");
  return concat("'", shortened(value.text, kLongest + 3), "'");
}

Value parse_yaml(std::string_view text, const Source& source) {
  APO_CHECK(ConfigError, text.size() <= kMaxBytes, source.name, ": expected a config of at most ",
            kMaxBytes >> 20, " MiB, found ", text.size(), " bytes");
  APO_CHECK(ConfigError, is_utf8(text), source.name, ": expected UTF-8 text, found other bytes");
  APO_CHECK(ConfigError, is_printable(text), source.name, ": expected text, found control characters");
  std::istringstream in{std::string(text)};
  TreeBuilder builder(source);
  try {
    YAML::Parser parser(in);
    if (parser.HandleNextDocument(builder)) {
      Value root = builder.take();
      TreeBuilder second(source);
      APO_CHECK(ConfigError, !parser.HandleNextDocument(second), source.name,
                ": expected one YAML document, found another after '---'");
      return root;
    }
  } catch (const YAML::Exception& error) {
    throw ConfigError(concat(location(source, error.mark.line + 1), ": not valid YAML: ", error.msg));
  }
  Value nothing;
  nothing.source = &source;
  nothing.line = 1;
  return nothing;
}

bool is_written(std::string_view yaml, std::string_view key) {
  const Source source = {.name = "<text>", .base = {}};
  const Value root = parse_yaml(yaml, source);
  const Value* value = &root;
  for (size_t begin = 0; begin <= key.size();) {
    const size_t end = std::min(key.find('.', begin), key.size());
    const std::string_view name = key.substr(begin, end - begin);
    begin = end + 1;
    size_t i = 0;
    const bool is_index = std::from_chars(name.data(), name.data() + name.size(), i).ec == std::errc();
    if (value->kind == Value::Kind::list && is_index && i < value->items.size()) {
      value = &value->items[i];
      continue;
    }
    const Key* found = value->find(name);
    if (found == nullptr) return false;
    value = &found->value;
  }
  return true;
}

}  // namespace apo::config
