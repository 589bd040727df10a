#include "objective/checks.h"

#include <torch/types.h>

#include <limits>

namespace apo::objective {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

std::string describe(const at::Tensor& tensor) {
  if (!tensor.defined()) return "nothing";
  return concat(tensor.scalar_type(), " ", tensor.sizes(), " on ", tensor.device());
}

at::Tensor filled(const at::Tensor& tensor, at::IntArrayRef shape, bool value, const at::Tensor& beside) {
  if (tensor.defined()) return tensor;
  return at::full(shape, value, beside.options().dtype(at::kBool).requires_grad(false));
}

void check_mismatched(ObjectiveInput& input, const ObjectiveOptions& options, at::IntArrayRef shape) {
  const at::Tensor& logits = input.policy_logits;
  const bool roll = !input.mismatched_tokens.defined() && options.z0 == Z0Estimator::shifted_labels;
  if (roll) {
    input.mismatched_tokens = input.tokens.roll(-1, 0);
    input.mismatched_mask = input.mask.roll(-1, 0);
    input.mismatched_end_token = input.end_token.roll(-1, 0);
  }
  check_like("mismatched_tokens", input.mismatched_tokens, shape, at::kLong, logits);
  input.mismatched_mask = filled(input.mismatched_mask, shape, true, logits);
  check_like("mismatched_mask", input.mismatched_mask, shape, at::kBool, logits);
  if (!input.mismatched_end_token.defined()) input.mismatched_end_token = input.end_token;
  check_like("mismatched_end_token", input.mismatched_end_token, shape, at::kBool, logits);
  if (options.z0 != Z0Estimator::mismatched) return;
  check_like("mismatched_policy_logits", input.mismatched_policy_logits, logits.sizes(), logits.scalar_type(),
             logits);
  if (!input.reference_token_log_probs.defined())
    check_like("mismatched_reference_logits", input.mismatched_reference_logits, logits.sizes(),
               logits.scalar_type(), logits);
}

// Kept in place of the reference's logits.
void check_reference_log_probs(ObjectiveInput& input, const ObjectiveOptions& options,
                               at::IntArrayRef shape) {
  const at::Tensor& logits = input.policy_logits;
  APO_CHECK(ConfigError, !options.uses_z0() || options.z0 != Z0Estimator::exact,
            "objective.z0: exact compares whole distributions, which kept log-probabilities of the "
            "reference do not have; expected shifted-labels, mismatched or none");
  check_floating("reference_token_log_probs", input.reference_token_log_probs, shape, logits);
  APO_CHECK(ConfigError, options.hold() == 0,
            "objective.reference_kl_weight: compares whole distributions, which kept log-probabilities of "
            "the reference do not have; expected 0, found ",
            options.hold());
  // masked positions are nobody's, whatever was kept of them
  input.reference_token_log_probs = input.reference_token_log_probs.masked_fill(input.mask.bitwise_not(), 0);
  if (options.needs_mismatched_tokens())
    check_floating("reference_mismatched_log_probs", input.reference_mismatched_log_probs, shape, logits);
}

// On the CPU also their values: a weight outside its range would turn a gradient round without a word. (NaN passes:
// it becomes a NaN loss, which training refuses.)
void check_range(const char* name, const at::Tensor& tensor, double low, double high) {
  if (!tensor.is_cpu()) return;
  const at::Tensor outside = at::logical_or(tensor.lt(low), tensor.gt(high));
  APO_CHECK(RunError, !outside.any().item<bool>(), "objective: ", name, ": expected numbers from ", low,
            " to ", high, ", found ", tensor.masked_select(outside)[0].item<double>());
}

void check_pairs(const at::Tensor& pair, at::IntArrayRef samples, const at::Tensor& logits) {
  check_like("pair", pair, samples, at::kLong, logits);
  if (!pair.is_cpu()) return;
  const at::Tensor flat = pair.contiguous();
  const int64_t* number = flat.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < flat.numel(); ++i)
    APO_CHECK(RunError, number[i] >= -1 && number[i] < flat.numel(), "objective: pair[", i,
              "]: expected -1 or a number below the ", flat.numel(), " samples, found ", number[i]);
}

}  // namespace

void check_logits(const char* name, const at::Tensor& logits) {
  const bool good = logits.defined() && logits.dim() == 3 && logits.size(2) >= 1 &&
                    (logits.scalar_type() == at::kFloat || logits.scalar_type() == at::kDouble ||
                     logits.scalar_type() == at::kBFloat16);
  APO_CHECK(RunError, good, "objective: ", name,
            ": expected [samples, tokens, vocabulary] of float32, float64 or ", "bfloat16, found ",
            describe(logits));
}

void check_like(const char* name, const at::Tensor& tensor, at::IntArrayRef shape, at::ScalarType type,
                const at::Tensor& beside) {
  const bool good = tensor.defined() && tensor.sizes() == shape && tensor.scalar_type() == type &&
                    tensor.device() == beside.device();
  APO_CHECK(RunError, good, "objective: ", name, ": expected ", type, " ", shape, " on ", beside.device(),
            ", found ", describe(tensor));
}

void check_floating(const char* name, const at::Tensor& tensor, at::IntArrayRef shape,
                    const at::Tensor& beside) {
  const bool good = tensor.defined() && tensor.sizes() == shape && at::isFloatingType(tensor.scalar_type()) &&
                    tensor.device() == beside.device();
  APO_CHECK(RunError, good, "objective: ", name, ": expected floating-point numbers ", shape, " on ",
            beside.device(), ", found ", describe(tensor));
}

void check_labels(const char* tokens_name, const at::Tensor& tokens, const char* mask_name,
                  const at::Tensor& mask, const at::Tensor& logits) {
  const auto shape = logits.sizes().slice(0, 2);
  check_like(tokens_name, tokens, shape, at::kLong, logits);
  if (mask.defined()) check_like(mask_name, mask, shape, at::kBool, logits);
  if (!tokens.is_cpu()) return;
  const at::Tensor flat_tokens = tokens.contiguous();
  const at::Tensor flat_mask = mask.defined() ? mask.contiguous() : at::Tensor();
  const int64_t* token = flat_tokens.const_data_ptr<int64_t>();
  const bool* counts = flat_mask.defined() ? flat_mask.const_data_ptr<bool>() : nullptr;
  for (int64_t i = 0; i < flat_tokens.numel(); ++i)
    APO_CHECK(DataError, (counts && !counts[i]) || (token[i] >= 0 && token[i] < logits.size(2)),
              "objective: ", tokens_name, "[", i / shape[1], ", ", i % shape[1],
              "]: expected a token of the vocabulary 0..", logits.size(2) - 1, ", found ", token[i]);
}

ObjectiveInput completed(const ObjectiveInput& given, const ObjectiveOptions& options) {
  check(options);
  ObjectiveInput input = given;
  const at::Tensor& logits = input.policy_logits;
  check_logits("policy_logits", logits);
  const auto shape = logits.sizes().slice(0, 2);
  const auto samples = logits.sizes().slice(0, 1);
  check_like("tokens", input.tokens, shape, at::kLong, logits);
  input.mask = filled(input.mask, shape, true, logits);
  check_like("mask", input.mask, shape, at::kBool, logits);
  input.end_token = filled(input.end_token, shape, false, logits);
  check_like("end_token", input.end_token, shape, at::kBool, logits);
  if (options.imitates()) input.desirable = filled(input.desirable, samples, true, logits);
  check_like("desirable", input.desirable, samples, at::kBool, logits);
  if (options.type == ObjectiveType::weighted_bc) {
    check_floating("sample_weight", input.sample_weight, samples, logits);
    check_range("sample_weight", input.sample_weight, 0, kInfinity);
  }
  if (options.needs_action_l1() || input.action_l1.defined()) {
    check_floating("action_l1", input.action_l1, samples, logits);
    check_range("action_l1", input.action_l1, 0, kInfinity);
  }
  if (options.needs_pairs()) check_pairs(input.pair, samples, logits);
  if (!options.needs_reference()) return input;
  if (options.hold() > 0) {
    if (!input.held.defined()) input.held = input.desirable;
    check_like("held", input.held, samples, at::kBool, logits);
  }

  if (input.reference_token_log_probs.defined() || input.reference_mismatched_log_probs.defined())
    check_reference_log_probs(input, options, shape);
  else
    check_like("reference_logits", input.reference_logits, logits.sizes(), logits.scalar_type(), logits);
  if (input.dimension_credit.defined() && options.credit == Credit::dimension) {
    check_floating("dimension_credit", input.dimension_credit, shape, logits);
    check_range("dimension_credit", input.dimension_credit, 0, 1);
  }
  if (options.needs_mismatched_tokens()) check_mismatched(input, options, shape);
  return input;
}

}  // namespace apo::objective
