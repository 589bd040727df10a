// FAST codes as answers of a language model (pi0-FAST).
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "apo/tokenizers/action_codec.h"
#include "apo/tokenizers/fast.h"

namespace apo::tokenizers {

/// The ids of an answer: the prefix ("Action: "), the codes, the bar ("|") and the end token.
struct FastAnswer {
  std::vector<int64_t> prefix;
  int64_t first_code = 0;  ///< id of code 0; code c is first_code − c
  int64_t bar = 0, end = 0;
  int64_t padding = 0;  ///< what stands behind shorter answers of a batch
};

/// Answers of variable length. All of its H actions are in every part of an answer; the end token is marked.
/// Of decoded ids, the codes between the prefix and the first bar count; ids that are no codes vanish there
/// and make the answer malformed, as what FastTokenizer::decode says does.
class FastCodec final : public ActionCodec {
 public:
  /// ConfigError for a tokenizer that was made for another H or A, or codes below id 0.
  FastCodec(const FastTokenizer& tokenizer, FastAnswer answer, int64_t action_size, int64_t horizon);

  /// Of three codes a coefficient, which no tokenizer exceeds.
  int64_t max_length() const override;
  std::optional<TokenRange> bins() const override { return std::nullopt; }
  bool codes_whole_chunks() const override { return true; }
  std::optional<int64_t> padding() const override { return answer_.padding; }

  const FastTokenizer& tokenizer() const { return tokenizer_; }
  const FastAnswer& answer() const { return answer_; }
  /// The code of an id; nothing for other ids.
  std::optional<int64_t> code_of(int64_t id) const;

 protected:
  CodedActions encode_checked(const at::Tensor& actions, const at::Tensor& valid) const override;
  DecodedActions decode_checked(const at::Tensor& ids) const override;

 private:
  FastTokenizer tokenizer_;
  FastAnswer answer_;
};

}  // namespace apo::tokenizers
