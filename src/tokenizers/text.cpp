#include "apo/tokenizers/text.h"

#include <sentencepiece_processor.h>

#include <algorithm>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/base/text.h"
#include "base/lfs_pointer.h"
#include "tokenizers/merged_pieces.h"

namespace apo::tokenizers {
namespace {

constexpr size_t kLongestExcerpt = 80;

// DataError "WHAT: expected UTF-8, ..." unless it is.
void check_utf8(const char* what, std::string_view text) {
  const size_t bad = utf8_size(text);
  if (bad == text.size()) return;
  throw DataError(concat(what, ": expected UTF-8, found the byte ",
                         static_cast<int>(static_cast<unsigned char>(text[bad])), " at position ", bad));
}

bool is_blank(std::string_view text) { return text.find_first_not_of(" \t\r\n") == std::string_view::npos; }

}  // namespace

struct TextTokenizer::State {
  std::filesystem::path path;
  sentencepiece::SentencePieceProcessor processor;
};

TextTokenizer::TextTokenizer(const std::filesystem::path& model) {
  std::string bytes = read_file(model);
  APO_CHECK(DataError, !bytes.empty(), model.string(),
            ": expected a SentencePiece model, found an empty file");
  refuse_lfs_pointer(model, bytes);
  if (model.extension() == ".json") bytes = sentencepiece_model_of(model);
  const auto state = std::make_shared<State>();
  state->path = model;
  const auto status = state->processor.LoadFromSerializedProto(bytes);
  APO_CHECK(DataError, status.ok() && state->processor.GetPieceSize() > 0, model.string(),
            ": expected a SentencePiece model, found ", bytes.size(),
            " bytes that are none or only a part of one");
  state_ = state;
}

std::vector<int64_t> TextTokenizer::encode(std::string_view text) const {
  check_utf8("text", text);
  std::vector<int> ids;
  const auto status = state_->processor.Encode(text, &ids);
  APO_CHECK(DataError, status.ok(), state_->path.string(), ": cannot encode \"",
            shortened(text, kLongestExcerpt), "\": ", status.ToString());
  return {ids.begin(), ids.end()};
}

std::string TextTokenizer::decode(const std::vector<int64_t>& ids) const {
  std::vector<int> pieces;
  pieces.reserve(ids.size());
  for (const int64_t id : ids) {
    APO_CHECK(DataError, id >= 0 && id < size(), state_->path.string(), ": expected ids in [0, ", size() - 1,
              "], found ", id);
    pieces.push_back(static_cast<int>(id));
  }
  std::string text;
  const auto status = state_->processor.Decode(pieces, &text);
  APO_CHECK(DataError, status.ok(), state_->path.string(), ": cannot decode: ", status.ToString());
  return text;
}

int64_t TextTokenizer::size() const { return state_->processor.GetPieceSize(); }

std::optional<int64_t> TextTokenizer::id(std::string_view piece) const {
  const int id = state_->processor.PieceToId(piece);  // the unknown token for what it does not know
  if (state_->processor.IdToPiece(id) != piece) return std::nullopt;
  return id;
}

std::string TextTokenizer::piece(int64_t id) const {
  APO_CHECK(DataError, id >= 0 && id < size(), state_->path.string(), ": expected ids in [0, ", size() - 1,
            "], found ", id);
  return state_->processor.IdToPiece(static_cast<int>(id));
}

int64_t TextTokenizer::bos() const { return state_->processor.bos_id(); }
int64_t TextTokenizer::eos() const { return state_->processor.eos_id(); }
int64_t TextTokenizer::unknown() const { return state_->processor.unk_id(); }
const std::filesystem::path& TextTokenizer::path() const { return state_->path; }

std::vector<int64_t> openvla_prompt(const TextTokenizer& tokenizer, std::string_view instruction,
                                    const OpenVlaPromptOptions& options) {
  APO_CHECK(
      DataError, !is_blank(instruction),
      "instruction: expected what the robot is asked to do, found an empty text (a data source may give one: "
      "`instruction:`)");
  check_utf8("instruction", instruction);
  const std::optional<int64_t> space = tokenizer.id("\u2581");
  APO_CHECK(DataError, tokenizer.bos() >= 0 && space, tokenizer.path().string(),
            ": OpenVLA's prompt needs the ", tokenizer.bos() < 0 ? "begin token" : "piece \"\u2581\"",
            ", which this model lacks");

  std::string task(instruction);
  if (options.underscores_to_spaces) std::ranges::replace(task, '_', ' ');
  if (options.lower_case)
    for (char& c : task) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  std::vector<int64_t> ids{tokenizer.bos()};
  for (const int64_t id : tokenizer.encode("In: What action should the robot take to " + task + "?\nOut:"))
    ids.push_back(id);
  if (ids.back() != *space) ids.push_back(*space);
  APO_CHECK(DataError, static_cast<int64_t>(ids.size()) <= options.max_tokens, "instruction \"",
            shortened(instruction, kLongestExcerpt), "\": expected a prompt of at most ", options.max_tokens,
            " tokens, found ", ids.size());
  return ids;
}

}  // namespace apo::tokenizers
