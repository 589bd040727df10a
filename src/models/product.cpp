#include "models/product.h"

#include <ATen/autocast_mode.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/types.h>

#include <string_view>

#include "apo/base/error.h"

namespace apo::models {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

// Below it, what calling oneDNN costs is not won back.
constexpr int64_t kLargeWeight = int64_t{1} << 17;

using OneDnnLinear = at::Tensor(const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&,
                                std::string_view, c10::List<std::optional<at::Scalar>>,
                                std::optional<std::string_view>);

// Null where LibTorch was built without oneDNN.
const c10::TypedOperatorHandle<OneDnnLinear>* one_dnn_linear() {
  static const auto handle = []() -> std::optional<c10::TypedOperatorHandle<OneDnnLinear>> {
    const auto schema = c10::Dispatcher::singleton().findSchema({"mkldnn::_linear_pointwise", ""});
    if (!schema || !schema->hasKernelForDispatchKey(c10::DispatchKey::CPU)) return std::nullopt;
    return schema->typed<OneDnnLinear>();
  }();
  return handle ? &*handle : nullptr;
}

// x weightᵀ + bias, nothing recorded; `weight` may be a transposed view.
at::Tensor product(const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias) {
  if (x.is_cpu() && x.scalar_type() == at::kFloat && weight.numel() >= kLargeWeight && x.numel() > 0)
    if (const auto* call = one_dnn_linear())
      return call->call(x, weight, bias, "none", c10::List<std::optional<at::Scalar>>(), "");
  return at::linear(x, weight, bias);
}

at::Tensor as_rows(const at::Tensor& x) { return x.reshape({-1, x.size(-1)}); }

struct AdaptedProduct : torch::autograd::Function<AdaptedProduct> {
  using Optional = std::optional<at::Tensor>;

  // Without `context`, nothing is recorded.
  static at::Tensor forward(AutogradContext* context, const at::Tensor& input, const at::Tensor& weight,
                            const Optional& bias, const Optional& a, const Optional& b, double scale) {
    at::Tensor output = product(input, weight, bias), reduced;
    if (a) {
      reduced = at::mm(as_rows(input), a->t());
      output.view({-1, output.size(-1)}).addmm_(reduced, b->t(), 1, scale);
    }
    if (context != nullptr) {
      const bool input_is_read = a || weight.requires_grad();
      context->save_for_backward({input_is_read ? input : at::Tensor(), weight, a.value_or(at::Tensor()),
                                  b.value_or(at::Tensor()), reduced});
      context->saved_data["bias"] = bias.has_value();
      context->saved_data["scale"] = scale;
    }
    return output;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const Variable &input = saved[0], &weight = saved[1], &a = saved[2], &b = saved[3], &reduced = saved[4];
    const double scale = context->saved_data["scale"].toDouble();
    const auto has_bias = static_cast<size_t>(context->saved_data["bias"].toBool());
    const size_t edge_of_a = 2 + has_bias;  // input, weight, bias where there is one, A, B
    const at::Tensor gradient = gradients[0].contiguous();
    const at::Tensor rows = as_rows(gradient);
    variable_list result(6);  // one an argument of forward
    at::Tensor of_reduced;
    if (a.defined()) {
      of_reduced = at::mm(rows, b).mul_(scale);
      if (context->needs_input_grad(edge_of_a)) result[3] = at::mm(of_reduced.t(), as_rows(input));
      if (context->needs_input_grad(edge_of_a + 1)) result[4] = at::mm(rows.t(), reduced).mul_(scale);
    }
    if (context->needs_input_grad(0)) {
      result[0] = product(gradient, weight.t(), std::nullopt);
      if (a.defined()) result[0].view({-1, result[0].size(-1)}).addmm_(of_reduced, a);
    }
    if (context->needs_input_grad(1)) result[1] = at::mm(rows.t(), as_rows(input));
    if (has_bias != 0 && context->needs_input_grad(2)) result[2] = rows.sum(0);
    return result;
  }
};

bool requires_gradient(const std::optional<at::Tensor>& tensor) { return tensor && tensor->requires_grad(); }

}  // namespace

bool can_fuse(const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
              const LowRank& update) {
  if (!update.a.defined() && weight.numel() < kLargeWeight) return false;
  if (at::autocast::is_autocast_enabled(input.device().type())) return false;
  const auto fits = [&](const at::Tensor& tensor) {
    return tensor.scalar_type() == input.scalar_type() && tensor.device() == input.device();
  };
  return fits(weight) && (!bias || fits(*bias)) &&
         (!update.a.defined() || (fits(update.a) && fits(update.b)));
}

at::Tensor adapted_product(const at::Tensor& input, const at::Tensor& weight,
                           const std::optional<at::Tensor>& bias, const LowRank& update) {
  APO_ASSERT(can_fuse(input, weight, bias, update));
  const auto optional = [](const at::Tensor& x) { return x.defined() ? std::optional(x) : std::nullopt; };
  const std::optional<at::Tensor> a = optional(update.a), b = optional(update.b);
  const bool recorded =
      at::GradMode::is_enabled() && (input.requires_grad() || weight.requires_grad() ||
                                     requires_gradient(bias) || requires_gradient(a) || requires_gradient(b));
  return recorded ? AdaptedProduct::apply(input, weight, bias, a, b, update.scale)
                  : AdaptedProduct::forward(nullptr, input, weight, bias, a, b, update.scale);
}

}  // namespace apo::models
