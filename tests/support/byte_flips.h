// Changed bytes anywhere in a file: what a reader makes of each must be an error or what it read before.
//
// APO_FLIPS=N runs N of them instead of some hundreds; APO_FLIPS_FROM=N begins at the Nth.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <string>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/base/random.h"

namespace apo::testing {

struct FlipCounts {
  int64_t same = 0, refused = 0, different = 0;
};

inline int64_t number_from_environment(const char* name, int64_t otherwise) {
  const char* text = std::getenv(name);
  return text ? std::atoll(text) : otherwise;
}

/// Reads `flips` copies of the file `original`, each with one byte changed, one bit in every second. `read`
/// says what it made of the file at `target`; a DataError or ConfigError refuses it. `different(byte, what)`
/// judges what was read as something else than the original.
inline FlipCounts flip_bytes(const std::filesystem::path& original, const std::filesystem::path& target,
                             int64_t flips, const std::function<std::string()>& read,
                             const std::function<void(size_t byte, const std::string& what)>& different) {
  const std::string bytes = read_file(original);
  const auto write = [&target](const std::string& all) {
    std::ofstream(target, std::ios::binary | std::ios::trunc)
        .write(all.data(), static_cast<std::streamsize>(all.size()));
  };
  write(bytes);
  const std::string expected = read();
  FlipCounts counts;
  const int64_t from = number_from_environment("APO_FLIPS_FROM", 0);
  flips = number_from_environment("APO_FLIPS", flips);
  for (int64_t i = from; i < from + flips; ++i) {
    const uint64_t draw = mix_seed(1, "byte flips", static_cast<uint64_t>(i));
    const size_t at = draw % bytes.size();
    const auto mask = static_cast<unsigned char>(i % 2 ? 1u << (draw >> 40) % 8 : 1 + (draw >> 40) % 255);
    std::string changed = bytes;
    changed[at] = static_cast<char>(static_cast<unsigned char>(changed[at]) ^ mask);
    write(changed);
    try {
      const std::string found = read();
      if (found == expected)
        ++counts.same;
      else
        ++counts.different, different(at, found);
    } catch (const DataError&) {
      ++counts.refused;
    } catch (const ConfigError&) {
      ++counts.refused;
    }
    if (flips > 10000 && (i + 1 - from) % 10000 == 0)
      std::cout << original.filename().string() << ": " << i + 1 - from << " bytes changed, "
                << counts.refused << " refused, " << counts.same << " without effect, " << counts.different
                << " read as something else\n"
                << std::flush;
  }
  return counts;
}

}  // namespace apo::testing
