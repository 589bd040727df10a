#include "report/config_text.h"

#include <array>
#include <utility>
#include <vector>

#include "apo/base/error.h"
#include "report/html.h"

namespace apo::report {
namespace {

constexpr size_t kMostConfigBytes = 256 * 1024;

std::string_view trimmed(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t\r");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

// A scalar without its quotes or the comment behind it.
std::string scalar(std::string_view text) {
  text = trimmed(text);
  if (text.size() >= 2 && (text[0] == '"' || text[0] == '\'')) {
    const size_t end = text.find(text[0], 1);
    return std::string(text.substr(1, end == std::string_view::npos ? end : end - 1));
  }
  const size_t comment = text.find(" #");
  return std::string(trimmed(text.substr(0, comment)));
}

}  // namespace

std::string config_value(std::string_view yaml, std::string_view key) {
  std::vector<std::pair<size_t, std::string>> path;  // indentation and key of the open sections
  while (!yaml.empty()) {
    const size_t end = yaml.find('\n');
    const std::string_view line = yaml.substr(0, end);
    yaml.remove_prefix(end == std::string_view::npos ? yaml.size() : end + 1);
    const size_t indent = line.find_first_not_of(' ');
    const size_t colon = line.find(':');
    if (indent == std::string_view::npos || colon == std::string_view::npos || line[indent] == '#') continue;
    if (line[indent] == '-') continue;
    while (!path.empty() && path.back().first >= indent) path.pop_back();
    path.emplace_back(indent, scalar(line.substr(indent, colon - indent)));
    std::string dotted;
    for (const auto& [ignored, part] : path) append_item(dotted, ".", part);
    if (dotted == key) return scalar(line.substr(colon + 1));
  }
  return "";
}

std::string config_digest(std::string_view yaml) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 8> kShown = {{
      {"objective.z0", "z0"},
      {"objective.beta", "β"},
      {"objective.sft_weight", "sft weight"},
      {"objective.reference_kl_weight", "reference KL weight"},
      {"objective.credit", "credit"},
      {"optimizer.learning_rate", "learning rate"},
      {"train.batch_size", "batch size"},
      {"run.seed", "seed"},
  }};
  const bool reference =
      config_value(yaml, "objective.type") == "apo" || config_value(yaml, "objective.type") == "kto";
  std::string out;
  for (const auto& [key, name] : kShown) {
    const std::string value = config_value(yaml, key);
    if (value.empty() || (!reference && key.starts_with("objective."))) continue;
    append_item(out, " · ", name, " ", value);
  }
  return out;
}

std::string config_block(std::string_view title, std::string_view yaml) {
  if (yaml.find_first_not_of(" \t\r\n") == std::string_view::npos) return "";
  std::string out = concat("<details><summary>", escape(title), "</summary>\n<pre>",
                           escape(yaml.substr(0, kMostConfigBytes)), "</pre>\n");
  if (yaml.size() > kMostConfigBytes)
    out += concat("<p class=\"note\">Cut here: the whole text has ",
                  format_bytes(static_cast<double>(yaml.size())), ".</p>\n");
  return out + "</details>\n";
}

}  // namespace apo::report
