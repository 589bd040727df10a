#include "data/spool.h"

#include <algorithm>
#include <charconv>
#include <string>
#include <string_view>
#include <utility>

#include "apo/base/error.h"
#include "base/paths.h"

namespace apo::data {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kEpisode = ".episode-", kInto = ".into-", kJournal = ".journal";

std::optional<int64_t> take_number(std::string_view& text) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || number < 0) return std::nullopt;
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  return number;
}

}  // namespace

fs::path spool_path(const fs::path& file, int64_t number) {
  return concat(file.string(), kEpisode, number, kJournal);
}

fs::path into_path(const fs::path& file, int64_t number, int64_t into) {
  return concat(file.string(), kEpisode, number, kInto, into, kJournal);
}

std::vector<SpooledEpisode> left_behind(const fs::path& file) {
  std::vector<SpooledEpisode> found;
  const std::string head = file.filename().string() + std::string(kEpisode);
  for (const std::string& name : names_in(parent_of(file))) {
    if (!name.starts_with(head)) continue;
    std::string_view rest = std::string_view(name).substr(head.size());
    SpooledEpisode left{.path = parent_of(file) / name};
    const auto number = take_number(rest);
    if (!number) continue;
    left.number = *number;
    if (rest.starts_with(kInto)) {
      rest.remove_prefix(kInto.size());
      left.into = take_number(rest);
      if (!left.into) continue;
    }
    if (rest == kJournal) found.push_back(std::move(left));
  }
  std::ranges::sort(found, {}, [](const SpooledEpisode& left) { return std::pair(!left.into, left.number); });
  return found;
}

}  // namespace apo::data
