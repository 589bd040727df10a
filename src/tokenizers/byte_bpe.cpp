#include "tokenizers/byte_bpe.h"

#include <algorithm>
#include <array>
#include <map>

#include "apo/base/error.h"
#include "base/json.h"
#include "tokenizers/unicode_classes.h"
#include "tokenizers/utf8.h"

namespace apo::tokenizers {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::array<std::u32string_view, 7> kContractions{U"'s", U"'t",  U"'re", U"'ve",
                                                           U"'m", U"'ll", U"'d"};
constexpr int64_t kMostPieces = 1 << 24;

uint64_t pair_key(int64_t left, int64_t right) {
  return (static_cast<uint64_t>(left) << 32) | static_cast<uint64_t>(right);
}

std::array<char32_t, 256> byte_characters() {
  std::array<char32_t, 256> all{};
  char32_t next = 256;
  for (unsigned byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    all[byte] = printable ? byte : next++;
  }
  return all;
}

// The bytes that a piece's characters stand for; its own where one of them stands for none.
std::string bytes_of_piece(const std::string& piece) {
  static const std::map<char32_t, unsigned char> kBytes = [] {
    std::map<char32_t, unsigned char> all;
    for (unsigned byte = 0; byte < 256; ++byte)
      all[character_of_byte(static_cast<unsigned char>(byte))] = static_cast<unsigned char>(byte);
    return all;
  }();
  std::string bytes;
  for (const char32_t character : from_utf8_lossy(piece)) {
    const auto found = kBytes.find(character);
    if (found == kBytes.end()) return piece;
    bytes += static_cast<char>(found->second);
  }
  return bytes;
}

void expect_absent(const JsonField& field, const char* what) {
  const bool empty = !field.present() || (field.raw().is_string() && field.raw().get<std::string>().empty());
  field.expect(empty, what);
}

// A part of tokenizer.json that is ByteLevel's, or of no part at all where `may_lack`.
void expect_byte_level(const JsonFile& file, const std::string& key, bool may_lack) {
  const JsonField field = file[key];
  if (!field.present() && may_lack) return;
  field["type"].expect(field["type"].raw() == "ByteLevel", "\"ByteLevel\"");
}

std::vector<std::string> read_pieces(const JsonFile& file) {
  const JsonField vocabulary = file["model"]["vocab"];
  vocabulary.expect(vocabulary.raw().is_object() && !vocabulary.raw().empty(), "pieces with their ids");
  std::vector<std::string> pieces(vocabulary.raw().size());
  std::vector<bool> seen(pieces.size());
  for (const auto& [piece, id] : vocabulary.entries()) {
    const auto at = static_cast<size_t>(id.integer(0, kMostPieces));
    id.expect(
        at < pieces.size() && !seen[at],
        concat("an id below ", pieces.size(), " (as many as there are pieces) that no other piece has"));
    pieces[at] = piece;
    seen[at] = true;
  }
  return pieces;
}

std::vector<std::pair<int64_t, int64_t>> read_merges(const JsonFile& file,
                                                     const std::vector<std::string>& pieces) {
  std::unordered_map<std::string, int64_t> ids;
  for (size_t i = 0; i < pieces.size(); ++i) ids[pieces[i]] = static_cast<int64_t>(i);
  std::vector<std::pair<int64_t, int64_t>> merges;
  for (const JsonField& field : file["model"]["merges"].list()) {
    std::string left, right;
    if (field.raw().is_string()) {  // as older releases of tokenizers write
      const std::string both = field.get<std::string>();
      const size_t space = both.find(' ');
      field.expect(space != std::string::npos && both.find(' ', space + 1) == std::string::npos,
                   "two pieces with a space between them");
      left = both.substr(0, space), right = both.substr(space + 1);
    } else {
      const auto both = field.get<std::vector<std::string>>();
      field.expect(both.size() == 2, "two pieces");
      left = both[0], right = both[1];
    }
    field.expect(ids.contains(left) && ids.contains(right) && ids.contains(left + right),
                 "two pieces of model.vocab that make a third of it");
    merges.emplace_back(ids[left], ids[right]);
  }
  return merges;
}

}  // namespace

char32_t character_of_byte(unsigned char byte) {
  static const std::array<char32_t, 256> kCharacters = byte_characters();
  return kCharacters[byte];
}

std::vector<std::pair<size_t, size_t>> split_words_as_gpt2(std::u32string_view text) {
  std::vector<std::pair<size_t, size_t>> words;
  const size_t size = text.size();
  for (size_t begin = 0, end; begin < size; begin = end) {
    const auto contraction = std::ranges::find_if(
        kContractions, [&](std::u32string_view c) { return text.substr(begin, c.size()) == c; });
    if (contraction != kContractions.end()) {
      end = begin + contraction->size();
    } else {
      const size_t first = text[begin] == U' ' && begin + 1 < size ? begin + 1 : begin;
      const CharacterClass kind = class_of(text[first]);
      end = first;
      if (kind != CharacterClass::blank) {
        while (end < size && class_of(text[end]) == kind) ++end;
      } else {
        end = begin;
        while (end < size && class_of(text[end]) == CharacterClass::blank) ++end;
        if (end < size && end - begin > 1) --end;  // the last blank belongs to what follows
      }
    }
    words.emplace_back(begin, end);
  }
  return words;
}

ByteBpe::ByteBpe(std::vector<std::string> pieces, std::vector<std::pair<int64_t, int64_t>> merges)
    : pieces_(std::move(pieces)), merge_list_(std::move(merges)), of_byte_(256, -1) {
  std::unordered_map<std::string, int64_t> ids;
  for (size_t i = 0; i < pieces_.size(); ++i) {
    ids[pieces_[i]] = static_cast<int64_t>(i);
    bytes_.push_back(bytes_of_piece(pieces_[i]));
  }
  for (unsigned byte = 0; byte < 256; ++byte) {
    std::string piece;
    append_utf8(piece, character_of_byte(static_cast<unsigned char>(byte)));
    if (const auto found = ids.find(piece); found != ids.end()) of_byte_[byte] = found->second;
  }
  for (size_t rank = 0; rank < merge_list_.size(); ++rank) {
    const auto [left, right] = merge_list_[rank];
    const auto made =
        ids.find(pieces_.at(static_cast<size_t>(left)) + pieces_.at(static_cast<size_t>(right)));
    APO_ASSERT(made != ids.end());
    // the same pair again counts with its last rank, as in tokenizers
    merges_[pair_key(left, right)] = {static_cast<int64_t>(rank), made->second};
  }
}

ByteBpe ByteBpe::read(const fs::path& path) {
  const JsonFile file(path);
  file["model"].expect(file["model"].raw().is_object(), "a BPE model");
  file["model"]["type"].expect(file["model"]["type"].raw() == "BPE", "\"BPE\"");
  file["added_tokens"].expect(file["added_tokens"].list().empty(),
                              "no added tokens: those of a FAST tokenizer are pieces of its model");
  expect_absent(file["normalizer"], "none");
  expect_byte_level(file, "pre_tokenizer", false);
  file["pre_tokenizer"]["add_prefix_space"].expect(!file["pre_tokenizer"]["add_prefix_space"].get_or(false),
                                                   "false");
  const bool splits = file["pre_tokenizer"]["use_regex"].get_or(true);
  file["pre_tokenizer"]["use_regex"].expect(splits, "true");
  expect_byte_level(file, "post_processor", true);
  expect_byte_level(file, "decoder", false);
  const JsonField model = file["model"];
  for (const char* key : {"dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix"})
    expect_absent(model[key], "none");
  for (const char* key : {"fuse_unk", "byte_fallback", "ignore_merges"})
    model[key].expect(!model[key].get_or(false), "false");
  std::vector<std::string> pieces = read_pieces(file);
  auto merges = read_merges(file, pieces);
  return {std::move(pieces), std::move(merges)};
}

void ByteBpe::write(const fs::path& file) const {
  using nlohmann::ordered_json;
  const auto byte_level = [](bool trims, bool adds_space) {
    return ordered_json{{"type", "ByteLevel"},
                        {"add_prefix_space", adds_space},
                        {"trim_offsets", trims},
                        {"use_regex", true}};
  };
  ordered_json vocabulary = ordered_json::object(), merges = ordered_json::array();
  for (size_t id = 0; id < pieces_.size(); ++id) vocabulary[pieces_[id]] = id;
  for (const auto& [left, right] : merge_list_)
    merges.push_back({pieces_[static_cast<size_t>(left)], pieces_[static_cast<size_t>(right)]});
  write_json(file, {{"version", "1.0"},
                    {"truncation", nullptr},
                    {"padding", nullptr},
                    {"added_tokens", ordered_json::array()},
                    {"normalizer", nullptr},
                    {"pre_tokenizer", byte_level(true, false)},
                    {"post_processor", byte_level(false, true)},
                    {"decoder", byte_level(true, true)},
                    {"model",
                     {{"type", "BPE"},
                      {"dropout", nullptr},
                      {"unk_token", nullptr},
                      {"continuing_subword_prefix", ""},
                      {"end_of_word_suffix", ""},
                      {"fuse_unk", false},
                      {"byte_fallback", false},
                      {"ignore_merges", false},
                      {"vocab", std::move(vocabulary)},
                      {"merges", std::move(merges)}}}});
}

ByteBpe::Encoded ByteBpe::encode(std::u32string_view text) const {
  Encoded encoded;
  for (const auto& [begin, end] : split_words_as_gpt2(text))
    encode_word(text.substr(begin, end - begin), encoded);
  return encoded;
}

// Merges the pair of the lowest rank, the first of several, until none is left.
void ByteBpe::encode_word(std::u32string_view word, Encoded& encoded) const {
  std::string bytes;
  for (const char32_t character : word) append_utf8(bytes, character);
  std::vector<int64_t> symbols;
  for (const char byte : bytes) {
    const int64_t id = of_byte_[static_cast<unsigned char>(byte)];
    if (id < 0)
      ++encoded.num_dropped;
    else
      symbols.push_back(id);
  }
  // of each symbol and the next one
  std::vector<Merge> next(symbols.size(), kNone);
  const auto look = [&](size_t i) {
    const auto found =
        i + 1 < symbols.size() ? merges_.find(pair_key(symbols[i], symbols[i + 1])) : merges_.end();
    next[i] = found != merges_.end() ? found->second : kNone;
  };
  for (size_t i = 0; i < symbols.size(); ++i) look(i);
  while (true) {
    const auto best = std::ranges::min_element(next, {}, &Merge::rank);
    if (best == next.end() || best->rank == kNone.rank) break;
    const auto i = static_cast<size_t>(best - next.begin());
    symbols[i] = best->id;
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(i) + 1);
    next.erase(next.begin() + static_cast<std::ptrdiff_t>(i) + 1);
    look(i);
    if (i > 0) look(i - 1);
  }
  encoded.ids.insert(encoded.ids.end(), symbols.begin(), symbols.end());
}

}  // namespace apo::tokenizers
