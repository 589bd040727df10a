// Chunks of actions as answers of tokens: one face for every way to code them.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

#include "apo/tokenizers/action_bins.h"

namespace apo::tokenizers {

/// Answers, padded to one length.
struct CodedActions {
  at::Tensor ids = {};   ///< [B, T] int64
  at::Tensor mask = {};  ///< [B, T] bool, false at padding and at steps that are not valid
  /// [B, T] bool, true at the end-of-action token; undefined if the code has none
  at::Tensor end_token = {};
  /// [B, T] int64 action dimension that a token codes, -1 where it codes none alone
  at::Tensor dimension = {};
  int64_t num_clipped = 0;  ///< of the whole batch: parts of the code that cannot be expressed
};

struct DecodedActions {
  at::Tensor actions;      ///< [B, H, A] float32, normalised; 0 in rows that did not decode
  at::Tensor decoded;      ///< [B] bool, on the CPU; false: the tokens are no code of any actions
  at::Tensor num_clamped;  ///< [B] int64: tokens that were no action tokens, for which the nearest was taken
  /// [B] bool, on the CPU: the tokens are no whole code, and the actions what could be made of them;
  /// undefined: never
  at::Tensor malformed = {};
};

/// Ids in the order of the bins that they stand for, either way.
struct TokenRange {
  int64_t first = 0, last = 0;
  bool operator==(const TokenRange&) const = default;
};

/// How normalised actions [B, H, A] become token ids and back; H is the horizon, 1 without chunks. Const
/// members may be called from any thread.
class ActionCodec {
 public:
  ActionCodec(int64_t action_size, int64_t horizon);
  virtual ~ActionCodec() = default;

  int64_t action_size() const { return action_size_; }  ///< A
  int64_t horizon() const { return horizon_; }          ///< H
  /// The longest answer, T.
  virtual int64_t max_length() const = 0;
  /// The ids that code one bin of one dimension each, neighbours being neighbours: what label smoothing and a
  /// credit by dimension need. Nothing: tokens of this code mean no such thing.
  virtual std::optional<TokenRange> bins() const = 0;
  /// An answer codes its H actions all at once, so that none of them can be left out of it: a chunk that ends
  /// before H goes on with its last action.
  virtual bool codes_whole_chunks() const { return false; }
  /// The id behind shorter answers of a batch; nothing: all are of one length.
  virtual std::optional<int64_t> padding() const { return std::nullopt; }

  /// Shapes  actions [B, H, A] floating-point in [-1, 1], `valid` [B, H] bool (undefined: all)
  /// Errors  DataError for another shape or NaN
  CodedActions encode(const at::Tensor& actions, const at::Tensor& valid = {}) const;
  /// Shapes  ids [B, T] int64 on any device, as long as encoded ones or longer; the rest is not read
  /// Errors  DataError for another shape
  DecodedActions decode(const at::Tensor& ids) const;

 protected:
  virtual CodedActions encode_checked(const at::Tensor& actions, const at::Tensor& valid) const = 0;
  virtual DecodedActions decode_checked(const at::Tensor& ids) const = 0;

 private:
  int64_t action_size_, horizon_;
};

/// One token for each number, step by step, dimension by dimension: T = H A.
class BinCodec final : public ActionCodec {
 public:
  BinCodec(const ActionBins& bins, int64_t action_size, int64_t horizon = 1);
  int64_t max_length() const override { return horizon() * action_size(); }
  std::optional<TokenRange> bins() const override { return TokenRange{0, bins_.num_bins() - 1}; }

 protected:
  CodedActions encode_checked(const at::Tensor& actions, const at::Tensor& valid) const override;
  /// DataError for ids that are no bins.
  DecodedActions decode_checked(const at::Tensor& ids) const override;

 private:
  ActionBins bins_;
};

/// OpenVLA's: the same of its action vocabulary, and the end token behind them where there is one: T = H A +
/// 1, else H A. Ids that are no action tokens are clamped and counted.
class VocabularyBinCodec final : public ActionCodec {
 public:
  VocabularyBinCodec(const VocabularyActionBins& bins, std::optional<int64_t> end_token, int64_t action_size,
                     int64_t horizon = 1);
  int64_t max_length() const override { return horizon() * action_size() + (end_token_ ? 1 : 0); }
  std::optional<TokenRange> bins() const override { return TokenRange{bins_.first_id(), bins_.last_id()}; }

 protected:
  CodedActions encode_checked(const at::Tensor& actions, const at::Tensor& valid) const override;
  DecodedActions decode_checked(const at::Tensor& ids) const override;

 private:
  VocabularyActionBins bins_;
  std::optional<int64_t> end_token_;
};

}  // namespace apo::tokenizers
