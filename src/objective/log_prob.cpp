#include "apo/objective/log_prob.h"

#include <c10/core/DeviceGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/types.h>

#include <algorithm>
#include <optional>

#include "objective/checks.h"
#include "objective/kernels/launch.h"
#include "objective/log_prob_plain.h"

namespace apo::objective {
namespace {

Element element_of(const at::Tensor& logits) {
  if (logits.scalar_type() == at::kDouble) return Element::float64;
  return logits.scalar_type() == at::kBFloat16 ? Element::bfloat16 : Element::float32;
}

at::TensorOptions sum_options(const at::Tensor& logits) {
  return logits.options().dtype(logits.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
}

// Rows are read in place whenever their logits are contiguous, whatever the strides of B and T.
at::Tensor with_contiguous_rows(const at::Tensor& logits) {
  return logits.stride(-1) == 1 || logits.size(-1) == 1 ? logits : logits.contiguous();
}

LogitRows rows_of(const at::Tensor& logits) {
  return {.data = logits.const_data_ptr(),
          .element = element_of(logits),
          .count = logits.size(0) * logits.size(1),
          .columns = std::max<int64_t>(1, logits.size(1)),
          .outer_stride = logits.stride(0),
          .inner_stride = logits.stride(1),
          .width = logits.size(2)};
}

Labels labels_of(const at::Tensor& tokens, const at::Tensor& mask) {
  return {.tokens = tokens.const_data_ptr<int64_t>(), .mask = mask.const_data_ptr<bool>()};
}

SmoothLabel label_of(const LabelSmoothing& smoothing) {
  return {
      .sigma = smoothing.sigma, .first = smoothing.first_action_token, .last = smoothing.last_action_token};
}

// Runs a job where its tensors are.
template <class Job>
void run(const at::Tensor& where, const Job& job, void (*on_cpu)(const Job&),
         void (*on_cuda)(const Job&, void*)) {
  if (!where.is_cuda()) return on_cpu(job);
  const c10::DeviceGuard guard(where.device());
  const c10::impl::VirtualGuardImpl cuda(at::kCUDA);
  on_cuda(job, cuda.getStreamNativeHandle(cuda.getStream(where.device())));
}

// Elsewhere, and on CUDA without our kernels, the plain composition does the same.
bool has_row_kernels(const at::Tensor& where) {
  return where.is_cpu() || (where.is_cuda() && cuda_kernels_are_there());
}

struct ScoreRows : torch::autograd::Function<ScoreRows> {
  static torch::autograd::variable_list forward(torch::autograd::AutogradContext* context,
                                                const at::Tensor& logits, const at::Tensor& tokens,
                                                const at::Tensor& mask,
                                                const std::optional<at::Tensor>& other_tokens,
                                                const std::optional<at::Tensor>& other_mask,
                                                const LabelSmoothing& smoothing) {
    const at::Tensor rows = with_contiguous_rows(logits);
    const at::Tensor score = at::empty(tokens.sizes(), sum_options(logits));
    const at::Tensor log_normalizer = at::empty_like(score);
    const at::Tensor other_score = other_tokens ? at::empty_like(score) : at::Tensor();
    run(rows,
        ScoreJob{.logits = rows_of(rows),
                 .label = label_of(smoothing),
                 .own = labels_of(tokens, mask),
                 .other = other_tokens ? labels_of(*other_tokens, *other_mask) : Labels{},
                 .score = score.mutable_data_ptr(),
                 .other_score = other_score.defined() ? other_score.mutable_data_ptr() : nullptr,
                 .log_normalizer = log_normalizer.mutable_data_ptr()},
        cpu_scores, launch_scores);
    context->save_for_backward({rows, tokens, mask, log_normalizer});
    context->saved_data["sigma"] = smoothing.sigma;
    context->saved_data["first"] = smoothing.first_action_token;
    context->saved_data["last"] = smoothing.last_action_token;
    if (!other_score.defined()) return {score};
    context->mark_non_differentiable({other_score});
    return {score, other_score};
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    APO_CHECK(RunError, !at::GradMode::is_enabled(),
              "objective: token_log_probs has no second derivative; call backward without create_graph");
    const auto saved = context->get_saved_variables();
    const at::Tensor &rows = saved[0], &tokens = saved[1], &mask = saved[2], &log_normalizer = saved[3];
    const LabelSmoothing smoothing{.sigma = context->saved_data["sigma"].toDouble(),
                                   .first_action_token = context->saved_data["first"].toInt(),
                                   .last_action_token = context->saved_data["last"].toInt()};
    const at::Tensor score_gradient = gradients[0].to(log_normalizer.scalar_type()).contiguous();
    const at::Tensor logits_gradient =
        at::empty(rows.sizes(), rows.options());  // contiguous whatever rows' strides
    run(rows,
        GradientJob{.logits = rows_of(rows),
                    .label = label_of(smoothing),
                    .own = labels_of(tokens, mask),
                    .log_normalizer = log_normalizer.const_data_ptr(),
                    .score_gradient = score_gradient.const_data_ptr(),
                    .logits_gradient = logits_gradient.mutable_data_ptr()},
        cpu_score_gradient, launch_score_gradient);
    return {logits_gradient, {}, {}, {}, {}, {}};
  }
};

struct ReferenceKl : torch::autograd::Function<ReferenceKl> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& policy_logits,
                            const at::Tensor& reference_logits, const at::Tensor& mask) {
    context->save_for_backward({policy_logits, reference_logits, mask});
    return token_kl(reference_logits, policy_logits, mask);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    APO_CHECK(RunError, !at::GradMode::is_enabled(),
              "objective: token_reference_kl has no second derivative; call backward without create_graph");
    const auto saved = context->get_saved_variables();
    if (saved[0].is_cpu() && has_row_kernels(saved[0])) {
      const at::Tensor policy = with_contiguous_rows(saved[0]), reference = with_contiguous_rows(saved[1]),
                       mask = saved[2].contiguous(),
                       upstream = gradients[0].to(sum_options(policy).dtype().toScalarType()).contiguous();
      const at::Tensor gradient = at::empty(policy.sizes(), policy.options());
      cpu_kl_gradient({.policy = rows_of(policy),
                       .reference = rows_of(reference),
                       .mask = mask.const_data_ptr<bool>(),
                       .kl_gradient = upstream.const_data_ptr(),
                       .policy_gradient = gradient.mutable_data_ptr()});
      return {gradient, {}, {}};
    }
    const at::Tensor unread = saved[2].bitwise_not().unsqueeze(-1);
    const auto probabilities = [&unread](const at::Tensor& logits) {
      const auto type = logits.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
      return at::softmax(logits.to(type).masked_fill(unread, 0), -1);  // [B, T, V]
    };
    const at::Tensor gradient =
        (probabilities(saved[0]).sub_(probabilities(saved[1]))).mul_(gradients[0].unsqueeze(-1));
    return {gradient.to(saved[0].scalar_type()), {}, {}};
  }
};

void check_smoothing(const LabelSmoothing& smoothing, const at::Tensor& logits) {
  if (smoothing.sigma == 0) return;
  APO_CHECK(
      RunError,
      smoothing.first_action_token >= 0 && smoothing.first_action_token <= smoothing.last_action_token &&
          smoothing.last_action_token < logits.size(-1),
      "objective: label smoothing needs first_action_token <= last_action_token within the vocabulary of ",
      logits.size(-1), ", found ", smoothing.first_action_token, "..", smoothing.last_action_token);
}

}  // namespace

std::pair<at::Tensor, at::Tensor> token_log_probs(const at::Tensor& logits, const at::Tensor& tokens,
                                                  const at::Tensor& mask, const at::Tensor& other_tokens,
                                                  const at::Tensor& other_mask,
                                                  const LabelSmoothing& smoothing) {
  check_logits("logits", logits);
  check_labels("tokens", tokens, "mask", mask, logits);
  if (other_tokens.defined()) check_labels("other_tokens", other_tokens, "other_mask", other_mask, logits);
  check_smoothing(smoothing, logits);
  const auto filled = [&tokens](const at::Tensor& m) {
    return m.defined() ? m.contiguous() : at::ones(tokens.sizes(), tokens.options().dtype(at::kBool));
  };
  if (!has_row_kernels(logits)) {
    // devices without row kernels, the meta device among them
    at::Tensor other;
    if (other_tokens.defined())
      other = plain::token_log_probs(logits.detach(), other_tokens, filled(other_mask), smoothing);
    return {plain::token_log_probs(logits, tokens, filled(mask), smoothing), other};
  }
  std::optional<at::Tensor> others, other_counts;
  if (other_tokens.defined()) others = other_tokens.contiguous(), other_counts = filled(other_mask);
  const auto scores =
      ScoreRows::apply(logits, tokens.contiguous(), filled(mask), others, other_counts, smoothing);
  return {scores[0], others ? scores[1] : at::Tensor()};
}

at::Tensor token_log_probs(const at::Tensor& logits, const at::Tensor& tokens, const at::Tensor& mask,
                           const LabelSmoothing& smoothing) {
  return token_log_probs(logits, tokens, mask, {}, {}, smoothing).first;
}

at::Tensor token_kl(const at::Tensor& policy_logits, const at::Tensor& reference_logits,
                    const at::Tensor& mask) {
  const at::NoGradGuard no_grad;
  check_logits("policy_logits", policy_logits);
  check_like("reference_logits", reference_logits, policy_logits.sizes(), policy_logits.scalar_type(),
             policy_logits.device());
  const auto shape = policy_logits.sizes().slice(0, 2);
  if (mask.defined()) check_like("mask", mask, shape, at::kBool, policy_logits.device());
  const at::Tensor unmasked =
      mask.defined() ? mask.contiguous() : at::ones(shape, policy_logits.options().dtype(at::kBool));
  if (!has_row_kernels(policy_logits)) return plain::token_kl(policy_logits, reference_logits, unmasked);
  const at::Tensor policy = with_contiguous_rows(policy_logits),
                   reference = with_contiguous_rows(reference_logits);
  const at::Tensor kl = at::empty(shape, sum_options(policy));
  run(policy,
      KlJob{.policy = rows_of(policy),
            .reference = rows_of(reference),
            .mask = unmasked.const_data_ptr<bool>(),
            .kl = kl.mutable_data_ptr()},
      cpu_kl, launch_kl);
  return kl;
}

at::Tensor token_reference_kl(const at::Tensor& policy_logits, const at::Tensor& reference_logits,
                              const at::Tensor& mask) {
  check_logits("policy_logits", policy_logits);
  const at::Tensor unmasked = mask.defined()
                                  ? mask
                                  : at::ones(policy_logits.sizes().slice(0, 2),
                                             policy_logits.options().dtype(at::kBool).requires_grad(false));
  check_like("mask", unmasked, policy_logits.sizes().slice(0, 2), at::kBool, policy_logits.device());
  check_like("reference_logits", reference_logits, policy_logits.sizes(), policy_logits.scalar_type(),
             policy_logits.device());
  return ReferenceKl::apply(policy_logits, reference_logits.detach(), unmasked);
}

at::Tensor greedy_tokens(const at::Tensor& logits, int64_t first_action_token, int64_t last_action_token) {
  const at::NoGradGuard no_grad;
  check_logits("logits", logits);
  if (first_action_token < 0 && last_action_token < 0) return logits.argmax(-1);
  APO_CHECK(
      RunError,
      first_action_token >= 0 && first_action_token <= last_action_token &&
          last_action_token < logits.size(-1),
      "objective: greedy_tokens needs first_action_token <= last_action_token within the vocabulary of ",
      logits.size(-1), ", found ", first_action_token, "..", last_action_token);
  return logits.narrow(-1, first_action_token, last_action_token - first_action_token + 1).argmax(-1) +
         first_action_token;
}

at::Tensor greedy_tokens(const Logits& logits, int64_t first_action_token, int64_t last_action_token) {
  const at::NoGradGuard no_grad;
  return logits.read([=](const Logits::Piece& piece) {
    return greedy_tokens(piece.logits, first_action_token, last_action_token);
  });
}

}  // namespace apo::objective
