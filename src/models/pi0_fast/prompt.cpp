#include "models/pi0_fast/prompt.h"

#include <algorithm>
#include <array>

#include "apo/base/error.h"
#include "apo/base/text.h"
#include "tokenizers/unicode_classes.h"
#include "tokenizers/utf8.h"

namespace apo::models {
namespace {

// As Python's strip, which knows four separators more than the class of blanks.
bool is_stripped(char32_t c) {
  return tokenizers::class_of(c) == tokenizers::CharacterClass::blank || (c >= 0x1C && c <= 0x1F);
}

// Latin, Greek and Cyrillic letters; others stay.
char32_t lower(char32_t c) {
  if ((c >= 'A' && c <= 'Z') || (c >= 0xC0 && c <= 0xDE && c != 0xD7) || (c >= 0x391 && c <= 0x3A9) ||
      (c >= 0x410 && c <= 0x42F))
    return c + 32;
  if (c >= 0x400 && c <= 0x40F) return c + 80;
  if (c >= 0x100 && c <= 0x137 && c != 0x130) return c | 1;
  return c;
}

}  // namespace

std::string task_text(std::string_view instruction, Pi0FastDialect dialect) {
  std::u32string task = tokenizers::from_utf8_lossy(instruction);
  const auto first = std::ranges::find_if_not(task, is_stripped);
  task.erase(task.begin(), first);
  while (!task.empty() && is_stripped(task.back())) task.pop_back();
  std::string text;
  for (char32_t c : task) {
    if (dialect == Pi0FastDialect::openpi) c = lower(c);
    if (c == '_' || (dialect == Pi0FastDialect::lerobot && c == '\n')) c = ' ';
    tokenizers::append_utf8(text, c);
  }
  return text;
}

std::vector<int64_t> state_bins(const std::vector<double>& normalized) {
  static const std::array<double, 256> kEdges = [] {
    std::array<double, 256> edges{};
    for (size_t i = 0; i < edges.size(); ++i) edges[i] = -1 + static_cast<double>(i) / 128;
    return edges;
  }();
  std::vector<int64_t> bins;
  for (const double number : normalized)
    bins.push_back(std::ranges::upper_bound(kEdges, number) - kEdges.begin() - 1);
  return bins;
}

std::string prompt_text(const std::string& task, const std::vector<int64_t>& bins) {
  std::string state;
  for (const int64_t bin : bins) append_item(state, " ", bin);
  return concat("Task: ", task, ", State: ", state, ";\n");
}

}  // namespace apo::models
