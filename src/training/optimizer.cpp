#include "training/optimizer.h"

#include <torch/types.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <numeric>

#include "apo/base/error.h"
#include "training/ranks.h"

namespace apo::training {
namespace {

bool is_half(const at::Tensor& tensor) {
  return tensor.scalar_type() == at::kBFloat16 || tensor.scalar_type() == at::kHalf;
}

// Parameters of one device and type, for one fused call.
struct Together {
  std::vector<at::Tensor> parameters, gradients, exp_avg, exp_avg_sq, updates;

  bool takes(const at::Tensor& parameter) const {
    return parameters.empty() || (parameters.front().device() == parameter.device() &&
                                  parameters.front().scalar_type() == parameter.scalar_type());
  }
};

void update_fused(Together& group, const OptimizerOptions& options, double learning_rate) {
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

at::Tensor moment_of(const at::Tensor& parameter, at::Device device) {
  const at::TensorOptions type = is_half(parameter) ? at::TensorOptions(at::kFloat) : at::TensorOptions();
  return at::zeros_like(parameter, type.device(device));
}

// What is kept of one parameter, as a checkpoint names it: exp_avg, exp_avg_sq and updates.
void append(models::NamedTensors& state, const std::string& name, const std::vector<at::Tensor>& kept) {
  static constexpr std::array<const char*, 3> kNames = {"exp_avg.", "exp_avg_sq.", "updates."};
  for (size_t k = 0; k < kNames.size(); ++k) state.emplace_back(kNames[k] + name, kept[k]);
}

// The largest first, each to the rank that has least so far.
std::vector<int64_t> owners(const models::NamedTensors& parameters, int64_t ranks) {
  std::vector<size_t> order(parameters.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, std::greater(), [&](size_t i) { return parameters[i].second.numel(); });
  std::vector<int64_t> owner(parameters.size()), weights(static_cast<size_t>(ranks));
  for (const size_t i : order) {
    const auto least = std::ranges::min_element(weights);
    *least += parameters[i].second.numel();
    owner[i] = std::distance(weights.begin(), least);
  }
  return owner;
}

}  // namespace

Adam::Adam(const OptimizerOptions& options, models::NamedTensors parameters,
           const distributed::Group* sharded_over)
    : options_(options),
      parameters_(std::move(parameters)),
      group_(sharded_over != nullptr ? *sharded_over : nobody_else()),
      owner_(owners(parameters_, group_.size())) {
  APO_CHECK(ConfigError, !parameters_.empty(),
            "policy: expected at least one parameter that requires a gradient, found none to train");
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const at::Tensor& parameter = parameters_[i].second;
    const auto zeros = [&] { return holds(i) ? moment_of(parameter, parameter.device()) : at::Tensor(); };
    exp_avg_.push_back(zeros());
    exp_avg_sq_.push_back(zeros());
    updates_.push_back(at::zeros({1}, at::TensorOptions(at::kFloat).device(parameter.device())));
  }
}

bool Adam::holds(size_t parameter) const { return owner_[parameter] == group_.rank(); }

int64_t Adam::moment_bytes() const {
  int64_t bytes = 0;
  for (const auto* moments : {&exp_avg_, &exp_avg_sq_})
    for (const at::Tensor& moment : *moments)
      if (moment.defined()) bytes += static_cast<int64_t>(moment.nbytes());
  return bytes;
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
  std::vector<Together> groups;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const at::Tensor& parameter = parameters_[i].second;
    const at::Tensor gradient = parameter.grad();
    if (!gradient.defined() || !holds(i)) continue;
    if (is_half(parameter)) {
      update_half(parameter, gradient, exp_avg_[i], exp_avg_sq_[i], updates_[i], options_, learning_rate);
      continue;
    }
    if (groups.empty() || !groups.back().takes(parameter)) groups.emplace_back();
    Together& group = groups.back();
    group.parameters.push_back(parameter);
    // the fused kernel walks all of them in memory order
    group.gradients.push_back(
        gradient.strides() == parameter.strides() ? gradient : at::empty_like(parameter).copy_(gradient));
    group.exp_avg.push_back(exp_avg_[i]);
    group.exp_avg_sq.push_back(exp_avg_sq_[i]);
    group.updates.push_back(updates_[i]);
  }
  for (Together& group : groups) update_fused(group, options_, learning_rate);
  send_updated();
}

void Adam::send_updated() const {
  if (group_.is_alone()) return;
  for (int64_t rank = 0; rank < group_.size(); ++rank) {
    std::vector<at::Tensor> own;
    for (size_t i = 0; i < parameters_.size(); ++i)
      if (owner_[i] == rank) own.push_back(parameters_[i].second);
    group_.broadcast(own, rank);
  }
}

models::NamedTensors Adam::held() const {
  models::NamedTensors held;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const auto& [name, parameter] = parameters_[i];
    held.emplace_back("parameter." + name, parameter.detach());
    if (holds(i)) append(held, name, {exp_avg_[i], exp_avg_sq_[i], updates_[i]});
  }
  return held;
}

models::NamedTensors Adam::state() const {
  if (group_.is_alone()) return held();
  models::NamedTensors state;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const auto& [name, parameter] = parameters_[i];
    const std::vector<at::Tensor> sent =
        holds(i) ? std::vector{exp_avg_[i].cpu(), exp_avg_sq_[i].cpu(), updates_[i].cpu()}
                 : std::vector{moment_of(parameter, at::kCPU), moment_of(parameter, at::kCPU),
                               at::zeros({1}, at::kFloat)};
    group_.broadcast(sent, owner_[i]);
    if (!group_.is_first()) continue;
    state.emplace_back("parameter." + name, parameter.detach());
    append(state, name, sent);
  }
  return state;
}

void Adam::restore(const models::SafetensorsReader& file) {
  const at::NoGradGuard no_grad;
  file.load_into(held(), /*allow_unexpected=*/true);
}

}  // namespace apo::training
