// What ranks send each other, whatever carries it.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>
#include <string>
#include <vector>

#include "apo/distributed/group.h"

namespace apo::testing {

inline void expect_sums_and_rows(distributed::Group& group) {
  const int64_t rank = group.rank(), size = group.size(), all = size * (size + 1) / 2;  // Σ (rank + 1)
  at::Tensor columns = at::full({2, 3}, rank + 1, at::kDouble).t();
  group.sum(columns);  // not contiguous
  EXPECT_TRUE(at::equal(columns, at::full({3, 2}, all, at::kDouble)));
  const std::vector<at::Tensor> mixed = {at::full({3}, rank + 1.0f),
                                         at::full({2, 2}, rank + 1, at::kDouble),
                                         at::full({5}, rank + 1, at::kBFloat16),
                                         at::full({1}, rank + 1.0f),
                                         at::full({1}, rank + 1, at::kLong),
                                         at::full({3}, rank + 1, at::kByte),
                                         at::zeros({0})};
  group.sum(mixed);
  for (size_t i = 0; i < mixed.size(); ++i) EXPECT_TRUE(mixed[i].eq(all).all().item<bool>()) << i;
  const std::vector<at::Tensor> same = {at::full({1}, 2.0f)};
  group.sum(same);
  EXPECT_EQ(same[0].item<float>(), 2.0f * static_cast<float>(size));
  // shares of different sizes, the last one empty, with what is no number
  const int64_t total = size - 1;
  const at::Tensor row =
      rank < total ? at::full({1, 2}, rank == 0 ? NAN : rank, at::kDouble) : at::zeros({0, 2}, at::kDouble);
  const at::Tensor rows = group.gather_rows(row, rank, total);
  EXPECT_TRUE(std::isnan(rows[0][1].item<double>()));
  for (int64_t r = 1; r < total; ++r) EXPECT_EQ(rows[r][0].item<double>(), r);
}
inline constexpr int kCallsOfSumsAndRows = 1 + 6 + 1 + 1;  ///< of sum, one a bucket of one type

// Of several types, one not contiguous, one empty; negative zero and what is no number stay what they are.
inline void expect_broadcasts_bit_for_bit(distributed::Group& group) {
  const auto of_rank = [](int64_t rank) {
    const at::Tensor numbers =
        at::arange(6, at::kFloat).add(10.0 * static_cast<double>(rank)).view({2, 3}).t();
    numbers[0][0] = -0.0;
    numbers[1][0] = NAN;
    return std::vector<at::Tensor>{numbers, at::full({2}, rank, at::kBFloat16), at::zeros({0}),
                                   at::full({1}, rank, at::kLong)};
  };
  const auto bits = [](const at::Tensor& tensor) { return tensor.contiguous().view(at::kByte); };
  for (const int64_t from : {int64_t{0}, group.size() - 1}) {
    const std::vector<at::Tensor> sent = of_rank(group.rank()), expected = of_rank(from);
    group.broadcast(sent, from);
    for (size_t i = 0; i < sent.size(); ++i) EXPECT_TRUE(at::equal(bits(sent[i]), bits(expected[i]))) << i;
  }
}
inline constexpr int kCallsOfBroadcasts = 2 * 3;  ///< one a type

}  // namespace apo::testing
