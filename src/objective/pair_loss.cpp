#include "objective/pair_loss.h"

#include <torch/types.h>

#include <limits>

namespace apo::objective {
namespace {

constexpr double kLinearFrom = 40;

// Sums of per-sample values over one side of each pair, [B] with place p for pair p. A sum over a [B, B]
// table rather than an indexed addition: the same on every run, also on CUDA.
at::Tensor side_sum(const at::Tensor& values, const at::Tensor& pair, const at::Tensor& on_side) {
  const at::Tensor places = at::arange(pair.size(0), pair.options());
  const at::Tensor belongs =
      pair.unsqueeze(0).eq(places.unsqueeze(1)).bitwise_and(on_side.unsqueeze(0));  // [pair, sample]
  return values.unsqueeze(0).masked_fill(belongs.bitwise_not(), 0).sum(1);
}

}  // namespace

at::Tensor whole_pairs(const Batch& batch) {
  const at::Tensor one = at::ones_like(batch.pair);
  return side_sum(one, batch.pair, batch.desirable)
      .gt(0)
      .bitwise_and(side_sum(one, batch.pair, batch.desirable.bitwise_not()).gt(0));
}

at::Tensor pair_loss(const Batch& batch, const ObjectiveOptions& options, const BatchStatistics& whole_batch,
                     const at::Tensor& reward, ObjectiveOutput& out) {
  const auto type = reward.scalar_type();
  const at::Tensor whole = whole_pairs(batch);  // [B] by pair
  const at::Tensor margin = side_sum(reward, batch.pair, batch.desirable) -
                            side_sum(reward, batch.pair, batch.desirable.bitwise_not());
  // −log σ(x) = log(1 + e^−x); linear in −x only where the rest is below float64's resolution
  const at::Tensor loss_of_pair = at::softplus(margin * -options.beta, 1, kLinearFrom);
  const at::Tensor loss = loss_of_pair.masked_fill(whole.bitwise_not(), 0).sum();
  const at::Tensor pairs = whole_batch[BatchStatistics::num_pairs].clamp_min(1).to(type);

  const at::Tensor place = batch.pair.clamp_min(0);
  const at::Tensor counts = batch.pair.ge(0).bitwise_and(whole.gather(0, place));  // [B] by sample
  out.reward = reward.detach();
  out.lambda = counts.to(type);
  const at::Tensor all = at::ones_like(batch.desirable);
  const at::Tensor samples_of_pair =
      side_sum(at::ones_like(reward.detach()), batch.pair, all);  // [B] by pair
  out.weight = out.lambda / (samples_of_pair.clamp_min(1).gather(0, place) * pairs);
  out.sample_loss = loss_of_pair.detach().gather(0, place).masked_fill(
      counts.bitwise_not(), std::numeric_limits<double>::quiet_NaN());
  const at::Tensor desirable = batch.desirable.to(type);
  out.lambda_desirable = (out.lambda * desirable).sum().to(at::kDouble);
  out.lambda_undesirable = (out.lambda * (1 - desirable)).sum().to(at::kDouble);
  out.num_pairs = whole.sum().to(at::kDouble);
  out.preferred_pairs = margin.detach().gt(0).bitwise_and(whole).sum().to(at::kDouble);
  return loss;
}

}  // namespace apo::objective
