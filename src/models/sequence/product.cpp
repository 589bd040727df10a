#include "models/sequence/product.h"

#include <ATen/autocast_mode.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/types.h>

#include <algorithm>
#include <string_view>

#include "apo/base/error.h"
#include "models/sequence/quantized.h"

namespace apo::models {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

// Below both, what calling oneDNN costs is not won back: numbers of a weight, multiplications.
constexpr int64_t kLargeWeight = int64_t{1} << 17, kLargeProduct = int64_t{1} << 23;

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
  const bool large = weight.numel() >= kLargeWeight || x.numel() * weight.size(0) >= kLargeProduct;
  if (x.is_cpu() && x.scalar_type() == at::kFloat && large && x.numel() > 0)
    if (const auto* call = one_dnn_linear())
      return call->call(x, weight, bias, "none", c10::List<std::optional<at::Scalar>>(), "");
  return at::linear(x, weight, bias);
}

at::Tensor as_rows(const at::Tensor& x) { return x.reshape({-1, x.size(-1)}); }

// Whether W + scale · B A costs less than what B adds to each row, in the forward pass, where A x is read by
// the gradient of B all the same, and in the backward pass. Without a gradient fewer rows would do, but the
// numbers must not depend on it.
bool should_merge(const at::Tensor& x, const at::Tensor& weight) {
  return x.is_cpu() && x.scalar_type() == at::kFloat && weight.numel() >= kLargeWeight &&
         x.numel() / x.size(-1) > std::max(weight.size(0), weight.size(1));
}

// x y in `type`, which may be wider than theirs. On a CPU the factor with few rows or columns goes first: as
// the second one it takes up to three times as long.
at::Tensor product_as(at::ScalarType type, const at::Tensor& x, const at::Tensor& y) {
  if (x.is_cpu() && x.scalar_type() == type)
    return x.size(0) < y.size(1) ? product(x, y.t(), std::nullopt) : product(y.t(), x, std::nullopt).t();
  if (type == at::kFloat && x.scalar_type() != type && x.is_cuda()) return at::mm(x, y, type);
  return at::mm(x, y).to(type);
}

struct AdaptedProduct : torch::autograd::Function<AdaptedProduct> {
  using Optional = std::optional<at::Tensor>;

  // Without `context`, nothing is recorded.
  // Scaled A and B bring the scale twice, and addmm_ takes it off once: no gradient needs a multiplication of
  // its own. The weight, or its codes and scales.
  static at::Tensor forward(AutogradContext* context, const at::Tensor& input, const Optional& weight,
                            const Optional& codes, const Optional& scales, const Optional& bias,
                            const Optional& a, const Optional& b, const Optional& scaled_a,
                            const Optional& scaled_b, double scale) {
    const Optional &left = scaled_b ? scaled_b : b, &right = scaled_a ? scaled_a : a;
    const bool merged = a && weight && !scaled_a && should_merge(input, *weight);
    at::Tensor base = weight ? *weight : decoded({*codes, *scales}, input.scalar_type()), reduced;
    if (merged) base = at::addmm(base, *left, *right, 1, scale);
    at::Tensor output = product(input, base, bias);
    if (a && (!merged || (context != nullptr && b->requires_grad())))
      reduced = product(as_rows(input), *right, std::nullopt);
    if (a && !merged)
      output.view({-1, output.size(-1)}).addmm_(reduced, left->t(), 1, scaled_a ? 1 / scale : scale);
    if (context != nullptr) {
      const bool input_is_read = a || (weight && weight->requires_grad());
      const auto kept = [](const Optional& tensor) { return tensor.value_or(at::Tensor()); };
      context->save_for_backward({input_is_read ? input : at::Tensor(), kept(weight), kept(right), kept(left),
                                  reduced, kept(codes), kept(scales)});
      context->saved_data["bias"] = bias.has_value();
      context->saved_data["scale"] = scale;
      context->saved_data["scaled"] = scaled_a.has_value();
      context->saved_data["merged"] = merged;
      context->saved_data["type"] = static_cast<int64_t>(a ? a->scalar_type() : input.scalar_type());
    }
    return output;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const Variable &input = saved[0], &weight = saved[1], &a = saved[2], &b = saved[3], &reduced = saved[4];
    const bool is_quantized = !weight.defined();
    const double scale = context->saved_data["scale"].toDouble();
    const bool is_scaled = context->saved_data["scaled"].toBool();
    const auto type = static_cast<at::ScalarType>(context->saved_data["type"].toInt());
    const auto has_bias = static_cast<size_t>(context->saved_data["bias"].toBool());
    // input, weight or codes and scales, bias where there is one, A, B
    const size_t edge_of_bias = is_quantized ? 3 : 2, edge_of_a = edge_of_bias + has_bias;
    const at::Tensor gradient = gradients[0].contiguous();
    const at::Tensor rows = as_rows(gradient);
    variable_list result(10);  // one an argument of forward
    at::Tensor of_reduced;
    if (a.defined()) {
      of_reduced = product(rows, b.t(), std::nullopt);
      if (!is_scaled) of_reduced.mul_(scale);
      if (context->needs_input_grad(edge_of_a)) result[5] = product_as(type, of_reduced.t(), as_rows(input));
      if (context->needs_input_grad(edge_of_a + 1)) {
        result[6] = product_as(type, rows.t(), reduced);
        if (!is_scaled) result[6].mul_(scale);
      }
    }
    if (context->needs_input_grad(0)) {
      const bool merged = context->saved_data["merged"].toBool();
      at::Tensor base = is_quantized ? decoded({saved[5], saved[6]}, gradient.scalar_type()) : weight;
      if (merged) base = at::addmm(base, b, a, 1, scale);
      result[0] = product(gradient, base.t(), std::nullopt);
      if (a.defined() && !merged)
        result[0].view({-1, result[0].size(-1)}).addmm_(of_reduced, a, 1, is_scaled ? 1 / scale : 1);
    }
    if (!is_quantized && context->needs_input_grad(1)) result[1] = at::mm(rows.t(), as_rows(input));
    if (has_bias != 0 && context->needs_input_grad(edge_of_bias)) result[4] = rows.sum(0);
    return result;
  }
};

bool requires_gradient(const std::optional<at::Tensor>& tensor) { return tensor && tensor->requires_grad(); }

}  // namespace

bool can_fuse(const at::Tensor& input, const BaseWeight& weight, const std::optional<at::Tensor>& bias,
              const LowRank& update) {
  const bool is_plain = !weight.is_quantized();
  // an adapter that stays zero counts: a fresh policy and its snapshot go the same way
  if (is_plain && !update.a.defined() && weight.plain.numel() < kLargeWeight) return false;
  if (is_plain && at::autocast::is_autocast_enabled(input.device().type())) return false;
  const auto fits = [&](const at::Tensor& tensor) {
    return tensor.scalar_type() == input.scalar_type() && tensor.device() == input.device();
  };
  const bool is_scaled = update.scaled_a.defined();
  return (!is_plain || fits(weight.plain)) && (!bias || fits(*bias)) &&
         (!update.a.defined() || update.stays_zero ||
          (fits(is_scaled ? update.scaled_a : update.a) && fits(is_scaled ? update.scaled_b : update.b)));
}

at::Tensor adapted_product(const at::Tensor& input, const BaseWeight& weight,
                           const std::optional<at::Tensor>& bias, const LowRank& update) {
  APO_ASSERT(can_fuse(input, weight, bias, update));
  const auto optional = [](const at::Tensor& x) { return x.defined() ? std::optional(x) : std::nullopt; };
  const std::optional<at::Tensor> plain = optional(weight.plain), codes = optional(weight.quantized.codes),
                                  scales = optional(weight.quantized.scales);
  const LowRank added = update.stays_zero ? LowRank{} : update;
  const std::optional<at::Tensor> a = optional(added.a), b = optional(added.b),
                                  scaled_a = optional(added.scaled_a), scaled_b = optional(added.scaled_b);
  const bool recorded =
      at::GradMode::is_enabled() && (input.requires_grad() || requires_gradient(plain) ||
                                     requires_gradient(bias) || requires_gradient(a) || requires_gradient(b));
  return recorded ? AdaptedProduct::apply(input, plain, codes, scales, bias, a, b, scaled_a, scaled_b,
                                          update.scale)
                  : AdaptedProduct::forward(nullptr, input, plain, codes, scales, bias, a, b, scaled_a,
                                            scaled_b, update.scale);
}

}  // namespace apo::models
