// Fills the visited struct from a tree of values and collects everything that is wrong with it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "apo/config/options.h"
#include "config/value.h"

namespace apo::config {

class Reader : public Visitor {
 public:
  /// `root` is a map or null.
  explicit Reader(const Value& root);

  void no_section(std::string_view name, std::string_view why) override;
  /// Reports the unknown keys of the top level; to be called once after the visit.
  void end();
  /// One line for each thing that is wrong, in the order of the visit.
  const std::vector<std::string>& problems() const { return problems_; }

 protected:
  void scalar(std::string_view name, bool& value, std::string_view doc) override;
  void scalar(std::string_view name, int64_t& value, std::string_view doc, Range range) override;
  void scalar(std::string_view name, double& value, std::string_view doc, Range range) override;
  void scalar(std::string_view name, std::string& value, std::string_view doc) override;
  void scalar(std::string_view name, std::optional<int64_t>& value, std::string_view doc,
              Range range) override;
  void scalar(std::string_view name, std::optional<double>& value, std::string_view doc,
              Range range) override;
  void scalar(std::string_view name, std::vector<double>& value, std::string_view doc, Range range) override;
  void scalar(std::string_view name, std::vector<int64_t>& value, std::string_view doc, Range range) override;
  void scalar(std::string_view name, std::vector<std::string>& value, std::string_view doc) override;
  void one_of(std::string_view name, std::string& value, std::span<const std::string_view> choices,
              std::string_view doc) override;
  void path_field(std::string_view name, std::string& value, std::string_view doc) override;
  void section(std::string_view name, std::string_view doc,
               const std::function<void(Visitor&)>& visit) override;
  void list(std::string_view name, std::string_view doc, size_t size,
            const std::function<void(size_t)>& resize,
            const std::function<void(size_t, Visitor&)>& visit_element) override;

 private:
  // The map that is being read, or none where the config does not have that section.
  struct Frame {
    const Value* map = nullptr;
    std::string prefix;                // "objective." or ""
    std::vector<std::string> visited;  // field names so far
  };
  struct UnknownKey {
    const Key* key;
    std::string prefix;
    std::vector<std::string> siblings;
  };

  std::string dotted(std::string_view name) const { return frames_.back().prefix + std::string(name); }
  const Key* lookup(std::string_view name);
  void enter(const Value* map, std::string prefix);
  void leave();
  void wrong(const Value& value, std::string_view key, std::string_view expected, std::string_view hint = "");
  void report_unknown(const UnknownKey& unknown);

  std::optional<double> number(const Value& value, std::string_view key, const Range& range);
  std::optional<int64_t> integer(const Value& value, std::string_view key, const Range& range);
  std::optional<std::string> text(const Value& value, std::string_view key);
  // The list's items, or none where it is absent or no list.
  const std::vector<Value>* items(std::string_view name, std::string_view of);

  std::vector<Frame> frames_;
  std::vector<std::string> known_;  // every dotted key that was visited
  std::vector<UnknownKey> unknown_;
  std::vector<std::string> problems_;
};

}  // namespace apo::config
