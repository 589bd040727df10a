// Text as the token ids of a SentencePiece model, and the prompt that OpenVLA puts around an instruction.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace apo::tokenizers {

/// A SentencePiece model (the `tokenizer.model` of Llama-2, PaliGemma, ...), or a `tokenizer.json` that was
/// made of one (Gemma's, PaliGemma's): pairs of pieces merged by rank, bytes for what is no piece. Copies
/// share the model; const members may be called from any thread.
class TextTokenizer {
 public:
  /// DataError naming the file: missing, empty, truncated, or not a SentencePiece model; a .json that holds
  /// another kind of tokenizer, naming the key.
  explicit TextTokenizer(const std::filesystem::path& model);

  /// The ids of a text, as the model normalises and splits it; neither begin nor end token is added, and
  /// pieces that look like control tokens ("</s>") are plain text. Empty for an empty text.
  /// DataError naming the first byte that is not UTF-8.
  std::vector<int64_t> encode(std::string_view text) const;
  /// The text of the ids; control tokens vanish. DataError for an id outside [0, size()).
  std::string decode(const std::vector<int64_t>& ids) const;

  /// How many pieces there are, control tokens and bytes included.
  int64_t size() const;
  /// The id of exactly this piece ("▁" is a lone space); nothing if the model lacks it.
  std::optional<int64_t> id(std::string_view piece) const;
  /// The piece of an id. DataError for an id outside [0, size()).
  std::string piece(int64_t id) const;
  /// -1 where the model has no such token.
  int64_t bos() const;
  int64_t eos() const;
  int64_t unknown() const;

  /// The file it was read from, for messages.
  const std::filesystem::path& path() const;

 private:
  struct State;
  std::shared_ptr<const State> state_;
};

/// How an instruction becomes OpenVLA's prompt.
struct OpenVlaPromptOptions {
  bool lower_case = false;             ///< A-Z to a-z, as OpenVLA does at inference (training does not)
  bool underscores_to_spaces = false;  ///< as APO's training data code does with task names
  int64_t max_tokens = 2048;           ///< longer prompts are refused, never cut
};

/// The ids of BOS, "In: What action should the robot take to {instruction}?\nOut:", and the lone "▁" piece
/// that stands before the action tokens (29871 in Llama-2; looked up by piece, appended if the prompt does
/// not end with it).
///
/// Source  OpenVLA's prompt builder and `predict_action`; the released APO code ends the text with a space at
///         evaluation, which gives the same ids
/// Errors  DataError for an instruction that is empty, not UTF-8 or too long, or for a model without BOS or
///         "▁"
std::vector<int64_t> openvla_prompt(const TextTokenizer& tokenizer, std::string_view instruction,
                                    const OpenVlaPromptOptions& options = {});

}  // namespace apo::tokenizers
