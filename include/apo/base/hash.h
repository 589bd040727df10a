// Content hashes: what a file held when it was written, so that damage is noticed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

namespace apo {

/// XXH3's 128 bits over bytes as they come, equal on every machine. Against damage, not against forgers.
///
/// Source  xxHash 0.8 (libxxhash's header), seed 0; `content_hash(bytes)` is what `xxhsum -H2` prints.
class ContentHash {
 public:
  ContentHash();
  ~ContentHash();
  ContentHash(ContentHash&&) noexcept;
  ContentHash& operator=(ContentHash&&) noexcept;

  /// The bytes alone: how they are split over calls makes no difference.
  void add(const void* bytes, size_t size);
  void add(std::string_view bytes) { add(bytes.data(), bytes.size()); }
  /// Eight bytes, the lowest first.
  void add_number(int64_t number);
  /// The text's length and the text, so that neighbours do not run into each other.
  void add_text(std::string_view text);
  /// 32 hex digits of what was added so far.
  std::string text() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// 32 hex digits.
std::string content_hash(std::string_view bytes);
/// The same of a file, read in pieces. DataError naming the path if it cannot be read.
std::string file_hash(const std::filesystem::path& path);

}  // namespace apo
