// Printing options as YAML and comparing two of them.
#include <algorithm>

#include "apo/base/error.h"
#include "apo/base/text.h"
#include "apo/config/options.h"
#include "config/expectation.h"
#include "config/fields.h"

namespace apo::config {
namespace {

constexpr size_t kWidth = 110;

// "step size (> 0)", "how it is reduced (mean | sum)"; line breaks become blanks.
std::string comment_of(const Field& field) {
  std::string out = field.doc;
  std::ranges::replace(out, '\n', ' ');
  std::string limits = range_text(field.range);
  if (field.type == Field::Type::choice) {
    limits = join(std::vector<std::string_view>(field.choices.begin(), field.choices.end()), " | ");
  }
  if (!limits.empty()) append_item(out, " ", "(", limits, ")");
  return out;
}

class YamlPrinter {
 public:
  explicit YamlPrinter(bool comments) : comments_(comments) {}

  // `first` stands before the first line ("  - " of a list's element), `rest` before the others.
  void print(const std::vector<Field>& fields, std::string first, const std::string& rest) {
    for (const Field& field : fields) {
      print(field, first, rest);
      first = rest;
    }
  }
  std::string take() { return std::move(out_); }

 private:
  void print(const Field& field, const std::string& lead, const std::string& indent) {
    const bool nested = !field.children.empty();
    std::string line = concat(lead, field.name, ":");
    if (!nested) line += concat(" ", value_text(field));
    const std::string comment = comments_ ? comment_of(field) : "";
    if (!comment.empty() && line.size() + 4 + comment.size() <= kWidth) {
      line += "  # " + comment;
    } else if (!comment.empty() && lead == indent) {
      line = indent + "# " + comment + "\n" + line;
    }
    out_ += line + "\n";
    if (field.type == Field::Type::section) print(field.children, indent + "  ", indent + "  ");
    if (field.type != Field::Type::list) return;
    for (const Field& element : field.children) {
      if (element.children.empty()) out_ += indent + "  - {}\n";
      print(element.children, indent + "  - ", indent + "    ");
    }
  }

  bool comments_;
  std::string out_;
};

using Flat = std::vector<std::pair<std::string, std::string>>;

void flatten(const std::vector<Field>& fields, const std::string& prefix, Flat& out) {
  for (const Field& field : fields) {
    const std::string key = prefix + field.name;
    if (field.children.empty()) {
      out.emplace_back(key, value_text(field));
    } else {
      flatten(field.children, key + ".", out);
    }
  }
}

const std::string* find(const Flat& flat, const std::string& key) {
  const auto found = std::ranges::find(flat, key, &Flat::value_type::first);
  return found == flat.end() ? nullptr : &found->second;
}

}  // namespace

std::string print(const VisitFunction& visit, bool comments) {
  YamlPrinter printer(comments);
  printer.print(fields_of(visit).children, "", "");
  return printer.take();
}

std::vector<std::string> differences(const VisitFunction& a, const VisitFunction& b) {
  Flat first, second;
  flatten(fields_of(a).children, "", first);
  flatten(fields_of(b).children, "", second);
  std::vector<std::string> out;
  for (const auto& [key, value] : first) {
    const std::string* other = find(second, key);
    if (!other || *other != value)
      out.push_back(concat(key, ": ", value, " -> ", other ? *other : "(absent)"));
  }
  for (const auto& [key, value] : second)
    if (!find(first, key)) out.push_back(concat(key, ": (absent) -> ", value));
  return out;
}

}  // namespace apo::config
