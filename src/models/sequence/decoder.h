// The one decoder: prefill, key-value cache, row by row until every row has stopped.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include "apo/models/policy.h"
#include "models/sequence/sequence.h"

namespace apo::models {

/// What scoring and decoding ask of a network.
class SequenceNetwork {
 public:
  virtual ~SequenceNetwork() = default;
  /// Tokens of an answer as rows, [B, n] ids -> [B, n, width]; the first of them is row `t` behind the
  /// prefix.
  virtual at::Tensor embed(const at::Tensor& ids, int64_t t) const = 0;
  /// `x` [B, R, width] through all layers and the final norm: its rows from `first_row` on, which are all
  /// that the last layer computes. With `caches`, one a layer, this call's keys and values are appended.
  /// `first_row` = R: nobody reads any row, which fills the caches alone.
  virtual at::Tensor run(at::Tensor x, const Rows& rows, int64_t first_row,
                         std::vector<KeyValueCache>* caches) const = 0;
  /// Empty ones with room for so many columns.
  virtual std::vector<KeyValueCache> make_caches(int64_t batch, int64_t room) const = 0;
  /// Logits float32 of the ids [begin, end): [.., width] rows -> [.., end - begin].
  virtual at::Tensor logits(const at::Tensor& rows, int64_t begin, int64_t end) const = 0;
};

/// Picks columns [B] int64 out of logits [B, N].
struct TokenChooser {
  std::function<at::Tensor(const at::Tensor&)> choose;
  std::vector<at::Tensor>* token_probs = nullptr;  ///< DecodeOptions::token_probs
  at::Tensor operator()(const at::Tensor& logits) const { return choose(logits); }
};
/// The largest, or a draw at `options.temperature` from each row's own stream of `options.seeds`, on the CPU
/// so that a seed means the same on every device. ConfigError for a temperature below 0 and, in a draw, for
/// another number of seeds than rows.
TokenChooser token_chooser(const DecodeOptions& options);

/// How likely `columns` [..] are among the logits [.., N], float32.
at::Tensor probs_of(const at::Tensor& logits, const at::Tensor& columns);

struct Decoding {
  at::Tensor prefix;  ///< [B, P, width]
  /// [B, 1, width] the row that predicts the first token; undefined: the prefix's last
  at::Tensor begin = {};
  PrefixAttention attention = PrefixAttention::causal;
  at::Tensor valid = {};             ///< [B, P] bool, false at padding; undefined: none
  int64_t steps = 0;                 ///< tokens at most
  std::pair<int64_t, int64_t> ids;   ///< [first, last] among which is chosen
  std::optional<int64_t> stop = {};  ///< a row ends with this token; nothing: after `steps`
  int64_t padding = 0;               ///< what stands behind a row's end
  int64_t position_gap = 0;          ///< positions left out between the prefix and what is decoded
  /// [B, steps] int64 ids that are likely, without `stop`: the largest logits are decided as without, but all
  /// ids of a draft are looked at in one pass, and one more is needed only behind the first that was wrong in
  /// any row (speculative decoding, arXiv 2211.17192, with a draft that costs nothing). Undefined: token by
  /// token
  at::Tensor draft = {};
  TokenChooser choose;
};

/// [B, T] int64 ids without gradient, T = steps, or up to where the last row stopped.
at::Tensor decode(const SequenceNetwork& network, const Decoding& decoding);

}  // namespace apo::models
