// Byte-level byte pair encoding: the `tokenizer.json` of GPT-2's kind.
#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace apo::tokenizers {

/// The words that GPT-2's rule cuts a text into, as [begin, end) of its characters: contractions ('s 't 're
/// 've 'm 'll 'd), runs of letters, of numbers or of other characters with a space before them, and blanks.
std::vector<std::pair<size_t, size_t>> split_words_as_gpt2(std::u32string_view text);

/// A character for each byte: printable ones stand for themselves, the others for U+0100 and up.
char32_t character_of_byte(unsigned char byte);

/// The words of some texts as those characters, with how often each occurs; made a tokenizer of.
///
/// `alphabet` are pieces whatever occurs, and so is every character that does, by their numbers; then the
/// pair that occurs most often (of several, the one of the lowest ids) becomes a piece, as long as it occurs
/// `min_count` times and there are fewer than `size` pieces.
/// Source  the BpeTrainer of `tokenizers`, whose pieces and merges these are
class ByteBpe;
ByteBpe train_byte_bpe(const std::vector<std::u32string>& texts, const std::u32string& alphabet, int64_t size,
                       int64_t min_count);

/// Pieces and merges, const after construction.
class ByteBpe {
 public:
  /// Pieces by id, and pairs of ids that merge, the first ones first. Pieces are texts of characters that
  /// stand for bytes (character_of_byte); one with another character in it stands for its own UTF-8.
  ByteBpe(std::vector<std::string> pieces, std::vector<std::pair<int64_t, int64_t>> merges);
  /// Reads tokenizer.json. DataError naming file and key: missing, not BPE, ids with gaps, a merge of pieces
  /// that there are not, added tokens, or a normalizer, pre-tokenizer or decoder other than ByteLevel's.
  static ByteBpe read(const std::filesystem::path& file);

  /// Writes it as `tokenizers` reads it.
  void write(const std::filesystem::path& file) const;

  const std::vector<std::string>& pieces() const { return pieces_; }
  const std::vector<std::pair<int64_t, int64_t>>& merges() const { return merge_list_; }
  int64_t size() const { return static_cast<int64_t>(pieces_.size()); }
  struct Encoded {
    std::vector<int64_t> ids;
    int64_t num_dropped = 0;  ///< bytes without a piece of their own, which vanish
  };
  /// Characters that are no surrogates.
  Encoded encode(std::u32string_view text) const;
  /// What a piece stands for. Bug for an id outside [0, size()).
  const std::string& bytes(int64_t id) const { return bytes_.at(static_cast<size_t>(id)); }

 private:
  void encode_word(std::u32string_view word, Encoded& encoded) const;

  struct Merge {
    int64_t rank, id;
  };
  static constexpr Merge kNone{std::numeric_limits<int64_t>::max(), -1};

  std::vector<std::string> pieces_, bytes_;
  std::vector<std::pair<int64_t, int64_t>> merge_list_;
  std::vector<int64_t> of_byte_;                // [256] ids of single bytes, -1: none
  std::unordered_map<uint64_t, Merge> merges_;  // by both ids
};

}  // namespace apo::tokenizers
