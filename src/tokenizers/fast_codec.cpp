#include "apo/tokenizers/fast_codec.h"

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <span>

#include "apo/base/error.h"

namespace apo::tokenizers {
namespace {

struct Codes {
  std::vector<int64_t> codes;
  bool has_others = false;
};

// The codes of one answer, up to the first bar.
Codes codes_in(std::span<const int64_t> ids, const FastCodec& codec) {
  const FastAnswer& answer = codec.answer();
  Codes found;
  size_t t = 0;
  while (t < ids.size() && t < answer.prefix.size() && ids[t] == answer.prefix[t]) ++t;
  found.has_others = t < answer.prefix.size();
  for (; t < ids.size() && ids[t] != answer.bar; ++t) {
    if (const auto code = codec.code_of(ids[t]))
      found.codes.push_back(*code);
    else if (ids[t] != answer.end && ids[t] != answer.padding)
      found.has_others = true;
  }
  return found;
}

}  // namespace

FastCodec::FastCodec(const FastTokenizer& tokenizer, FastAnswer answer, int64_t action_size, int64_t horizon)
    : ActionCodec(action_size, horizon), tokenizer_(tokenizer), answer_(std::move(answer)) {
  const FastConfig& made = tokenizer_.config();
  APO_CHECK(ConfigError, made.horizon == 0 || made.horizon == horizon, "FAST tokenizer: made for chunks of ",
            made.horizon, " actions, expected ", horizon);
  APO_CHECK(ConfigError, made.action_size == 0 || made.action_size == action_size,
            "FAST tokenizer: made for actions of ", made.action_size, " numbers, expected ", action_size);
  APO_CHECK(ConfigError, answer_.first_code >= tokenizer_.size() - 1, "FAST tokenizer: ", tokenizer_.size(),
            " codes, the first of which is the id ", answer_.first_code,
            "; expected a vocabulary that holds them all");
}

int64_t FastCodec::max_length() const {
  return std::ssize(answer_.prefix) + 3 * horizon() * action_size() + 2;
}

std::optional<int64_t> FastCodec::code_of(int64_t id) const {
  const int64_t code = answer_.first_code - id;
  return code >= 0 && code < tokenizer_.size() ? std::optional(code) : std::nullopt;
}

CodedActions FastCodec::encode_checked(const at::Tensor& actions, const at::Tensor&) const {
  const int64_t batch = actions.size(0), size = horizon() * action_size();
  const at::Tensor numbers = actions.to(at::kCPU, at::kDouble).contiguous();
  CodedActions coded;
  std::vector<std::vector<int64_t>> answers;
  size_t longest = 0;
  for (int64_t row = 0; row < batch; ++row) {
    const FastTokenizer::Encoded encoded = tokenizer_.encode(
        {numbers.const_data_ptr<double>() + row * size, static_cast<size_t>(size)}, horizon());
    coded.num_clipped += encoded.num_clipped;
    std::vector<int64_t>& ids = answers.emplace_back(answer_.prefix);
    for (const int64_t code : encoded.codes) ids.push_back(answer_.first_code - code);
    ids.push_back(answer_.bar);
    ids.push_back(answer_.end);
    longest = std::max(longest, ids.size());
  }
  const auto length = static_cast<int64_t>(longest);
  coded.ids = at::full({batch, length}, answer_.padding, at::kLong);
  coded.mask = at::zeros({batch, length}, at::kBool);
  coded.end_token = at::zeros({batch, length}, at::kBool);
  coded.dimension = at::full({batch, length}, -1, at::kLong);
  for (int64_t row = 0; row < batch; ++row) {
    const std::vector<int64_t>& ids = answers[static_cast<size_t>(row)];
    std::ranges::copy(ids, coded.ids.data_ptr<int64_t>() + row * length);
    std::fill_n(coded.mask.data_ptr<bool>() + row * length, ids.size(), true);
    coded.end_token.data_ptr<bool>()[row * length + std::ssize(ids) - 1] = true;
  }
  return coded;
}

DecodedActions FastCodec::decode_checked(const at::Tensor& ids) const {
  const at::Tensor here = ids.to(at::kCPU, at::kLong).contiguous();
  const int64_t batch = here.size(0), length = here.size(1), size = horizon() * action_size();
  DecodedActions decoded{.actions = at::empty({batch, horizon(), action_size()}, at::kFloat),
                         .decoded = at::ones({batch}, at::kBool),
                         .num_clamped = at::zeros({batch}, at::kLong),
                         .malformed = at::zeros({batch}, at::kBool)};
  for (int64_t row = 0; row < batch; ++row) {
    const Codes found =
        codes_in({here.const_data_ptr<int64_t>() + row * length, static_cast<size_t>(length)}, *this);
    const FastTokenizer::Decoded chunk = tokenizer_.decode(found.codes, horizon(), action_size());
    std::ranges::transform(chunk.actions, decoded.actions.data_ptr<float>() + row * size,
                           [](double number) { return static_cast<float>(number); });
    decoded.malformed.data_ptr<bool>()[row] = chunk.malformed || found.has_others;
  }
  decoded.actions = decoded.actions.to(ids.device());
  return decoded;
}

}  // namespace apo::tokenizers
