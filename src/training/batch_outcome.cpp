#include "training/batch_outcome.h"

#include <torch/types.h>

#include <array>
#include <span>

#include "apo/base/error.h"

namespace apo::training {
namespace {

using objective::ObjectiveOutput;

// What the objective says of a batch, by where it goes in the outcome: a number a micro-batch, a column [b] a
// sample, a matrix [b, T] a token.
enum class Whole {
  sum,   // of the micro-batches and ranks, each of which says its part
  said,  // each of them says the whole batch's
};
struct Number {
  at::Tensor ObjectiveOutput::*from;
  double BatchOutcome::*to;
  Whole whole;
};
constexpr std::array<Number, 11> kNumbers{
    {{&ObjectiveOutput::loss, &BatchOutcome::loss, Whole::sum},
     {&ObjectiveOutput::z0, &BatchOutcome::z0, Whole::said},
     {&ObjectiveOutput::z0_unclamped, &BatchOutcome::z0_unclamped, Whole::said},
     {&ObjectiveOutput::z0_standard_error, &BatchOutcome::z0_standard_error, Whole::said},
     {&ObjectiveOutput::z0_clamped, &BatchOutcome::z0_clamped, Whole::said},
     {&ObjectiveOutput::lambda_desirable, &BatchOutcome::lambda_desirable, Whole::sum},
     {&ObjectiveOutput::lambda_undesirable, &BatchOutcome::lambda_undesirable, Whole::sum},
     {&ObjectiveOutput::sft_loss, &BatchOutcome::sft_loss, Whole::sum},
     {&ObjectiveOutput::reference_kl, &BatchOutcome::reference_kl, Whole::sum},
     {&ObjectiveOutput::num_pairs, &BatchOutcome::num_pairs, Whole::sum},
     {&ObjectiveOutput::preferred_pairs, &BatchOutcome::pair_accuracy, Whole::sum}}};
struct Rows {
  at::Tensor ObjectiveOutput::*from;
  at::Tensor BatchOutcome::*to;
};
constexpr std::array<Rows, 6> kColumns{
    {{&ObjectiveOutput::log_prob, &BatchOutcome::log_prob},
     {&ObjectiveOutput::reference_log_prob, &BatchOutcome::reference_log_prob},
     {&ObjectiveOutput::reward, &BatchOutcome::reward},
     {&ObjectiveOutput::weight, &BatchOutcome::weight},
     {&ObjectiveOutput::lambda, &BatchOutcome::lambda},
     {&ObjectiveOutput::sample_loss, &BatchOutcome::sample_loss}}};
constexpr std::array<Rows, 2> kMatrices{
    {{&ObjectiveOutput::token_log_probs, &BatchOutcome::token_log_probs},
     {&ObjectiveOutput::reference_token_log_probs,
      &BatchOutcome::reference_token_log_probs}}};  // the last: with a reference

}  // namespace

BatchOutcome outcome_of(const std::vector<ObjectiveOutput>& outputs, const std::vector<at::Tensor>& action_l1,
                        int64_t num_clamped_tokens, const at::Tensor& mask, bool has_reference,
                        const Share& share, const distributed::Group& group) {
  const std::span<const Rows> matrices(kMatrices.data(), has_reference ? 2 : 1);
  const int64_t size = mask.size(0), length = mask.size(1), num_micro_batches = std::ssize(outputs);
  constexpr auto num_numbers = std::ssize(kNumbers), num_columns = std::ssize(kColumns) + 1;  // and action_l1
  const int64_t width = num_columns + std::ssize(matrices) * length;

  // off the device at once: the micro-batches' numbers, a row for each of their samples, the mask
  const auto doubles = [&mask](const at::Tensor& values, int64_t rows) {
    const at::Tensor all = values.defined() ? values.detach().to(at::kDouble)
                                            : at::full({rows}, kAbsent, mask.options().dtype(at::kDouble));
    return all.reshape({rows, -1});
  };
  std::vector<at::Tensor> parts;
  for (const ObjectiveOutput& output : outputs)
    for (const Number& number : kNumbers) parts.push_back(doubles(output.*number.from, 1).flatten());
  for (size_t i = 0; i < outputs.size(); ++i) {
    const int64_t num_samples = action_l1[i].size(0);
    std::vector<at::Tensor> row;
    for (const Rows& column : kColumns) row.push_back(doubles(outputs[i].*column.from, num_samples));
    row.push_back(doubles(action_l1[i], num_samples));
    for (const Rows& matrix : matrices) row.push_back(doubles(outputs[i].*matrix.from, num_samples));
    parts.push_back(at::cat(row, 1).flatten());
  }
  parts.push_back(mask.to(at::kDouble).flatten());
  const at::Tensor own = at::cat(parts).cpu();

  // numbers and rows of the whole batch: this rank's in their places, 0 in those of the others
  const at::Tensor whole = at::zeros({num_numbers + 1 + size * width}, at::kDouble);
  auto* number = whole.data_ptr<double>();
  const double* said = own.const_data_ptr<double>();
  for (int64_t i = 0; i < num_micro_batches; ++i)
    for (int64_t n = 0; n < num_numbers; ++n, ++said) {
      const bool adds_up = kNumbers[static_cast<size_t>(n)].whole == Whole::sum;
      if (adds_up)
        number[n] = i > 0 ? number[n] + *said : *said;
      else if (group.is_first())
        number[n] = *said;
    }
  number[num_numbers] = static_cast<double>(num_clamped_tokens);
  const at::Tensor rows = whole.narrow(0, num_numbers + 1, size * width).view({size, width});
  const int64_t num_own = num_micro_batches * num_numbers;
  rows.slice(0, share.begin, share.end)
      .copy_(own.narrow(0, num_own, share.size() * width).view({share.size(), width}));
  if (!group.is_alone()) group.sum(whole);

  BatchOutcome outcome;
  for (const Number& place : kNumbers) outcome.*place.to = *number++;
  outcome.num_clamped_tokens = static_cast<int64_t>(*number);
  int64_t at = 0;
  for (const Rows& column : kColumns) outcome.*column.to = rows.select(1, at++).contiguous();
  outcome.action_l1 = rows.select(1, at++).contiguous();
  for (const Rows& matrix : matrices) {
    outcome.*matrix.to = rows.narrow(1, at, length).contiguous();
    at += length;
  }
  outcome.mask = own.narrow(0, own.size(0) - size * length, size * length).view({size, length}).to(at::kBool);
  return outcome;
}

}  // namespace apo::training
