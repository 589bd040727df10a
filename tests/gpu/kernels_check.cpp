// The row kernels against the plain composition in float64 on the same device: errors, bit-equality, time.
#include <torch/csrc/autograd/autograd.h>
#include <torch/types.h>

#include "apo/base/error.h"
#include "apo/objective/log_prob.h"
#include "gpu/check.h"
#include "objective/log_prob_plain.h"

namespace apo::gpu {
namespace {

using objective::LabelSmoothing;

struct Batch {
  at::Tensor logits, reference, tokens, mask, upstream;
  LabelSmoothing smoothing;
};

struct Case {
  at::ScalarType type = at::kFloat;
  int64_t samples = 4, tokens = 8, vocabulary = 32064;
  bool masked = false, smooth = false, strided = false;
};

// As in a policy: action tokens in the last 256 of the vocabulary, an end token at the end.
Batch make_batch(const Case& c, at::Device device) {
  const at::TensorOptions real = at::TensorOptions(at::kFloat).device(device), ids = real.dtype(at::kLong);
  // a slice of a longer sequence: rows contiguous, samples and tokens strided
  const int64_t longer = c.strided ? 3 : 0;
  const auto logits = [&] {
    return (at::randn({c.samples, c.tokens + longer, c.vocabulary}, real) * 3)
        .to(c.type)
        .narrow(1, longer, c.tokens);
  };
  Batch batch;
  batch.logits = logits();
  batch.reference = logits();
  batch.smoothing = {c.smooth ? 3.0 : 0.0, c.vocabulary - 256, c.vocabulary - 1};
  batch.tokens = at::randint(c.vocabulary - 256, c.vocabulary, {c.samples, c.tokens}, ids);
  batch.tokens.select(1, c.tokens - 1).fill_(2);
  batch.mask = c.masked ? at::rand({c.samples, c.tokens}, real).gt(0.3)
                        : at::ones({c.samples, c.tokens}, real.dtype(at::kBool));
  batch.upstream =
      at::randn({c.samples, c.tokens}, real).to(c.type == at::kDouble ? at::kDouble : at::kFloat);
  return batch;
}

struct Numbers {
  at::Tensor score, gradient, kl;
};

Numbers by_kernels(const Batch& batch) {
  // detached, not copied: the strides are part of the case
  const at::Tensor logits = batch.logits.detach().requires_grad_(true);
  const at::Tensor score = objective::token_log_probs(logits, batch.tokens, batch.mask, batch.smoothing);
  return {score.detach(), torch::autograd::grad({score}, {logits}, {batch.upstream})[0],
          objective::token_kl(batch.logits, batch.reference, batch.mask)};
}

Numbers by_composition(const Batch& batch, at::ScalarType type) {
  const at::Tensor logits = batch.logits.detach().to(type).requires_grad_(true);
  const at::Tensor score =
      objective::plain::token_log_probs(logits, batch.tokens, batch.mask, batch.smoothing);
  return {score.detach(),
          torch::autograd::grad({score}, {logits}, {batch.upstream.to(score.scalar_type())})[0],
          objective::plain::token_kl(batch.logits.to(type), batch.reference.to(type), batch.mask)};
}

// By how much the largest deviation uses up what is allowed: |a - b| / (absolute + relative |b|).
double share_of_allowance(const at::Tensor& a, const at::Tensor& b, double absolute, double relative) {
  const at::Tensor exact = b.to(at::kDouble);
  const at::Tensor share = (a.to(at::kDouble) - exact).abs() / (exact.abs() * relative + absolute);
  return share.nan_to_num(1e300).max().item<double>();
}

struct Worst {
  double score = 0, gradient = 0, kl = 0;                    // absolute
  double score_share = 0, gradient_share = 0, kl_share = 0;  // of what is allowed
  int64_t cases = 0, differing_runs = 0;
};

void compare(const Case& c, at::Device device, Worst& worst) {
  const Batch batch = make_batch(c, device);
  const Numbers fused = by_kernels(batch), again = by_kernels(batch),
                exact = by_composition(batch, at::kDouble);
  const bool wide = c.type == at::kDouble;
  worst.score = std::max(worst.score, distance(fused.score, exact.score));
  worst.gradient = std::max(worst.gradient, distance(fused.gradient, exact.gradient));
  worst.kl = std::max(worst.kl, distance(fused.kl, exact.kl));
  // what include/apo/objective/log_prob.h promises; a bfloat16 gradient is rounded once more
  worst.score_share = std::max(
      worst.score_share, share_of_allowance(fused.score, exact.score, wide ? 1e-11 : 4e-6, wide ? 0 : 4e-7));
  worst.gradient_share =
      std::max(worst.gradient_share, share_of_allowance(fused.gradient, exact.gradient, wide ? 1e-11 : 1e-5,
                                                        c.type == at::kBFloat16 ? 1.0 / 128 : 1e-5));
  worst.kl_share =
      std::max(worst.kl_share, share_of_allowance(fused.kl, exact.kl, wide ? 1e-10 : 2e-5, 1e-5));
  ++worst.cases;
  if (!fused.score.equal(again.score) || !fused.gradient.equal(again.gradient) || !fused.kl.equal(again.kl))
    ++worst.differing_runs;
}

// Milliseconds of a training batch's logits, and how near reading them comes to the device's own copying.
void time_kernels(at::Device device, Item& item) {
  const int64_t samples = device.is_cuda() ? 64 : 4, repeats = device.is_cuda() ? 20 : 3;
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    const Batch batch = make_batch({.type = type, .samples = samples}, device);
    const std::string name = concat("time/", c10::toString(type), "/");
    item.put(name + "shape", batch.logits.sizes().vec());
    const auto bytes = static_cast<double>(batch.logits.nbytes());
    const auto record = [&](const char* what, double bytes_moved, const std::function<void()>& body) {
      const Timing timing = measure(device, 3, repeats, body);
      Json json = timing.json();
      if (bytes_moved > 0) json["gigabytes_per_second"] = 1e-9 * bytes_moved / timing.median;
      item.put(name + what, json);
      return timing.median;
    };
    const at::Tensor logits = batch.logits.detach().requires_grad_(true);
    at::Tensor copy = at::empty_like(batch.logits);
    record("copy", 2 * bytes, [&] { copy.copy_(batch.logits); });
    record("score", bytes, [&] { objective::token_log_probs(batch.logits, batch.tokens, batch.mask); });
    record("kl", 2 * bytes, [&] { objective::token_kl(batch.logits, batch.reference, batch.mask); });
    // read twice, gradient written once
    const double fused = record("score_and_gradient", 3 * bytes, [&] {
      const at::Tensor score = objective::token_log_probs(logits, batch.tokens, batch.mask);
      torch::autograd::grad({score}, {logits}, {batch.upstream});
    });
    const double plain = record("score_and_gradient_by_composition", 0, [&] {
      const at::Tensor score = objective::plain::token_log_probs(logits, batch.tokens, batch.mask, {});
      torch::autograd::grad({score}, {logits}, {batch.upstream});
    });
    item.put(name + "composition_over_kernel", plain / fused);
  }
}

}  // namespace

void check_kernels(const Options& options, at::Device device, Item& item) {
  at::manual_seed(1);
  std::vector<int64_t> vocabularies{32064, 257152};
  if (options.small) vocabularies = {4099};
  const int64_t samples = device.is_cuda() && !options.small ? 4 : 2, tokens = device.is_cuda() ? 8 : 3;
  for (const at::ScalarType type : {at::kFloat, at::kDouble, at::kBFloat16})
    for (const int64_t vocabulary : vocabularies) {
      Worst worst;
      for (const bool masked : {false, true})
        for (const bool smooth : {false, true})
          for (const bool strided : {false, true})
            compare({type, samples, tokens, vocabulary, masked, smooth, strided}, device, worst);
      const std::string name = concat(c10::toString(type), "/vocabulary_", vocabulary, "/");
      item.put(name + "cases", worst.cases);
      item.put(name + "score_error", worst.score);
      item.put(name + "gradient_error", worst.gradient);
      item.put(name + "kl_error", worst.kl);
      item.at_most(name + "score_error_of_allowed", worst.score_share, 1);
      item.at_most(name + "gradient_error_of_allowed", worst.gradient_share, 1);
      item.at_most(name + "kl_error_of_allowed", worst.kl_share, 1);
      item.at_most(name + "runs_that_differ_in_a_bit", static_cast<double>(worst.differing_runs), 0);
      item.progress();
    }
  if (!options.small) time_kernels(device, item);
}

}  // namespace apo::gpu
