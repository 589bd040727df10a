#include "config/reader.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "apo/base/error.h"
#include "apo/base/text.h"
#include "config/expectation.h"

namespace apo::config {
namespace {

namespace fs = std::filesystem;

// A plain number of YAML's core schema: decimal, 0x hexadecimal, .inf, .nan.
std::optional<double> parse_number(std::string_view text) {
  const bool negative = text.starts_with('-');
  if (negative || text.starts_with('+')) text.remove_prefix(1);
  if (text == ".inf" || text == ".Inf" || text == ".INF") return negative ? -HUGE_VAL : HUGE_VAL;
  if (text == ".nan" || text == ".NaN" || text == ".NAN") return std::nan("");
  const bool starts_well = !text.empty() && (text[0] == '.' || (text[0] >= '0' && text[0] <= '9'));
  if (!starts_well) return {};  // "inf", "nan" and "--1" are words
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return {};
  return negative ? -value : value;
}

// Decimal digits, 0x digits, or a float without a fraction ("1e3", "2.0").
std::optional<int64_t> parse_integer(std::string_view text) {
  std::string_view digits = text;
  if (digits.starts_with('+')) digits.remove_prefix(1);
  const bool hexadecimal = digits.starts_with("0x");
  if (hexadecimal) digits.remove_prefix(2);
  int64_t value = 0;
  if (!digits.empty() && digits[0] != '+' && !(hexadecimal && digits[0] == '-')) {
    const auto [end, error] =
        std::from_chars(digits.data(), digits.data() + digits.size(), value, hexadecimal ? 16 : 10);
    if (error == std::errc() && end == digits.data() + digits.size()) return value;
  }
  if (hexadecimal || text.find_first_of(".eE") == std::string_view::npos) return {};
  const std::optional<double> number = parse_number(text);
  constexpr double kExact = 0x1p53;
  if (!number || !(std::abs(*number) <= kExact) || *number != std::floor(*number)) return {};
  return static_cast<int64_t>(*number);
}

std::string expected_number(std::string_view noun, const Range& range) {
  const std::string limits = range_text(range);
  return concat(noun, limits.empty() ? "" : " ", limits);
}

}  // namespace

Reader::Reader(const Value& root) { enter(root.kind == Value::Kind::map ? &root : nullptr, ""); }

void Reader::end() {
  leave();
  for (const UnknownKey& unknown : unknown_) report_unknown(unknown);
}

void Reader::enter(const Value* map, std::string prefix) {
  frames_.push_back({.map = map, .prefix = std::move(prefix), .visited = {}});
}

void Reader::leave() {
  Frame frame = std::move(frames_.back());
  frames_.pop_back();
  if (!frame.map) return;
  for (const Key& key : frame.map->members)
    if (std::ranges::find(frame.visited, key.name) == frame.visited.end())
      unknown_.push_back({.key = &key, .prefix = frame.prefix, .siblings = frame.visited});
}

const Key* Reader::lookup(std::string_view name) {
  Frame& frame = frames_.back();
  APO_ASSERT(!name.empty() && name.find('.') == std::string_view::npos);
  if (std::ranges::find(frame.visited, name) != frame.visited.end())
    throw Bug(concat("options: the field '", dotted(name), "' is visited twice"));
  frame.visited.emplace_back(name);
  known_.push_back(dotted(name));
  return frame.map ? frame.map->find(name) : nullptr;
}

void Reader::wrong(const Value& value, std::string_view key, std::string_view expected,
                   std::string_view hint) {
  problems_.push_back(concat(location(*value.source, value.line), ": ", key, ": expected ", expected,
                             ", found ", shown(value), hint));
}

void Reader::report_unknown(const UnknownKey& unknown) {
  const std::string where = location(*unknown.key->source, unknown.key->line);
  if (unknown.key->name == "extends") {
    problems_.push_back(where + ": extends: expected at the top of a file, not in a section or in --set");
    return;
  }
  std::vector<std::string> siblings = unknown.siblings;
  if (unknown.prefix.empty()) siblings.emplace_back("extends");
  // "objectve: {beta: 1}" can only mean one key: suggest that one
  std::string whole = unknown.prefix + unknown.key->name;
  const Value* value = &unknown.key->value;
  for (; value->kind == Value::Kind::map && value->members.size() == 1; value = &value->members[0].value)
    whole += "." + value->members[0].name;
  std::string name = unknown.prefix + unknown.key->name;
  // the very key in a section below is meant, where there is one, not another that happens to look alike
  const auto is_below = [&](const std::string& key) {
    return !unknown.prefix.empty() && key.starts_with(unknown.prefix) &&
           key.ends_with("." + unknown.key->name);
  };
  constexpr int64_t kFew = 3;
  const int64_t num_below = std::ranges::count_if(known_, is_below);
  std::optional<std::string> suggestion = nearest(unknown.key->name, siblings);
  if (0 < num_below && num_below <= kFew) {
    suggestion.emplace();
    for (const std::string& key : known_)
      if (is_below(key)) append_item(*suggestion, "' or '", key);
  } else if (suggestion) {
    suggestion = unknown.prefix + *suggestion;
    const std::string renamed = *suggestion + whole.substr(name.size());
    if (std::ranges::find(known_, renamed) != known_.end()) {
      name = whole;
      suggestion = renamed;
    }
  } else {
    const std::string leaf = unknown.key->name.substr(unknown.key->name.rfind('.') + 1);
    const auto elsewhere = std::ranges::find_if(
        known_, [&](const std::string& key) { return key.substr(key.rfind('.') + 1) == leaf; });
    if (elsewhere != known_.end()) suggestion = *elsewhere;
  }
  std::string hint;
  if (suggestion && *suggestion == name) {
    hint = " (write it as nested sections)";
  } else if (suggestion) {
    hint = concat(" (did you mean '", *suggestion, "'?)");
  } else {
    const std::vector<std::string_view> valid(siblings.begin(), siblings.end());
    hint = concat(" (valid here: ", valid.empty() ? "nothing" : join(valid), ")");
  }
  problems_.push_back(concat(where, ": unknown key '", name, "'", hint));
}

std::optional<double> Reader::number(const Value& value, std::string_view key, const Range& range) {
  const bool plain = value.kind == Value::Kind::text && !value.quoted;
  const std::optional<double> parsed = plain ? parse_number(value.text) : std::nullopt;
  if (parsed && contains(range, *parsed) &&
      (std::isfinite(*parsed) || (range.infinite && !std::isnan(*parsed))))
    return parsed;
  wrong(value, key,
        expected_number(parsed && !std::isfinite(*parsed) ? "a finite number" : "a number", range));
  return {};
}

std::optional<int64_t> Reader::integer(const Value& value, std::string_view key, const Range& range) {
  const bool plain = value.kind == Value::Kind::text && !value.quoted;
  const std::optional<int64_t> parsed = plain ? parse_integer(value.text) : std::nullopt;
  if (parsed && contains(range, static_cast<double>(*parsed))) return parsed;
  wrong(value, key, expected_number("an integer", range));
  return {};
}

std::optional<std::string> Reader::text(const Value& value, std::string_view key) {
  if (value.kind == Value::Kind::text) return value.text;
  if (value.kind == Value::Kind::null && value.source->is_override) return "";  // "--set key="
  wrong(value, key, "a text");
  return {};
}

const std::vector<Value>* Reader::items(std::string_view name, std::string_view of) {
  const Key* key = lookup(name);
  if (!key || key->value.kind == Value::Kind::null) return nullptr;
  if (key->value.kind == Value::Kind::list) return &key->value.items;
  wrong(key->value, dotted(name), concat("a list of ", of));
  return nullptr;
}

void Reader::scalar(std::string_view name, bool& value, std::string_view) {
  const Key* key = lookup(name);
  if (!key) return;
  const Value& found = key->value;
  const bool is_true = found.text == "true", is_false = found.text == "false";
  if (found.kind == Value::Kind::text && !found.quoted && (is_true || is_false)) {
    value = is_true;
  } else {
    wrong(found, dotted(name), "true or false");
  }
}

void Reader::scalar(std::string_view name, int64_t& value, std::string_view, Range range) {
  if (const Key* key = lookup(name)) value = integer(key->value, dotted(name), range).value_or(value);
}

void Reader::scalar(std::string_view name, double& value, std::string_view, Range range) {
  if (const Key* key = lookup(name)) value = number(key->value, dotted(name), range).value_or(value);
}

void Reader::scalar(std::string_view name, std::string& value, std::string_view) {
  if (const Key* key = lookup(name)) value = text(key->value, dotted(name)).value_or(value);
}

void Reader::scalar(std::string_view name, std::optional<int64_t>& value, std::string_view, Range range) {
  const Key* key = lookup(name);
  if (!key) return;
  value = key->value.kind == Value::Kind::null ? std::nullopt : integer(key->value, dotted(name), range);
}

void Reader::scalar(std::string_view name, std::optional<double>& value, std::string_view, Range range) {
  const Key* key = lookup(name);
  if (!key) return;
  value = key->value.kind == Value::Kind::null ? std::nullopt : number(key->value, dotted(name), range);
}

void Reader::scalar(std::string_view name, std::vector<double>& value, std::string_view, Range range) {
  const std::vector<Value>* found = items(name, "numbers");
  if (!found) return;
  value.assign(found->size(), 0);
  for (size_t i = 0; i < found->size(); ++i)
    value[i] = number((*found)[i], concat(dotted(name), ".", i), range).value_or(0);
}

void Reader::scalar(std::string_view name, std::vector<int64_t>& value, std::string_view, Range range) {
  const Key* key = lookup(name);
  if (!key || key->value.kind == Value::Kind::null) return;
  const Value& found = key->value;
  // one integer is a list of one
  if (found.kind == Value::Kind::text && !found.quoted && parse_integer(found.text)) {
    value.assign(1, integer(found, dotted(name), range).value_or(0));
  } else if (found.kind != Value::Kind::list) {
    wrong(found, dotted(name), "a list of integers");
  } else {
    value.assign(found.items.size(), 0);
    for (size_t i = 0; i < value.size(); ++i)
      value[i] = integer(found.items[i], concat(dotted(name), ".", i), range).value_or(0);
  }
}

void Reader::scalar(std::string_view name, std::vector<std::string>& value, std::string_view) {
  const std::vector<Value>* found = items(name, "texts");
  if (!found) return;
  value.assign(found->size(), "");
  for (size_t i = 0; i < found->size(); ++i)
    value[i] = text((*found)[i], concat(dotted(name), ".", i)).value_or("");
}

void Reader::one_of(std::string_view name, std::string& value, std::span<const std::string_view> choices,
                    std::string_view) {
  const Key* key = lookup(name);
  if (!key) return;
  const Value& found = key->value;
  if (found.kind == Value::Kind::text && std::ranges::find(choices, found.text) != choices.end()) {
    value = found.text;
    return;
  }
  const std::optional<std::string> near =
      found.kind == Value::Kind::text ? nearest(found.text, {choices.begin(), choices.end()}) : std::nullopt;
  wrong(found, dotted(name), concat("one of ", join(choices)),
        near ? concat(" (did you mean '", *near, "'?)") : "");
}

void Reader::path_field(std::string_view name, std::string& value, std::string_view) {
  const Key* key = lookup(name);
  if (!key) return;
  const std::optional<std::string> found = text(key->value, dotted(name));
  if (!found) return;
  value = *found;
  if (value.empty()) return;
  value = (key->value.source->base / value).lexically_normal().string();
  if (value.size() > 1 && value.ends_with('/')) value.pop_back();
}

void Reader::section(std::string_view name, std::string_view, const std::function<void(Visitor&)>& visit) {
  const Key* key = lookup(name);
  const bool usable = !key || key->value.kind == Value::Kind::map || key->value.kind == Value::Kind::null;
  if (!usable) wrong(key->value, dotted(name), "a section (key: value)");
  enter(key && key->value.kind == Value::Kind::map ? &key->value : nullptr, dotted(name) + ".");
  visit(*this);
  leave();
}

void Reader::no_section(std::string_view name, std::string_view why) {
  const Key* key = frames_.back().map ? frames_.back().map->find(name) : nullptr;
  if (!key) return;
  frames_.back().visited.emplace_back(name);
  const Value& found = key->value;
  const bool nothing = found.kind == Value::Kind::map && found.members.empty();
  if (found.kind != Value::Kind::null && !nothing)
    wrong(found, dotted(name),
          concat("no such ", found.kind == Value::Kind::map ? "section" : "key", " where ", why));
}

void Reader::list(std::string_view name, std::string_view, size_t, const std::function<void(size_t)>& resize,
                  const std::function<void(size_t, Visitor&)>& visit_element) {
  const std::vector<Value>* found = items(name, "sections");
  if (!found) return;
  resize(found->size());
  for (size_t i = 0; i < found->size(); ++i) {
    const Value& item = (*found)[i];
    const std::string key = concat(dotted(name), ".", i);
    if (item.kind != Value::Kind::map) wrong(item, key, "a section (key: value)");
    enter(item.kind == Value::Kind::map ? &item : nullptr, key + ".");
    visit_element(i, *this);
    leave();
  }
}

}  // namespace apo::config
