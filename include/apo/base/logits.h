// Logits as whoever reads them sees them: a tensor, or the last hidden states and the head that makes rows of
// logits of them when they are read. A vocabulary of 257,152 makes a tensor of B = 8 and T = 60 half a
// gigabyte, and a loss needs four of them; read piece by piece none is ever whole.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <functional>
#include <limits>

namespace apo {

class Logits {
 public:
  /// [..., C] hidden states to [..., V] logits; differentiable. It runs when the logits are read and again in
  /// the backward pass, chooses its precision itself (whatever autocast says there) and must not draw at
  /// random; what it refers to must live until then.
  using Head = std::function<at::Tensor(const at::Tensor& hidden)>;
  /// Logits of at most so many bytes are made at once, all others in pieces of at most that size.
  static constexpr int64_t kPieceBytes = int64_t{64} << 20;
  /// For a head that is another one by the time that pieces are read: all are made at once.
  static constexpr int64_t kAtOnce = std::numeric_limits<int64_t>::max();

  Logits() = default;
  /// [B, T, V], there already. (A tensor is given where logits are wanted.)
  Logits(at::Tensor whole);  // NOLINT(google-explicit-constructor)
  /// `hidden` [B, T, C] and the head that makes `vocabulary` logits of each of its rows.
  Logits(at::Tensor hidden, int64_t vocabulary, Head head, int64_t piece_bytes = kPieceBytes);

  bool defined() const { return whole_.defined() || hidden_.defined(); }
  /// True where the logits are made when they are read.
  bool in_pieces() const { return hidden_.defined() && !whole_.defined(); }
  /// [B, T, V]; empty if undefined.
  at::IntArrayRef sizes() const;
  at::Device device() const;
  /// [B, T, V] in one tensor, differentiable; undefined if this is.
  at::Tensor whole() const;
  Logits detach() const;
  /// Samples [begin, end).
  Logits slice(int64_t begin, int64_t end) const;

  /// What is worth keeping for later, detached: the hidden states [B, T, C] where a head makes logits of
  /// them, else the logits [B, T, V].
  at::Tensor kept() const;
  /// Makes logits of rows that were kept of these, or of others of the same head, which must be then what it
  /// was. Without gradient.
  std::function<Logits(const at::Tensor&)> of_kept() const;

  /// Some of the rows, while they are read.
  struct Piece {
    at::Tensor logits;  ///< [B, T, V], or [1, n, V] of the rows begin..end-1 of B · T
    int64_t begin = 0, end = 0;
    bool whole = true;      ///< all rows, in their own shape
    bool repeated = false;  ///< made once more, for the backward pass
    /// These rows of a tensor [B, T]: [B, T] or [1, n].
    at::Tensor of(const at::Tensor& values) const;
    /// These rows of other logits of the same shape.
    at::Tensor of(const Logits& others) const;
  };
  /// What `reading` makes of each piece ([..., B, T] or [..., 1, n]), put together: [..., B, T]. Of logits in
  /// pieces nothing is kept for the backward pass but the hidden states; the reading runs again then.
  ///
  /// Gradient  to the logits, or the hidden states and all that trains in the head
  at::Tensor read(const std::function<at::Tensor(const Piece&)>& reading) const;

 private:
  int64_t rows_in_a_piece() const;
  at::Tensor rows(int64_t begin, int64_t end) const;  // of hidden states, [1, n, C]

  at::Tensor whole_;
  at::Tensor hidden_;  // detached where `whole_` was made of it
  std::array<int64_t, 3> sizes_{};
  Head head_;
  int64_t piece_bytes_ = kPieceBytes;
};

/// What a policy says of given answers to its observations: logits at the positions that predict their
/// tokens.
struct Score {
  Logits logits{};  ///< [B, T, V] float32, teacher-forced on the answers' tokens
  /// [B, T', V] float32, teacher-forced on a second answer's; undefined without one
  Logits mismatched_logits{};
};

}  // namespace apo
