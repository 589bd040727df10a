#include "base/checkpointed.h"

#include <ATen/autocast_mode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/types.h>

#include <memory>
#include <mutex>

namespace apo {
namespace {

// The default generator's state, put back on destruction if `restore` was called.
class RandomState {
 public:
  explicit RandomState(at::Device device) : generator_(at::globalContext().defaultGenerator(device)) {
    const std::lock_guard lock(generator_.mutex());
    state_ = generator_.get_state();
  }
  void restore() {
    const std::lock_guard lock(generator_.mutex());
    generator_.set_state(state_);
  }

 private:
  at::Generator generator_;
  at::Tensor state_;
};

struct Recomputation {
  std::function<at::Tensor(const at::Tensor&)> layer;
  at::DeviceType device;
  bool autocast;
  at::ScalarType autocast_dtype;
  RandomState random;
};

class AutocastState {
 public:
  AutocastState(at::DeviceType device, bool enabled, at::ScalarType dtype)
      : device_(device),
        enabled_(at::autocast::is_autocast_enabled(device)),
        dtype_(at::autocast::get_autocast_dtype(device)),
        cache_(at::autocast::is_autocast_cache_enabled()) {
    // weights cast here must not outlive this backward pass: they change before the next one
    at::autocast::set_autocast_cache_enabled(false);
    at::autocast::set_autocast_enabled(device_, enabled);
    at::autocast::set_autocast_dtype(device_, dtype);
  }
  ~AutocastState() {
    at::autocast::set_autocast_enabled(device_, enabled_);
    at::autocast::set_autocast_dtype(device_, dtype_);
    at::autocast::set_autocast_cache_enabled(cache_);
  }
  AutocastState(const AutocastState&) = delete;
  AutocastState& operator=(const AutocastState&) = delete;

 private:
  at::DeviceType device_;
  bool enabled_;
  at::ScalarType dtype_;
  bool cache_;
};

// `trigger` requires a gradient, so that the node exists even where only tensors inside the layer need one.
struct Recomputed : torch::autograd::Function<Recomputed> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x,
                            const at::Tensor& trigger, const std::shared_ptr<Recomputation>& again) {
    context->save_for_backward({x});
    context->saved_data["x_requires_grad"] = x.requires_grad();
    context->saved_data["again"] = c10::IValue::make_capsule(c10::make_intrusive<Holder>(again));
    const at::NoGradGuard no_grad;
    return again->layer(x);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradient) {
    const auto holder = context->saved_data["again"].toCapsule();
    Recomputation& again = *static_cast<Holder*>(holder.get())->value;
    const at::AutoGradMode enable(true);
    const at::Tensor x = context->get_saved_variables()[0].detach().set_requires_grad(
        context->saved_data["x_requires_grad"].toBool());
    RandomState now(x.device());
    again.random.restore();
    at::Tensor y;
    {
      const AutocastState autocast(again.device, again.autocast, again.autocast_dtype);
      y = again.layer(x);
    }
    now.restore();
    if (!y.requires_grad()) return {at::Tensor(), at::Tensor(), at::Tensor()};  // nothing in here trains
    torch::autograd::backward({y}, {gradient[0]});
    return {x.grad(), at::Tensor(), at::Tensor()};
  }

 private:
  struct Holder : torch::CustomClassHolder {
    explicit Holder(std::shared_ptr<Recomputation> value) : value(std::move(value)) {}
    std::shared_ptr<Recomputation> value;
  };
};

}  // namespace

at::Tensor checkpointed(const std::function<at::Tensor(const at::Tensor&)>& layer, const at::Tensor& x,
                        bool enabled) {
  if (!enabled || !at::GradMode::is_enabled()) return layer(x);
  const at::DeviceType device = x.device().type();
  const auto again = std::make_shared<Recomputation>(
      Recomputation{layer, device, at::autocast::is_autocast_enabled(device),
                    at::autocast::get_autocast_dtype(device), RandomState(x.device())});
  const at::Tensor trigger =
      at::empty({0}, at::TensorOptions(at::kFloat).device(x.device())).set_requires_grad(true);
  return Recomputed::apply(x, trigger, again);
}

}  // namespace apo
