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

at::Tensor filled(const at::Tensor& tensor, at::IntArrayRef shape, bool value, at::Device device) {
  return tensor.defined() ? tensor : at::full(shape, value, at::TensorOptions(at::kBool).device(device));
}

// Any floating-point type.
void check_floating(const char* name, const at::Tensor& tensor, at::IntArrayRef shape, at::Device device) {
  const bool good = tensor.defined() && tensor.sizes() == shape && at::isFloatingType(tensor.scalar_type()) &&
                    tensor.device() == device;
  APO_CHECK(RunError, good, "objective: ", name, ": expected floating-point numbers ", shape, " on ", device,
            ", found ", describe(tensor));
}

void check_mismatched(Batch& batch, const ObjectiveOptions& options, at::IntArrayRef shape,
                      at::Device device) {
  const bool roll = !batch.mismatched_tokens.defined() && options.z0 == Z0Estimator::shifted_labels;
  if (roll) {
    batch.mismatched_tokens = batch.tokens.roll(-1, 0);
    batch.mismatched_mask = batch.mask.roll(-1, 0);
    batch.mismatched_end_token = batch.end_token.roll(-1, 0);
  }
  check_like("mismatched_tokens", batch.mismatched_tokens, shape, at::kLong, device);
  batch.mismatched_mask = filled(batch.mismatched_mask, shape, true, device);
  check_like("mismatched_mask", batch.mismatched_mask, shape, at::kBool, device);
  if (!batch.mismatched_end_token.defined()) batch.mismatched_end_token = batch.end_token;
  check_like("mismatched_end_token", batch.mismatched_end_token, shape, at::kBool, device);
}

// On the CPU also their values: a weight outside its range would turn a gradient round without a word. (NaN
// passes: it becomes a NaN loss, which training refuses.)
void check_range(const char* name, const at::Tensor& tensor, double low, double high) {
  if (!tensor.is_cpu()) return;
  const at::Tensor outside = at::logical_or(tensor.lt(low), tensor.gt(high));
  APO_CHECK(RunError, !outside.any().item<bool>(), "objective: ", name, ": expected numbers from ", low,
            " to ", high, ", found ", tensor.masked_select(outside)[0].item<double>());
}

void check_pairs(const at::Tensor& pair, at::IntArrayRef samples, at::Device device) {
  check_like("pair", pair, samples, at::kLong, device);
  if (!pair.is_cpu()) return;
  const at::Tensor flat = pair.contiguous();
  const int64_t* number = flat.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < flat.numel(); ++i)
    APO_CHECK(RunError, number[i] >= -1 && number[i] < flat.numel(), "objective: pair[", i,
              "]: expected -1 or a number below the ", flat.numel(), " samples, found ", number[i]);
}

// On the CPU: every unmasked id is of the vocabulary. Tokens are [B, T], and so is the mask unless it is
// undefined.
void check_ids(const char* name, const at::Tensor& tokens, const at::Tensor& mask, int64_t vocabulary) {
  if (!tokens.is_cpu()) return;
  const at::Tensor flat_tokens = tokens.contiguous();
  const at::Tensor flat_mask = mask.defined() ? mask.contiguous() : at::Tensor();
  const int64_t* token = flat_tokens.const_data_ptr<int64_t>();
  const bool* counts = flat_mask.defined() ? flat_mask.const_data_ptr<bool>() : nullptr;
  for (int64_t i = 0; i < flat_tokens.numel(); ++i)
    APO_CHECK(DataError, (counts && !counts[i]) || (token[i] >= 0 && token[i] < vocabulary),
              "objective: ", name, "[", i / tokens.size(1), ", ", i % tokens.size(1),
              "]: expected a token of the vocabulary 0..", vocabulary - 1, ", found ", token[i]);
}

}  // namespace

void check_logits(const char* name, const Logits& logits) {
  const at::Tensor whole = logits.in_pieces() ? at::Tensor() : logits.whole();
  const bool good =
      logits.in_pieces() || (whole.defined() && whole.dim() == 3 && whole.size(2) >= 1 &&
                             (whole.scalar_type() == at::kFloat || whole.scalar_type() == at::kDouble ||
                              whole.scalar_type() == at::kBFloat16));
  APO_CHECK(RunError, good, "objective: ", name,
            ": expected [samples, tokens, vocabulary] of float32, float64 or bfloat16, found ",
            describe(whole));
}

void check_same(const char* name, const Logits& logits, const at::Tensor& tokens) {
  const bool good = logits.defined() && logits.sizes().size() == 3 &&
                    logits.sizes().slice(0, 2) == tokens.sizes() && logits.device() == tokens.device();
  APO_CHECK(RunError, good, "objective: ", name, ": expected logits of ", tokens.sizes(), " tokens on ",
            tokens.device(), ", found ",
            logits.in_pieces() ? concat(logits.sizes(), " on ", logits.device()) : describe(logits.whole()));
}

void check_like(const char* name, const at::Tensor& tensor, at::IntArrayRef shape, at::ScalarType type,
                at::Device device) {
  const bool good = tensor.defined() && tensor.sizes() == shape && tensor.scalar_type() == type &&
                    tensor.device() == device;
  APO_CHECK(RunError, good, "objective: ", name, ": expected ", type, " ", shape, " on ", device, ", found ",
            describe(tensor));
}

void check_labels(const char* tokens_name, const at::Tensor& tokens, const char* mask_name,
                  const at::Tensor& mask, const at::Tensor& logits) {
  const auto shape = logits.sizes().slice(0, 2);
  check_like(tokens_name, tokens, shape, at::kLong, logits.device());
  if (mask.defined()) check_like(mask_name, mask, shape, at::kBool, logits.device());
  check_ids(tokens_name, tokens, mask, logits.size(2));
}

Batch completed(const Batch& given, const ObjectiveOptions& options, const char* name, const Logits& logits,
                bool needed) {
  check(options);
  Batch batch = given;
  if (needed || logits.defined()) {
    check_logits(name, logits);
    check_like("tokens", batch.tokens, logits.sizes().slice(0, 2), at::kLong, logits.device());
  }
  APO_CHECK(RunError, batch.tokens.defined() && batch.tokens.dim() == 2,
            "objective: tokens: expected [samples, tokens], found ", describe(batch.tokens));
  const at::Device device = batch.tokens.device();
  const auto shape = batch.tokens.sizes(), samples = shape.slice(0, 1);
  batch.mask = filled(batch.mask, shape, true, device);
  check_like("mask", batch.mask, shape, at::kBool, device);
  if (logits.defined()) check_ids("tokens", batch.tokens, batch.mask, logits.sizes()[2]);
  batch.end_token = filled(batch.end_token, shape, false, device);
  check_like("end_token", batch.end_token, shape, at::kBool, device);
  if (options.imitates()) batch.desirable = filled(batch.desirable, samples, true, device);
  check_like("desirable", batch.desirable, samples, at::kBool, device);
  if (options.type == ObjectiveType::weighted_bc) {
    check_floating("sample_weight", batch.sample_weight, samples, device);
    check_range("sample_weight", batch.sample_weight, 0, kInfinity);
  }
  if (options.needs_pairs()) check_pairs(batch.pair, samples, device);
  if (!options.needs_reference()) return batch;
  if (options.hold() > 0) {
    if (!batch.held.defined()) batch.held = batch.desirable;
    check_like("held", batch.held, samples, at::kBool, device);
  }
  if (batch.dimension_credit.defined() && options.credit == Credit::dimension) {
    check_floating("dimension_credit", batch.dimension_credit, shape, device);
    check_range("dimension_credit", batch.dimension_credit, 0, 1);
  }
  if (options.needs_mismatched_tokens()) {
    check_mismatched(batch, options, shape, device);
    if (logits.defined())
      check_ids("mismatched_tokens", batch.mismatched_tokens, batch.mismatched_mask, logits.sizes()[2]);
  }
  return batch;
}

void check_reference(const ReferenceScores& reference, const Batch& batch, const ObjectiveOptions& options) {
  const at::Device device = batch.tokens.device();
  check_floating("reference_token_log_probs", reference.tokens, batch.tokens.sizes(), device);
  if (options.needs_mismatched_tokens())
    check_floating("reference_mismatched_log_probs", reference.mismatched, batch.tokens.sizes(), device);
  if (reference.logits.defined()) return check_same("reference_logits", reference.logits, batch.tokens);
  APO_CHECK(ConfigError, !options.uses_z0() || options.z0 != Z0Estimator::exact,
            "objective.z0: exact compares whole distributions, which kept log-probabilities of the "
            "reference do not have; expected shifted-labels, mismatched or none");
  APO_CHECK(ConfigError, options.hold() == 0,
            "objective.reference_kl_weight: compares whole distributions, which kept log-probabilities of "
            "the reference do not have; expected 0, found ",
            options.hold());
}

void check_action_l1(const Batch& batch, const ObjectiveOptions& options) {
  if (!options.needs_action_l1() && !batch.action_l1.defined()) return;
  check_floating("action_l1", batch.action_l1, batch.tokens.sizes().slice(0, 1), batch.tokens.device());
  check_range("action_l1", batch.action_l1, 0, kInfinity);
}

}  // namespace apo::objective
