#include "apo/config/options.h"

#include <algorithm>
#include <charconv>
#include <deque>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/base/text.h"
#include "apo/config/shipped.h"
#include "config/reader.h"
#include "config/value.h"

namespace apo::config {
namespace {

namespace fs = std::filesystem;

// A thousand times what the largest config has: the parser takes many times the size.
constexpr uintmax_t kLargestBytes = uintmax_t{4} << 20;

// "a.b.0" -> a, b, 0. ConfigError for empty parts and for more of them than any config has.
std::vector<std::string> split_key(std::string_view key, const std::string& where) {
  constexpr size_t kMaxParts = 32;
  std::vector<std::string> parts;
  while (true) {
    APO_CHECK(ConfigError, parts.size() < kMaxParts, where, ": expected a key of at most ", kMaxParts,
              " parts");
    const size_t dot = key.find('.');
    parts.emplace_back(key.substr(0, dot));
    APO_CHECK(ConfigError, !parts.back().empty(), where, ": expected a dotted key, found '", key, "'");
    if (dot == std::string_view::npos) return parts;
    key.remove_prefix(dot + 1);
  }
}

std::optional<size_t> as_index(std::string_view part) {
  size_t index = 0;
  const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), index);
  if (error != std::errc() || end != part.data() + part.size()) return {};
  return index;
}

// The element `part` of a list, one past its end included.
Value& list_element(Value& list, const std::string& part, const std::string& reached, const Source& source) {
  const std::optional<size_t> index = as_index(part);
  APO_CHECK(ConfigError, index && *index <= list.items.size(), source.name, ": ", reached,
            " is a list: expected an index from 0 to ", list.items.size(), ", found '", part, "'");
  if (*index == list.items.size()) {
    list.items.emplace_back();
    list.items.back().source = &source;
  }
  return list.items[*index];
}

// The value that `parts` lead to, created where it is missing.
Value& descend(Value& root, const std::vector<std::string>& parts, const Source& source) {
  Value* value = &root;
  std::string reached;
  for (const std::string& part : parts) {
    if (value->kind == Value::Kind::null) {
      value->kind = as_index(part) ? Value::Kind::list : Value::Kind::map;
      value->source = &source;
    }
    APO_CHECK(ConfigError, value->kind != Value::Kind::text, source.name, ": ", reached,
              " is not a section but ", shown(*value), " (", location(*value->source, value->line), ")");
    if (value->kind == Value::Kind::list) {
      value = &list_element(*value, part, reached, source);
    } else {
      if (!value->find(part)) {
        value->members.push_back({.name = part, .source = &source, .line = 0, .value = {}});
        value->members.back().value.source = &source;
      }
      value = &value->find(part)->value;
    }
    append_item(reached, ".", part);
  }
  return *value;
}

void apply_override(Value& root, std::string_view text, const Source& source) {
  const size_t equals = text.find('=');
  APO_CHECK(ConfigError, equals != std::string_view::npos && equals > 0, source.name,
            ": expected KEY.PATH=VALUE");
  Value value = parse_yaml(text.substr(equals + 1), source);
  descend(root, split_key(text.substr(0, equals), source.name), source) = std::move(value);
}

// `above` wins key by key; a list and an empty section (its defaults) win whole.
void overlay(Value& below, Value above) {
  if (below.kind != Value::Kind::map || above.kind != Value::Kind::map || above.members.empty()) {
    below = std::move(above);
    return;
  }
  for (Key& key : above.members) {
    if (Key* same = below.find(key.name)) {
      same->source = key.source, same->line = key.line;
      overlay(same->value, std::move(key.value));
    } else {
      below.members.push_back(std::move(key));
    }
  }
}

std::string joined(const std::vector<std::string>& lines) {
  constexpr size_t kMostNamed = 20;
  std::string out;
  for (size_t i = 0; i < std::min(lines.size(), kMostNamed); ++i) append_item(out, "; ", lines[i]);
  if (lines.size() > kMostNamed) out += concat("; and ", lines.size() - kMostNamed, " more");
  return out;
}

}  // namespace

struct Document::State {
  std::deque<Source> sources;  // values point to them
  Value root;

  Value parse(std::string_view text, const std::string& name, const fs::path& base, const fs::path& directory,
              int depth);
  Value parse_file(const fs::path& path, const fs::path& base, int depth);
};

// What the text says, above what the file says that it extends. `directory` is where that file is looked for.
Value Document::State::parse(std::string_view text, const std::string& name, const fs::path& base,
                             const fs::path& directory, int depth) {
  constexpr int kMostFiles = 8;
  const Source& source =
      sources.emplace_back(Source{.name = name, .base = fs::absolute(base.empty() ? "." : base)});
  Value value = parse_yaml(text, source);
  APO_CHECK(ConfigError, value.kind == Value::Kind::map || value.kind == Value::Kind::null,
            location(*value.source, value.line), ": expected sections (key: value), found ", shown(value));
  const Key* key = value.find("extends");
  if (key == nullptr) return value;
  const std::string where = location(source, key->line) + ": extends: ";
  APO_CHECK(ConfigError, key->value.kind == Value::Kind::text && !key->value.text.empty(), where,
            "expected the path of a config, found ", shown(key->value));
  APO_CHECK(ConfigError, depth + 1 < kMostFiles, where, "expected a chain of at most ", kMostFiles,
            " configs, found a longer one (does one extend itself?)");
  // the path as written, not shortened: beyond a linked folder ".." is where the system goes
  const fs::path relative = key->value.text, file = directory / relative;
  std::error_code ignored;
  const bool readable = key->value.text.find('\0') == std::string::npos && fs::is_regular_file(file, ignored);
  const std::optional<fs::path> shipped = readable ? std::nullopt : shipped_config(key->value.text);
  APO_CHECK(ConfigError, readable || shipped, where,
            "expected the path of a config or the name of a shipped one, found '", key->value.text.c_str(),
            "', and there is no file ", file.string(),
            fs::exists(file.string() + ".yaml", ignored)
                ? concat(" (did you mean ", relative.string(), ".yaml?)")
                : "");
  Value below = readable ? parse_file(file, (base / relative).parent_path(), depth + 1)
                         : parse_file(*shipped, kShippedBase, depth + 1);
  std::erase_if(value.members, [](const Key& member) { return member.name == "extends"; });
  if (!value.members.empty()) overlay(below, std::move(value));
  return below;
}

Value Document::State::parse_file(const fs::path& path, const fs::path& base, int depth) {
  std::error_code ignored;
  const uintmax_t bytes = fs::is_regular_file(path, ignored) ? fs::file_size(path, ignored) : 0;
  APO_CHECK(ConfigError, bytes <= kLargestBytes, path.string(), ": expected a config of at most ",
            kLargestBytes, " bytes, found ", bytes);
  std::string text;
  try {
    text = read_file(path);
  } catch (const DataError& error) {
    throw ConfigError(error.what());
  }
  return parse(text, path.string(), base, path.parent_path(), depth);
}

Document::Document(std::unique_ptr<State> state, const std::vector<std::string>& overrides)
    : state_(std::move(state)) {
  for (const std::string& text : overrides) {
    APO_CHECK(ConfigError, is_utf8(text), "--set: expected UTF-8 text, found other bytes");
    state_->sources.push_back({.name = "--set " + text, .base = fs::current_path(), .is_override = true});
    if (state_->root.kind == Value::Kind::null) state_->root.kind = Value::Kind::map;
    apply_override(state_->root, text, state_->sources.back());
  }
}
Document::~Document() = default;
Document::Document(Document&&) noexcept = default;

Document Document::from_file(const fs::path& path, const std::vector<std::string>& overrides,
                             const std::optional<fs::path>& base) {
  auto state = std::make_unique<State>();
  state->root = state->parse_file(path, base.value_or(path.parent_path()), 0);
  return {std::move(state), overrides};
}

Document Document::from_text(std::string_view text, const std::vector<std::string>& overrides,
                             const fs::path& base, std::string_view name) {
  auto state = std::make_unique<State>();
  state->root = state->parse(text, std::string(name), base, base, 0);
  return {std::move(state), overrides};
}

void Document::read(const VisitFunction& visit) const {
  Reader reader(state_->root);
  std::vector<std::string> problems;
  try {
    visit(reader);
    reader.end();
    problems = reader.problems();
  } catch (const ConfigError& error) {  // a check of the struct's own; it may follow from what came before
    problems = reader.problems();
    problems.emplace_back(error.what());
  }
  if (!problems.empty()) throw ConfigError(joined(problems));
}

}  // namespace apo::config
