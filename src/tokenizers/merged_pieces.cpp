#include "tokenizers/merged_pieces.h"

#include <bit>
#include <cstdint>
#include <map>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "apo/base/error.h"
#include "apo/base/text.h"
#include "base/json.h"

namespace apo::tokenizers {
namespace {

constexpr int64_t kMostPieces = 1 << 24;
const std::string kSpace = "\u2581";

// The types of sentencepiece_model.proto.
enum class PieceType : uint64_t { normal = 1, unknown = 2, control = 3, user_defined = 4, byte = 6 };

struct Piece {
  std::string text;
  PieceType type = PieceType::normal;
  float score = 0;
};

// Protocol-buffer messages: fields by number.
class Message {
 public:
  void number(uint64_t field, uint64_t value) {
    varint(field << 3);
    varint(value);
  }
  void float32(uint64_t field, float value) {
    varint(field << 3 | 5);
    const auto bits = std::bit_cast<uint32_t>(value);
    for (int shift = 0; shift < 32; shift += 8) bytes_ += static_cast<char>(bits >> shift);
  }
  void bytes(uint64_t field, std::string_view value) {
    varint(field << 3 | 2);
    varint(value.size());
    bytes_ += value;
  }
  const std::string& text() const { return bytes_; }

 private:
  void varint(uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_ += static_cast<char>(value | 0x80);
    bytes_ += static_cast<char>(value);
  }
  std::string bytes_;
};

bool is_byte_piece(std::string_view text) {
  const auto is_digit = [](char c) { return ('0' <= c && c <= '9') || ('A' <= c && c <= 'F'); };
  return text.size() == 6 && text.starts_with("<0x") && is_digit(text[3]) && is_digit(text[4]) &&
         text[5] == '>';
}

// Gemma's: spaces become "▁", and nothing is split off before the merges.
void check_kind(const JsonFile& file) {
  const JsonField model = file["model"];
  model["type"].expect(model["type"].raw() == "BPE", "\"BPE\"");
  model["byte_fallback"].expect(model["byte_fallback"].get_or(false), "true: bytes for what is no piece");
  model["dropout"].expect(!model["dropout"].present(), "null");
  model["ignore_merges"].expect(!model["ignore_merges"].get_or(false), "false");
  const JsonField normalizer = file["normalizer"];
  normalizer["type"].expect(normalizer["type"].raw() == "Replace", "\"Replace\", of spaces (as Gemma's)");
  normalizer["pattern"]["String"].expect(normalizer["pattern"]["String"].raw() == " ", "\" \"");
  normalizer["content"].expect(normalizer["content"].raw() == kSpace, concat("\"", kSpace, "\""));
  const JsonField split = file["pre_tokenizer"];
  if (!split.present()) return;
  split["type"].expect(split["type"].raw() == "Split",
                       "\"Split\", at spaces, of which none are left, or none");
  split["pattern"]["String"].expect(split["pattern"]["String"].raw() == " ", "\" \"");
}

std::vector<Piece> read_vocabulary(const JsonField& vocabulary) {
  const auto entries = vocabulary.entries();
  const auto count = std::ssize(entries);
  vocabulary.expect(count > 0 && count <= kMostPieces, "pieces with their ids");
  std::vector<Piece> pieces(static_cast<size_t>(count));
  for (const auto& [text, id] : entries) {
    Piece& piece = pieces[static_cast<size_t>(id.integer(0, count - 1))];
    id.expect(piece.text.empty() && !text.empty(), "an id that no other piece has");
    piece.text = text;
    if (is_byte_piece(text)) piece.type = PieceType::byte;
  }
  return pieces;
}

// "a b" or ["a", "b"].
std::string merged(const JsonField& pair) {
  std::string left, right;
  if (pair.raw().is_string()) {
    const auto text = pair.get<std::string>();
    const size_t space = text.find(' ');
    pair.expect(space != std::string::npos, "two pieces");
    return text.substr(0, space) + text.substr(space + 1);
  }
  const auto two = pair.get<std::vector<std::string>>();
  pair.expect(two.size() == 2, "two pieces");
  return two[0] + two[1];
}

// The earlier a pair is merged, the higher the score of what comes of it.
void score_merges(const JsonField& merges, const std::map<std::string, size_t>& ids,
                  std::vector<Piece>& pieces) {
  const auto list = merges.list();
  std::vector<bool> is_scored(pieces.size());
  float rank = 0;
  for (const JsonField& pair : list) {
    const auto found = ids.find(merged(pair));
    pair.expect(found != ids.end(), "pieces that make another one of the vocabulary");
    if (is_scored[found->second]) continue;
    is_scored[found->second] = true;
    pieces[found->second].score = -rank;
    ++rank;
  }
  for (size_t id = 0; id < pieces.size(); ++id)
    if (!is_scored[id]) pieces[id].score = -rank - 1;
}

std::optional<size_t> id_of(const std::map<std::string, size_t>& ids,
                            std::initializer_list<const char*> names) {
  for (const char* name : names)
    if (const auto found = ids.find(name); found != ids.end()) return found->second;
  return std::nullopt;
}

void mark_added(const JsonField& added, std::vector<Piece>& pieces) {
  for (const JsonField& token : added.list()) {
    const auto id = static_cast<size_t>(token["id"].integer(0, int64_t{kMostPieces} * 2));
    if (id >= pieces.size()) continue;
    const auto content = token["content"].get<std::string>();
    token["content"].expect(content == pieces[id].text,
                            concat("\"", pieces[id].text, "\", the piece of that id"));
    if (pieces[id].type == PieceType::byte) continue;
    pieces[id].type = token["special"].get_or(false) ? PieceType::control : PieceType::user_defined;
  }
}

}  // namespace

std::string sentencepiece_model_of(const std::filesystem::path& tokenizer_json) {
  const JsonFile file(tokenizer_json);
  check_kind(file);
  std::vector<Piece> pieces = read_vocabulary(file["model"]["vocab"]);
  std::map<std::string, size_t> ids;
  for (size_t id = 0; id < pieces.size(); ++id) ids.emplace(pieces[id].text, id);
  score_merges(file["model"]["merges"], ids, pieces);
  mark_added(file["added_tokens"], pieces);

  constexpr uint64_t kBpe = 2, kAbsent = ~uint64_t{0};
  Message trainer;
  trainer.number(3, kBpe);
  trainer.number(4, pieces.size());
  trainer.number(35, true);  // byte_fallback
  const auto role = [&](uint64_t id_field, uint64_t name_field, PieceType type,
                        std::initializer_list<const char*> names) {
    const std::optional<size_t> id = id_of(ids, names);
    trainer.number(id_field, id ? *id : kAbsent);
    if (!id) return;
    trainer.bytes(name_field, pieces[*id].text);
    pieces[*id].type = type;
  };
  role(40, 45, PieceType::unknown, {"<unk>"});
  role(41, 46, PieceType::control, {"<bos>", "<s>"});
  role(42, 47, PieceType::control, {"<eos>", "</s>"});
  role(43, 48, PieceType::control, {"<pad>"});
  file["model"]["vocab"].expect(id_of(ids, {"<unk>"}).has_value(), "a piece <unk>");

  Message normalizer;
  normalizer.bytes(1, "identity");
  for (const uint64_t off : {3, 4}) normalizer.number(off, false);  // dummy prefix, extra spaces removed
  normalizer.number(5, true);                                       // spaces as "▁"
  Message model;
  for (const Piece& piece : pieces) {
    Message one;
    one.bytes(1, piece.text);
    one.float32(2, piece.score);
    one.number(3, static_cast<uint64_t>(piece.type));
    model.bytes(1, one.text());
  }
  model.bytes(2, trainer.text());
  model.bytes(3, normalizer.text());
  return model.text();
}

}  // namespace apo::tokenizers
