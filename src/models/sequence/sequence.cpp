#include "models/sequence/sequence.h"

#include <torch/types.h>

#include <algorithm>
#include <limits>

#include "apo/base/error.h"

namespace apo::models {
namespace {

// 0 where `visible` [B, T, keys], else -inf: [B, 1, T, keys]. Rows lie a multiple of 8 numbers apart, which
// is how attention kernels read a mask without copying it first.
at::Tensor additive(const at::Tensor& visible, at::ScalarType type) {
  const int64_t keys = visible.size(2);
  at::Tensor mask =
      at::zeros({visible.size(0), visible.size(1), (keys + 7) / 8 * 8}, visible.options().dtype(type))
          .narrow(2, 0, keys);
  return mask.masked_fill_(visible.logical_not(), -std::numeric_limits<double>::infinity()).unsqueeze(1);
}

PaddedIds pad(std::span<const std::vector<int64_t>> rows, int64_t padding, bool behind_first) {
  size_t longest = 0, shortest = SIZE_MAX;
  for (const auto& row : rows) {
    longest = std::max(longest, row.size());
    shortest = std::min(shortest, row.size());
  }
  const auto batch = std::ssize(rows), length = static_cast<int64_t>(longest);
  PaddedIds padded{at::full({batch, length}, padding, at::kLong), at::zeros({batch, length}, at::kBool)};
  for (int64_t i = 0; i < batch; ++i) {
    const auto& row = rows[static_cast<size_t>(i)];
    const auto size = std::ssize(row), first = behind_first ? std::min<int64_t>(1, size) : size;
    int64_t* ids = padded.ids.data_ptr<int64_t>() + i * length;
    bool* valid = padded.mask.data_ptr<bool>() + i * length;
    std::copy(row.begin(), row.begin() + first, ids);
    std::copy(row.begin() + first, row.end(), ids + length - (size - first));
    std::fill_n(valid, first, true);
    std::fill_n(valid + length - (size - first), size - first, true);
  }
  if (shortest == longest) padded.mask = at::Tensor();
  return padded;
}

}  // namespace

AttentionMask AttentionMask::from(int64_t first) const {
  if (first == 0) return *this;
  APO_ASSERT(!causal);
  return {additive.defined() ? additive.narrow(2, first, additive.size(2) - first) : additive, false};
}

at::Tensor attend(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                  const AttentionMask& mask) {
  return at::scaled_dot_product_attention(
      query, key, value, mask.additive.defined() ? std::optional<at::Tensor>(mask.additive) : std::nullopt,
      0.0, mask.causal);
}

SequenceLayout::SequenceLayout(at::Tensor valid, int64_t prefix, at::Device device, PrefixAttention attention,
                               std::vector<int64_t> answers, int64_t position_gap)
    : valid_(std::move(valid)),
      prefix_(prefix),
      size_(prefix),
      device_(device),
      attention_(attention),
      answers_(std::move(answers)),
      position_gap_(position_gap) {
  for (const int64_t rows : answers_) size_ += rows;
}

at::Tensor SequenceLayout::positions(int64_t begin, int64_t end) const {
  if (!prefix_length_.defined()) {
    const at::Tensor valid =
        valid_.defined() ? valid_ : at::ones({1, prefix_}, at::TensorOptions(at::kBool).device(device_));
    prefix_length_ = valid.to(at::kLong).sum(1, /*keepdim=*/true);
    prefix_positions_ = (valid.to(at::kLong).cumsum(1) - 1).clamp_min(0);
  }
  std::vector<at::Tensor> parts;
  if (begin < prefix_) parts.push_back(prefix_positions_.slice(1, begin, std::min(end, prefix_)));
  int64_t column = prefix_;
  for (const int64_t rows : answers_) {
    const int64_t first = std::max(begin, column), last = std::min(end, column + rows);
    if (first < last)
      parts.push_back(prefix_length_ + at::arange(first - column + position_gap_,
                                                  last - column + position_gap_, prefix_length_.options())
                                           .unsqueeze(0));
    column += rows;
  }
  return parts.size() == 1 ? parts[0] : at::cat(parts, 1);
}

// Every row sees what stands before it, of the prefix all where attention is full, and nothing that is
// padding or another answer's. Rows of padding see themselves, so that no row is all -inf.
at::Tensor SequenceLayout::visible() const {
  const at::TensorOptions options = at::TensorOptions(at::kBool).device(device_);
  at::Tensor seen = at::ones({size_, size_}, options).tril();
  if (attention_ == PrefixAttention::full) seen.narrow(1, 0, prefix_).narrow(0, 0, prefix_).fill_(true);
  int64_t column = prefix_;
  for (const int64_t rows : answers_) {
    const int64_t after = column + rows;
    if (after < size_) seen.slice(0, after, size_).slice(1, column, after).fill_(false);
    column = after;
  }
  seen = seen.unsqueeze(0);
  if (!valid_.defined()) return seen;
  const at::Tensor keys = at::cat({valid_, at::ones({valid_.size(0), size_ - prefix_}, options)}, 1);
  return seen.logical_and(keys.unsqueeze(1)).logical_or(at::eye(size_, options));
}

AttentionMask SequenceLayout::whole(at::ScalarType type) const { return {additive(visible(), type), false}; }

AttentionMask SequenceLayout::prefill(at::ScalarType type) const {
  if (!valid_.defined()) return {{}, attention_ == PrefixAttention::causal};
  return {additive(visible().narrow(1, 0, prefix_).narrow(2, 0, prefix_), type), false};
}

AttentionMask SequenceLayout::step(int64_t t, at::ScalarType type) const {
  if (!valid_.defined()) return {};
  if (!step_mask_.defined()) {
    const at::Tensor behind = at::ones({valid_.size(0), size_ - prefix_}, valid_.options());
    step_mask_ = additive(at::cat({valid_, behind}, 1).unsqueeze(1), type);
  }
  return {step_mask_.narrow(3, 0, prefix_ + t + 1), false};
}

AttentionMask SequenceLayout::steps(int64_t t, int64_t count, at::ScalarType type) const {
  if (count == 1) return step(t, type);
  const int64_t first = prefix_ + t;
  return {additive(visible().narrow(1, first, count).narrow(2, 0, first + count), type), false};
}

std::vector<at::Tensor> SequenceLayout::predicting(const at::Tensor& rows, bool with_prefix) const {
  std::vector<at::Tensor> parts;
  int64_t row = rows.size(1) - (size_ - prefix_);  // the first answer's first
  const at::Tensor before = with_prefix ? rows.narrow(1, row - 1, 1) : at::Tensor();
  bool is_first = true;
  for (const int64_t count : answers_) {
    if (!with_prefix)
      parts.push_back(rows.narrow(1, row, count));
    else if (is_first)
      parts.push_back(rows.narrow(1, row - 1, count + 1));
    else
      parts.push_back(at::cat({before, rows.narrow(1, row, count)}, 1));
    row += count;
    is_first = false;
  }
  return parts;
}

std::pair<at::Tensor, at::Tensor> KeyValueCache::append(const at::Tensor& keys, const at::Tensor& values) {
  const int64_t added = keys.size(2);
  key.narrow(2, length, added).copy_(keys);
  value.narrow(2, length, added).copy_(values);
  length += added;
  return {key.narrow(2, 0, length), value.narrow(2, 0, length)};
}

PaddedIds pad_right(std::span<const std::vector<int64_t>> rows, int64_t padding) {
  return pad(rows, padding, false);
}

PaddedIds pad_behind_first(std::span<const std::vector<int64_t>> rows, int64_t padding) {
  return pad(rows, padding, true);
}

}  // namespace apo::models
