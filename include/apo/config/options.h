// Options are plain structs; `visit` names each field once, and reading, overriding, printing and describing
// follow.
//
//   struct AdamOptions {
//     double learning_rate = 1e-3;
//     void visit(config::Visitor& v) {
//       v("learning_rate", learning_rate, "step size, > 0", config::positive());
//     }
//   };
//   const auto document = config::Document::from_file("run.yaml", {"learning_rate=3e-4"});
//   auto options = config::load<AdamOptions>(document);
//
// An unknown key is an error that names file and line and suggests the nearest valid key.
#pragma once

#include <concepts>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace apo::config {

/// The accepted range of a number; both ends belong to it unless `open_min`. Infinities only where
/// `infinite`.
struct Range {
  std::optional<double> min, max;
  bool open_min = false;
  bool infinite = false;
};
inline Range any() { return {}; }
inline Range positive() { return {.min = 0.0, .max = {}, .open_min = true}; }
inline Range at_least(double min) { return {.min = min, .max = {}}; }
inline Range between(double min, double max) { return {.min = min, .max = max}; }
/// The same range with .inf and -.inf as far as its ends allow ("no limit").
inline Range or_infinite(Range range) {
  range.infinite = true;
  return range;
}

/// The one name table of an enum, used for reading, printing and the error's "valid: ...".
/// Provide beside the enum:  `std::span<const std::pair<E, std::string_view>> enum_names(E);`
template <class E>
concept NamedEnum = std::is_enum_v<E> && requires(E e) {
  { enum_names(e) } -> std::convertible_to<std::span<const std::pair<E, std::string_view>>>;
};

class Visitor;
template <class T>
concept Visitable = requires(T& t, Visitor& v) {
  t.visit(v);
};

/// What a range applies to.
template <class T>
concept Number = std::same_as<T, int64_t> || std::same_as<T, double> ||
    std::same_as<T, std::optional<int64_t>> || std::same_as<T, std::optional<double>> ||
    std::same_as<T, std::vector<int64_t>> || std::same_as<T, std::vector<double>>;

/// Walks the fields of an options struct. `doc` says meaning, unit, and what growing it does, in one line.
class Visitor {
 public:
  virtual ~Visitor() = default;

  void operator()(std::string_view name, bool& value, std::string_view doc) { scalar(name, value, doc); }
  void operator()(std::string_view name, std::string& value, std::string_view doc) {
    scalar(name, value, doc);
  }
  template <Number T>
  void operator()(std::string_view name, T& value, std::string_view doc, Range range = {}) {
    scalar(name, value, doc, range);
  }
  void operator()(std::string_view name, std::vector<std::string>& value, std::string_view doc) {
    scalar(name, value, doc);
  }
  /// A string that must be one of `choices`.
  void choice(std::string_view name, std::string& value, std::span<const std::string_view> choices,
              std::string_view doc) {
    one_of(name, value, choices, doc);
  }
  template <NamedEnum E>
  void operator()(std::string_view name, E& value, std::string_view doc) {
    std::string text;
    std::vector<std::string_view> choices;
    for (const auto& [candidate, label] : enum_names(value)) {
      choices.push_back(label);
      if (candidate == value) text = label;
    }
    one_of(name, text, choices, doc);
    for (const auto& [candidate, label] : enum_names(value))
      if (label == text) value = candidate;
  }
  /// A file or directory. In YAML relative to the config file, in `--set` relative to the working directory;
  /// after reading it is absolute. Empty stays empty.
  void path(std::string_view name, std::string& value, std::string_view doc) { path_field(name, value, doc); }
  /// A section that belongs elsewhere: an error unless it is left out or empty. `why` ends the sentence
  /// "expected no such section where ...".
  virtual void no_section(std::string_view name, std::string_view why) {}
  template <Visitable T>
  void operator()(std::string_view name, T& value, std::string_view doc) {
    section(name, doc, [&value](Visitor& v) { value.visit(v); });
  }
  template <Visitable T>
  void operator()(std::string_view name, std::vector<T>& value, std::string_view doc) {
    list(
        name, doc, value.size(), [&value](size_t n) { value.assign(n, T{}); },
        [&value](size_t i, Visitor& v) { value[i].visit(v); });
  }

 protected:
  virtual void scalar(std::string_view name, bool& value, std::string_view doc) = 0;
  virtual void scalar(std::string_view name, int64_t& value, std::string_view doc, Range range) = 0;
  virtual void scalar(std::string_view name, double& value, std::string_view doc, Range range) = 0;
  virtual void scalar(std::string_view name, std::string& value, std::string_view doc) = 0;
  virtual void scalar(std::string_view name, std::optional<int64_t>& value, std::string_view doc,
                      Range range) = 0;
  virtual void scalar(std::string_view name, std::optional<double>& value, std::string_view doc,
                      Range range) = 0;
  virtual void scalar(std::string_view name, std::vector<double>& value, std::string_view doc,
                      Range range) = 0;
  virtual void scalar(std::string_view name, std::vector<int64_t>& value, std::string_view doc,
                      Range range) = 0;
  virtual void scalar(std::string_view name, std::vector<std::string>& value, std::string_view doc) = 0;
  virtual void one_of(std::string_view name, std::string& value, std::span<const std::string_view> choices,
                      std::string_view doc) = 0;
  virtual void path_field(std::string_view name, std::string& value, std::string_view doc) = 0;
  virtual void section(std::string_view name, std::string_view doc,
                       const std::function<void(Visitor&)>& visit) = 0;
  virtual void list(std::string_view name, std::string_view doc, size_t size,
                    const std::function<void(size_t)>& resize,
                    const std::function<void(size_t, Visitor&)>& visit_element) = 0;
};

using VisitFunction = std::function<void(Visitor&)>;

/// A YAML text with its overrides applied, ready to be read into structs.
///
/// `extends: FILE` (relative to the text's own file, or the name of a shipped config) on the top level says
/// that everything FILE says holds too, where the text does not say otherwise: key by key; lists win whole,
/// and an empty section takes its defaults. FILE may extend another. Relative paths stay relative to the file
/// that they are written in.
class Document {
 public:
  /// `overrides` are "key.path=value" with YAML values ("data.expert=[{path: demos}]"); later ones win. A
  /// numeric part addresses a list's element ("data.expert.0.limit=5").
  /// With `base`, relative paths are relative to it instead of the file's directory.
  /// ConfigError naming file and line for an unreadable file or bad YAML (duplicate keys included).
  static Document from_file(const std::filesystem::path& path, const std::vector<std::string>& overrides = {},
                            const std::optional<std::filesystem::path>& base = {});
  /// The same from a text; relative paths are relative to `base`.
  static Document from_text(std::string_view text, const std::vector<std::string>& overrides = {},
                            const std::filesystem::path& base = ".", std::string_view name = "<text>");
  ~Document();
  Document(Document&&) noexcept;

  /// Fills the visited struct. ConfigError naming file, line and key for an unknown key (with the nearest
  /// valid one), a wrong type, or a value out of range. Keys that are absent keep their defaults.
  void read(const VisitFunction& visit) const;

 private:
  struct State;
  Document(std::unique_ptr<State> state, const std::vector<std::string>& overrides);
  std::unique_ptr<State> state_;
};

template <Visitable T>
T load(const Document& document) {
  T value;
  document.read([&value](Visitor& v) { value.visit(v); });
  return value;
}

/// The struct as YAML that reads back to the same values; with `comments`, each field's doc as a comment.
std::string print(const VisitFunction& visit, bool comments = false);
template <Visitable T>
std::string print(T value, bool comments = false) {
  return print(VisitFunction([&value](Visitor& v) { value.visit(v); }), comments);
}

/// The dotted keys whose values differ between two structs of one type, as "key: a -> b".
std::vector<std::string> differences(const VisitFunction& a, const VisitFunction& b);
template <Visitable T>
std::vector<std::string> differences(T a, T b) {
  return differences(VisitFunction([&a](Visitor& v) { a.visit(v); }),
                     VisitFunction([&b](Visitor& v) { b.visit(v); }));
}

/// The entry of `candidates` nearest to `word` by edit distance, if any is near enough to be a slip of the
/// finger.
std::optional<std::string> nearest(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace apo::config
