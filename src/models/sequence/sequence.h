// The sequence that every token policy reads: what was observed, then answers to it. One layout for teacher
// forcing and for decoding, whatever the network.
//
//   columns   0 ........ prefix-1 | answer 0 ... | answer 1 ... |
//   sees      the prefix (causal: what stands before; full: all of it) and, in an answer, that answer's own
//             past
//
// Padding lies anywhere in the prefix, is hidden from everyone and left out of positions; all answers begin
// at the position behind the prefix, so that they do not know of each other.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

namespace apo::models {

/// What is added to attention scores.
struct AttentionMask {
  at::Tensor additive;  ///< [B or 1, 1, rows, keys], 0 or -inf; undefined: `causal` says it
  bool causal = false;  ///< rows see the keys up to their own (rows = keys); false: all keys
  /// The rows from `first` on.
  AttentionMask from(int64_t first) const;
};

/// softmax(query key^T / sqrt(head size) + mask) value: [B, heads, T, head size] queries, [B, heads, keys,
/// head size].
at::Tensor attend(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                  const AttentionMask& mask);

enum class PrefixAttention { causal, full };

class SequenceLayout {
 public:
  /// `valid` [B, prefix] bool on the network's device, false at padding; undefined: none, and `prefix`
  /// columns on `device`. `answers`: how many rows each answer has. `position_gap`: how many positions are
  /// left out between prefix and answers.
  SequenceLayout(at::Tensor valid, int64_t prefix, at::Device device, PrefixAttention attention,
                 std::vector<int64_t> answers, int64_t position_gap = 0);

  int64_t prefix() const { return prefix_; }
  int64_t size() const { return size_; }  ///< prefix and answers
  /// [B or 1, end - begin] int64 positions of the columns [begin, end), counting what is no padding.
  at::Tensor positions(int64_t begin, int64_t end) const;
  /// For all rows.
  AttentionMask whole(at::ScalarType type) const;
  /// For decoding: the prefix's own rows, and then row `t` of the only answer, which sees all before it.
  AttentionMask prefill(at::ScalarType type) const;
  AttentionMask step(int64_t t, at::ScalarType type) const;
  /// The same for its rows [t, t + count), each of which sees those before it.
  AttentionMask steps(int64_t t, int64_t count, at::ScalarType type) const;
  /// `rows` [B, R, N], one for each column from size() - R on -> for each answer the rows that predict its
  /// tokens, [B, T, N]: its own, behind the prefix's last if `with_prefix`.
  std::vector<at::Tensor> predicting(const at::Tensor& rows, bool with_prefix) const;

 private:
  at::Tensor visible() const;  // [B or 1, size, size] bool

  at::Tensor valid_;  // [B, prefix], or undefined
  int64_t prefix_, size_;
  at::Device device_;
  PrefixAttention attention_;
  std::vector<int64_t> answers_;
  int64_t position_gap_;
  mutable at::Tensor prefix_positions_, prefix_length_, step_mask_;
};

/// Some rows of a sequence on their way through a network.
struct Rows {
  const SequenceLayout& layout;
  int64_t begin, end;  ///< columns
  AttentionMask mask;
  at::Tensor positions() const { return layout.positions(begin, end); }
};

/// Keys and values of one layer for decoding, [B, key heads, room, head size]; the first `length` are filled.
struct KeyValueCache {
  at::Tensor key, value;
  int64_t length = 0;
  /// Appends [B, key heads, T, head size] each and returns all there are.
  std::pair<at::Tensor, at::Tensor> append(const at::Tensor& keys, const at::Tensor& values);
};

/// Ids as rows of one length: `ids` [B, longest] int64 filled up with `padding`, and `mask` [B, longest],
/// false there, or undefined where nothing is. Padding stands at the end, or behind the first `keep_first`
/// ids, so that all rows end in the same column.
struct PaddedIds {
  at::Tensor ids, mask;
};
PaddedIds pad_right(std::span<const std::vector<int64_t>> rows, int64_t padding);
PaddedIds pad_behind_first(std::span<const std::vector<int64_t>> rows, int64_t padding);

}  // namespace apo::models
