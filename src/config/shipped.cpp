#include "apo/config/shipped.h"

#include <algorithm>

#include "apo/base/error.h"
#include "apo/base/location.h"
#include "apo/base/text.h"
#include "config/expectation.h"

namespace apo::config {
namespace {

namespace fs = std::filesystem;

std::optional<fs::path> directory() { return find_beside({"../share/apo/configs"}); }

bool is_shipped(const std::string& name) {
  const std::vector<std::string> names = shipped_configs();
  return std::ranges::find(names, name) != names.end();
}

bool looks_like_a_name(const std::string& text) {
  return !text.empty() &&
         std::ranges::all_of(text, [](unsigned char c) { return std::isalnum(c) || c == '_' || c == '-'; });
}

// A file; where there is none, "configs/tabletop.yaml" may be meant as the shipped one.
Document open_file(const std::string& file, const std::vector<std::string>& overrides) {
  if (!fs::exists(file)) {
    const std::string stem = fs::path(file).stem().string();
    APO_CHECK(ConfigError, !is_shipped(stem), "--config: ", file,
              ": there is no such file (did you mean the shipped config '", stem, "'?)");
  }
  return Document::from_file(file, overrides);
}

}  // namespace

std::vector<std::string> shipped_configs() {
  std::vector<std::string> names;
  if (const auto where = directory())
    for (const auto& entry : fs::directory_iterator(*where))
      if (entry.path().extension() == ".yaml") names.push_back(entry.path().stem().string());
  std::ranges::sort(names);
  return names;
}

std::optional<fs::path> shipped_config(const std::string& name) {
  if (!looks_like_a_name(name) || !is_shipped(name)) return {};
  return *directory() / (name + ".yaml");
}

Document open_config(const std::string& file_or_name, const std::vector<std::string>& overrides) {
  // a folder of that name is no config: runs/, data/
  if (!looks_like_a_name(file_or_name) || (fs::exists(file_or_name) && !fs::is_directory(file_or_name)))
    return open_file(file_or_name, overrides);
  if (!is_shipped(file_or_name)) {
    const std::vector<std::string> names = shipped_configs();
    const auto suggestion = nearest(file_or_name, names);
    throw ConfigError(concat("--config: expected a YAML file or the name of a shipped config (",
                             names.empty() ? "none are installed"
                                           : join(std::vector<std::string_view>(names.begin(), names.end())),
                             "), found '", file_or_name, "'",
                             suggestion ? concat(" (did you mean '", *suggestion, "'?)") : ""));
  }
  return Document::from_file(*shipped_config(file_or_name), overrides, kShippedBase);
}

}  // namespace apo::config
