// The journals of episodes that are recorded, or wait to join their file: how they are called, and which are
// there.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <vector>

namespace apo::data {

/// The journal of an episode: FILE.episode-3.journal, and while it is brought in
/// FILE.episode-3.into-7.journal, for it becomes demo_7. No other is brought in before it has its first name
/// back or is gone.
struct SpooledEpisode {
  std::filesystem::path path;
  int64_t number = 0;
  std::optional<int64_t> into = {};
};

std::filesystem::path spool_path(const std::filesystem::path& file, int64_t number);
std::filesystem::path into_path(const std::filesystem::path& file, int64_t number, int64_t into);

/// What a stopped recorder left beside `file`: what it was bringing in, then the others in the order of their
/// numbers.
std::vector<SpooledEpisode> left_behind(const std::filesystem::path& file);

}  // namespace apo::data
