#include "apo/tokenizers/action_codec.h"

#include <torch/types.h>

#include "apo/base/error.h"

namespace apo::tokenizers {
namespace {

// [B, H] -> [B, H A]
at::Tensor for_each_number(const at::Tensor& valid, int64_t action_size) {
  return valid.unsqueeze(-1).expand({valid.size(0), valid.size(1), action_size}).flatten(1).contiguous();
}

at::Tensor dimensions(int64_t batch, int64_t horizon, int64_t action_size) {
  return at::arange(action_size, at::kLong).repeat({batch, horizon});
}

at::Tensor all_decoded(int64_t batch) { return at::ones({batch}, at::kBool); }

}  // namespace

ActionCodec::ActionCodec(int64_t action_size, int64_t horizon)
    : action_size_(action_size), horizon_(horizon) {
  APO_CHECK(ConfigError, action_size >= 1 && horizon >= 1,
            "action codec: expected at least one action of one number, found ", horizon, " of ", action_size);
}

CodedActions ActionCodec::encode(const at::Tensor& actions, const at::Tensor& valid) const {
  APO_CHECK(DataError, actions.dim() == 3 && actions.size(1) == horizon_ && actions.size(2) == action_size_,
            "actions: expected [B, ", horizon_, ", ", action_size_, "], found ", actions.sizes());
  APO_CHECK(DataError, !valid.defined() || valid.sizes() == actions.sizes().slice(0, 2),
            "valid steps of actions: expected ", actions.sizes().slice(0, 2), ", found ", valid.sizes());
  return encode_checked(actions, valid.defined() ? valid : at::ones({actions.size(0), horizon_}, at::kBool));
}

DecodedActions ActionCodec::decode(const at::Tensor& ids) const {
  APO_CHECK(DataError, ids.dim() == 2, "action tokens: expected [B, T], found ", ids.sizes());
  return decode_checked(ids);
}

BinCodec::BinCodec(const ActionBins& bins, int64_t action_size, int64_t horizon)
    : ActionCodec(action_size, horizon), bins_(bins) {}

CodedActions BinCodec::encode_checked(const at::Tensor& actions, const at::Tensor& valid) const {
  return {.ids = bins_.encode(actions.flatten(1)),
          .mask = for_each_number(valid, action_size()),
          .end_token = {},
          .dimension = dimensions(actions.size(0), horizon(), action_size())};
}

DecodedActions BinCodec::decode_checked(const at::Tensor& ids) const {
  APO_CHECK(DataError, ids.size(1) == max_length(), "action tokens: expected [B, ", max_length(), "], found ",
            ids.sizes());
  return {.actions = bins_.decode(ids).view({-1, horizon(), action_size()}),
          .decoded = all_decoded(ids.size(0)),
          .num_clamped = at::zeros({ids.size(0)}, at::kLong)};
}

VocabularyBinCodec::VocabularyBinCodec(const VocabularyActionBins& bins, std::optional<int64_t> end_token,
                                       int64_t action_size, int64_t horizon)
    : ActionCodec(action_size, horizon), bins_(bins), end_token_(end_token) {}

CodedActions VocabularyBinCodec::encode_checked(const at::Tensor& actions, const at::Tensor& valid) const {
  const int64_t batch = actions.size(0), length = max_length();
  CodedActions coded;
  if (!end_token_)
    return {.ids = bins_.encode(actions.flatten(1)),
            .mask = for_each_number(valid, action_size()),
            .end_token = {},
            .dimension = dimensions(batch, horizon(), action_size())};
  coded.ids = at::cat({bins_.encode(actions.flatten(1)), at::full({batch, 1}, *end_token_, at::kLong)}, 1);
  coded.mask = at::cat({for_each_number(valid, action_size()), at::ones({batch, 1}, at::kBool)}, 1);
  coded.end_token = at::zeros({batch, length}, at::kBool);
  coded.end_token.select(1, length - 1).fill_(true);
  coded.dimension =
      at::cat({dimensions(batch, horizon(), action_size()), at::full({batch, 1}, -1, at::kLong)}, 1);
  return coded;
}

DecodedActions VocabularyBinCodec::decode_checked(const at::Tensor& ids) const {
  const int64_t length = horizon() * action_size();
  APO_CHECK(DataError, ids.size(1) >= length, "action tokens: expected [B, ", length, " or more], found ",
            ids.sizes());
  const at::Tensor coding = ids.narrow(1, 0, length);
  return {.actions = bins_.decode(coding).view({-1, horizon(), action_size()}),
          .decoded = all_decoded(ids.size(0)),
          .num_clamped = coding.lt(bins_.first_id()).logical_or(coding.gt(bins_.last_id())).sum(1)};
}

}  // namespace apo::tokenizers
