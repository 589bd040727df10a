#include "apo/base/logits.h"

#include <torch/types.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "apo/base/error.h"
#include "base/checkpointed.h"

namespace apo {

Logits::Logits(at::Tensor whole) : whole_(std::move(whole)) {}

Logits::Logits(at::Tensor hidden, int64_t vocabulary, Head head, int64_t piece_bytes)
    : piece_bytes_(piece_bytes) {
  APO_ASSERT(hidden.dim() == 3 && vocabulary >= 1);
  const int64_t bytes = hidden.size(0) * hidden.size(1) * vocabulary * static_cast<int64_t>(sizeof(float));
  if (bytes <= piece_bytes) whole_ = head(hidden);
  sizes_ = {hidden.size(0), hidden.size(1), vocabulary};
  hidden_ = whole_.defined() ? hidden.detach() : hidden.contiguous(), head_ = std::move(head);
}

at::IntArrayRef Logits::sizes() const {
  if (whole_.defined()) return whole_.sizes();
  return hidden_.defined() ? at::IntArrayRef(sizes_) : at::IntArrayRef();
}

at::Device Logits::device() const { return whole_.defined() ? whole_.device() : hidden_.device(); }

at::Tensor Logits::whole() const { return in_pieces() ? head_(hidden_) : whole_; }

at::Tensor Logits::kept() const { return (hidden_.defined() ? hidden_ : whole_).detach(); }

std::function<Logits(const at::Tensor&)> Logits::of_kept() const {
  if (!hidden_.defined()) return [](const at::Tensor& rows) { return Logits(rows); };
  return [head = head_, vocabulary = sizes_[2], piece_bytes = piece_bytes_](const at::Tensor& rows) {
    const at::NoGradGuard no_grad;
    return Logits(rows, vocabulary, head, piece_bytes);
  };
}

Logits Logits::detach() const {
  Logits same = *this;
  for (at::Tensor* tensor : {&same.whole_, &same.hidden_})
    if (tensor->defined()) *tensor = tensor->detach();
  if (in_pieces())
    same.head_ = [head = head_](const at::Tensor& rows) {
      const at::NoGradGuard no_grad;
      return head(rows);
    };
  return same;
}

Logits Logits::slice(int64_t begin, int64_t end) const {
  Logits part = *this;
  for (at::Tensor* tensor : {&part.whole_, &part.hidden_})
    if (tensor->defined()) *tensor = tensor->slice(0, begin, end);
  part.sizes_[0] = end - begin;
  return part;
}

int64_t Logits::rows_in_a_piece() const {
  return std::max<int64_t>(1, piece_bytes_ / (sizes_[2] * static_cast<int64_t>(sizeof(float))));
}

at::Tensor Logits::rows(int64_t begin, int64_t end) const {
  return hidden_.flatten(0, 1).narrow(0, begin, end - begin).unsqueeze(0);
}

at::Tensor Logits::Piece::of(const at::Tensor& values) const {
  if (whole || !values.defined()) return values;
  return values.flatten().narrow(0, begin, end - begin).unsqueeze(0);
}

at::Tensor Logits::Piece::of(const Logits& others) const {
  if (whole || !others.defined()) return others.whole();
  if (others.in_pieces()) return others.head_(others.rows(begin, end));
  return others.whole_.flatten(0, 1).narrow(0, begin, end - begin).unsqueeze(0);
}

at::Tensor Logits::read(const std::function<at::Tensor(const Piece&)>& reading) const {
  APO_ASSERT(defined());
  if (!in_pieces()) return reading({.logits = whole_, .end = whole_.size(0) * whole_.size(1)});
  const int64_t count = sizes_[0] * sizes_[1], step = rows_in_a_piece();
  std::vector<at::Tensor> parts;
  for (int64_t begin = 0; begin < count; begin += step) {
    const int64_t end = std::min(begin + step, count);
    const auto read_once_more = [head = head_, reading, begin, end,
                                 times = 0](const at::Tensor& hidden) mutable {
      return reading(
          {.logits = head(hidden), .begin = begin, .end = end, .whole = false, .repeated = times++ > 0});
    };
    parts.push_back(checkpointed(read_once_more, rows(begin, end), true));
  }
  at::Tensor all = parts.size() == 1 ? parts.front() : at::cat(parts, -1);  // [..., 1, B · T]
  auto shape = all.sizes().vec();
  shape[shape.size() - 2] = sizes_[0], shape.back() = sizes_[1];
  return all.reshape(shape);
}

}  // namespace apo
