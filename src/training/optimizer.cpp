#include "training/optimizer.h"

#include <torch/types.h>

#include <algorithm>
#include <cmath>

#include "apo/base/error.h"

namespace apo::training {
namespace {

bool is_half(const at::Tensor& tensor) {
  return tensor.scalar_type() == at::kBFloat16 || tensor.scalar_type() == at::kHalf;
}

// Parameters of one device and type, for one fused call.
struct Group {
  std::vector<at::Tensor> parameters, gradients, exp_avg, exp_avg_sq, updates;

  bool takes(const at::Tensor& parameter) const {
    return parameters.empty() || (parameters.front().device() == parameter.device() &&
                                  parameters.front().scalar_type() == parameter.scalar_type());
  }
};

void update_fused(Group& group, const OptimizerOptions& options, double learning_rate) {
  at::_foreach_add_(group.updates, 1);
  const auto call = [&](auto fused) {
    fused(group.parameters, group.gradients, group.exp_avg, group.exp_avg_sq, at::TensorList(), group.updates,
          learning_rate, options.beta1, options.beta2, options.weight_decay, options.epsilon, false, false);
  };
  if (options.type == "adam")
    call([](auto&&... arguments) { at::_fused_adam_(std::forward<decltype(arguments)>(arguments)...); });
  else
    call([](auto&&... arguments) { at::_fused_adamw_(std::forward<decltype(arguments)>(arguments)...); });
  // the fused kernels do not say that they changed anything
  for (const at::Tensor& parameter : group.parameters) parameter.unsafeGetTensorImpl()->bump_version();
}

// The same in float32 for one parameter in half precision.
void update_half(at::Tensor parameter, const at::Tensor& gradient, at::Tensor& exp_avg,
                 at::Tensor& exp_avg_sq, at::Tensor& updates, const OptimizerOptions& options,
                 double learning_rate) {
  updates.add_(1);
  at::Tensor value = parameter.to(at::kFloat);
  at::Tensor g = gradient.to(at::kFloat);
  if (options.type == "adam")
    g = g.add(value, options.weight_decay);
  else
    value.mul_(1 - learning_rate * options.weight_decay);
  exp_avg.lerp_(g, 1 - options.beta1);
  exp_avg_sq.mul_(options.beta2).addcmul_(g, g, 1 - options.beta2);
  const double t = updates.item<double>();
  const at::Tensor root =
      exp_avg_sq.sqrt().div_(std::sqrt(1 - std::pow(options.beta2, t))).add_(options.epsilon);
  value.addcdiv_(exp_avg, root, -learning_rate / (1 - std::pow(options.beta1, t)));
  parameter.copy_(value);
}

}  // namespace

Adam::Adam(const OptimizerOptions& options, models::NamedTensors parameters)
    : options_(options), parameters_(std::move(parameters)) {
  APO_CHECK(ConfigError, !parameters_.empty(),
            "policy: expected at least one parameter that requires a gradient, found none to train");
  for (const auto& [name, parameter] : parameters_) {
    const at::TensorOptions type = is_half(parameter) ? at::TensorOptions(at::kFloat) : at::TensorOptions();
    exp_avg_.push_back(at::zeros_like(parameter, type));
    exp_avg_sq_.push_back(at::zeros_like(parameter, type));
    updates_.push_back(at::zeros({1}, at::TensorOptions(at::kFloat).device(parameter.device())));
  }
}

void Adam::zero_gradients() {
  for (auto& [name, parameter] : parameters_) parameter.mutable_grad().reset();
}

std::vector<at::Tensor> Adam::gradients() const {
  std::vector<at::Tensor> found;
  for (const auto& [name, parameter] : parameters_)
    if (parameter.grad().defined()) found.push_back(parameter.grad());
  return found;
}

double Adam::gradient_norm() const {
  const at::NoGradGuard no_grad;
  const std::vector<at::Tensor> found = gradients();
  if (found.empty()) return 0;
  std::vector<at::Tensor> norms = at::_foreach_norm(found);
  const bool alike = std::ranges::all_of(norms, [&](const at::Tensor& norm) {
    return norm.scalar_type() == norms[0].scalar_type() && norm.device() == norms[0].device();
  });
  if (!alike)
    for (at::Tensor& norm : norms) norm = norm.to(found.front().device(), at::kDouble);
  return at::stack(norms).to(at::kDouble).norm().item<double>();
}

void Adam::clip_gradients(double norm, double max_norm) {
  const double scale = max_norm / (norm + 1e-6);
  if (scale >= 1) return;
  const at::NoGradGuard no_grad;
  const std::vector<at::Tensor> found = gradients();
  at::_foreach_mul_(found, scale);
}

void Adam::update(double learning_rate) {
  const at::NoGradGuard no_grad;
  std::vector<Group> groups;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const at::Tensor& parameter = parameters_[i].second;
    const at::Tensor gradient = parameter.grad();
    if (!gradient.defined()) continue;
    if (is_half(parameter)) {
      update_half(parameter, gradient, exp_avg_[i], exp_avg_sq_[i], updates_[i], options_, learning_rate);
      continue;
    }
    if (groups.empty() || !groups.back().takes(parameter)) groups.emplace_back();
    Group& group = groups.back();
    group.parameters.push_back(parameter);
    // the fused kernel walks all of them in memory order
    group.gradients.push_back(
        gradient.strides() == parameter.strides() ? gradient : at::empty_like(parameter).copy_(gradient));
    group.exp_avg.push_back(exp_avg_[i]);
    group.exp_avg_sq.push_back(exp_avg_sq_[i]);
    group.updates.push_back(updates_[i]);
  }
  for (Group& group : groups) update_fused(group, options_, learning_rate);
}

models::NamedTensors Adam::state() const {
  models::NamedTensors state;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const auto& [name, parameter] = parameters_[i];
    state.emplace_back("parameter." + name, parameter.detach());
    state.emplace_back("exp_avg." + name, exp_avg_[i]);
    state.emplace_back("exp_avg_sq." + name, exp_avg_sq_[i]);
    state.emplace_back("updates." + name, updates_[i]);
  }
  return state;
}

void Adam::restore(const models::SafetensorsReader& file) {
  const at::NoGradGuard no_grad;
  file.load_into(state(), /*allow_unexpected=*/true);
}

}  // namespace apo::training
