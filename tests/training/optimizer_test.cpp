#include "training/optimizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/training/trainer.h"
#include "support/places.h"
#include "support/ranks.h"
#include "support/temp_dir.h"

namespace apo::training {
namespace {

using apo::testing::TempDir;

// Element i of the flattened tensor is function(i), rounded to float32.
template <class Function>
at::Tensor filled(at::IntArrayRef shape, Function function) {
  at::Tensor values = at::empty(shape, at::kDouble).flatten();
  for (int64_t i = 0; i < values.numel(); ++i) values[i] = function(static_cast<double>(i));
  return values.to(at::kFloat).reshape(shape);
}

// The parameters and gradients of scripts/goldens/make_training.py.
models::NamedTensors golden_parameters() {
  models::NamedTensors parameters = {{"embedding.weight", {}}, {"head.weight", {}}, {"head.bias", {}}};
  const std::vector<std::vector<int64_t>> shapes = {{3, 4}, {2, 3}, {5}};
  for (size_t k = 0; k < shapes.size(); ++k)
    parameters[k].second = filled(shapes[k], [k](double i) {
                             return std::cos(1.0 + i + 10.0 * static_cast<double>(k));
                           }).set_requires_grad(true);
  return parameters;
}
void set_golden_gradients(const models::NamedTensors& parameters, int64_t step) {
  const double scale = 0.1 + 0.5 * std::abs(std::sin(0.3 * static_cast<double>(step)));
  for (size_t k = 0; k < parameters.size(); ++k) {
    at::Tensor parameter = parameters[k].second;
    if (parameters[k].first == "unreached") continue;
    const at::Tensor gradient = filled(parameter.sizes(), [&](double i) {
      return scale * std::sin(0.1 * static_cast<double>(step) * (i + 1) + static_cast<double>(k));
    });
    parameter.mutable_grad() = gradient.to(parameter.scalar_type());
  }
}

// The updates [begin, end) of those gradients.
void advance(Adam& optimizer, int64_t begin, int64_t end) {
  for (int64_t step = begin; step < end; ++step) {
    set_golden_gradients(optimizer.parameters(), step);
    optimizer.update(1e-2);
  }
}

void expect_near(const at::Tensor& found, const std::vector<double>& expected, double tolerance) {
  const at::Tensor flat = found.detach().flatten().to(at::kDouble);
  ASSERT_EQ(flat.numel(), static_cast<int64_t>(expected.size()));
  for (int64_t i = 0; i < flat.numel(); ++i)
    EXPECT_NEAR(flat[i].item<double>(), expected[static_cast<size_t>(i)], tolerance) << "element " << i;
}

at::Tensor state_of(const Adam& optimizer, const std::string& name) {
  for (const auto& [key, tensor] : optimizer.state())
    if (key == name) return tensor;
  ADD_FAILURE() << name << " is not in the state";
  return {};
}

TEST(Adam, EqualsTorchAfterAHundredSteps) {
  const auto golden =
      nlohmann::json::parse(read_file(apo::testing::in_source("tests/training/goldens/training.json")));
  for (const std::string type : {"adamw", "adam"}) {
    SCOPED_TRACE(type);
    const OptimizerOptions options = {
        .type = type, .learning_rate = 5e-3, .beta1 = 0.9, .beta2 = 0.95, .weight_decay = 0.05};
    Adam optimizer(options, golden_parameters());
    for (int64_t step = 0; step < 100; ++step) {
      optimizer.zero_gradients();
      set_golden_gradients(optimizer.parameters(), step);
      const double norm = optimizer.gradient_norm();
      EXPECT_NEAR(norm, golden[type]["gradient_norms"][static_cast<size_t>(step)].get<double>(), 1e-6);
      optimizer.clip_gradients(norm, 1.0);
      optimizer.update(learning_rate(options, {}, step, 100));
    }
    for (const auto& [name, parameter] : optimizer.parameters()) {
      SCOPED_TRACE(name);
      expect_near(parameter, golden[type]["parameters"][name], 1e-6);
      expect_near(state_of(optimizer, "exp_avg." + name), golden[type]["exp_avg"][name], 1e-6);
      expect_near(state_of(optimizer, "exp_avg_sq." + name), golden[type]["exp_avg_sq"][name], 1e-6);
    }
  }
}

TEST(Adam, TakesTheFirstStepByHand) {
  // t = 1: m̂ = g, v̂ = g², so θ moves by lr · g / (|g| + ε) = ±lr, after the decay θ (1 − lr · wd)
  //   2 · (1 − 0.1 · 0.5) − 0.1 = 1.8        −1 · 0.95 + 0.1 = −0.85
  at::Tensor weight = at::tensor({2.0, -1.0}, at::kDouble).set_requires_grad(true);
  Adam optimizer({.learning_rate = 0.1, .weight_decay = 0.5}, {{"weight", weight}});
  weight.mutable_grad() = at::tensor({0.3, -4.0}, at::kDouble);
  optimizer.update(0.1);
  expect_near(weight, {1.8, -0.85}, 1e-7);
}

TEST(Adam, ClipsTheNormOverAllParameters) {
  // √(3² + 4²) = 5 over two parameters; clipped to 1 each keeps its direction: 0.6 and 0.8
  at::Tensor a = at::zeros({1}).set_requires_grad(true), b = at::zeros({1}).set_requires_grad(true);
  Adam optimizer({}, {{"a", a}, {"b", b}});
  a.mutable_grad() = at::full({1}, 3.0);
  b.mutable_grad() = at::full({1}, 4.0);
  EXPECT_DOUBLE_EQ(optimizer.gradient_norm(), 5.0);
  optimizer.clip_gradients(5.0, 10.0);
  EXPECT_EQ(a.grad().item<float>(), 3.0f);
  optimizer.clip_gradients(5.0, 1.0);
  EXPECT_NEAR(a.grad().item<double>(), 0.6, 1e-6);
  EXPECT_NEAR(b.grad().item<double>(), 0.8, 1e-6);
}

TEST(Adam, LeavesParametersWithoutGradientAlone) {
  at::Tensor a = at::ones({2}).set_requires_grad(true), b = at::ones({2}).set_requires_grad(true);
  Adam optimizer({.learning_rate = 0.1, .weight_decay = 0.5}, {{"a", a}, {"b", b}});
  a.mutable_grad() = at::ones({2});
  optimizer.update(0.1);
  EXPECT_NE(a[0].item<float>(), 1.0f);
  EXPECT_EQ(b[0].item<float>(), 1.0f);
  EXPECT_EQ(state_of(optimizer, "updates.a").item<float>(), 1.0f);
  EXPECT_EQ(state_of(optimizer, "updates.b").item<float>(), 0.0f);
}

// Whoever keeps something that was made of a parameter looks at its version.
TEST(Adam, ChangesTheVersionsOfWhatItChanges) {
  for (const std::string type : {"adamw", "adam"}) {
    for (const at::ScalarType scalar : {at::kFloat, at::kBFloat16}) {
      at::Tensor a = at::ones({2}, scalar).set_requires_grad(true),
                 b = at::ones({2}, scalar).set_requires_grad(true);
      Adam optimizer({.type = type}, {{"a", a}, {"b", b}});
      a.mutable_grad() = at::ones({2}, scalar);
      const auto before = a._version(), of_b = b._version();
      optimizer.update(0.1);
      EXPECT_GT(a._version(), before);
      EXPECT_EQ(b._version(), of_b);
    }
  }
}

TEST(Adam, TransposedParametersMoveLikeContiguousOnes) {
  const at::Tensor values = at::arange(6, at::kFloat).reshape({2, 3});
  at::Tensor plain = values.clone().set_requires_grad(true);
  at::Tensor transposed = values.t().contiguous().t().set_requires_grad(true);
  Adam optimizer({.learning_rate = 0.1}, {{"plain", plain}, {"transposed", transposed}});
  for (int step = 0; step < 3; ++step) {
    const at::Tensor gradient = at::sin(values + step);
    plain.mutable_grad() = gradient.clone();
    transposed.mutable_grad() = gradient.clone();
    optimizer.update(0.1);
  }
  EXPECT_TRUE(at::equal(plain, transposed));
}

TEST(Adam, KeepsTheMomentsOfHalfPrecisionInFloat32) {
  for (const std::string type : {"adamw", "adam"}) {
    const OptimizerOptions options = {.type = type, .learning_rate = 0.01, .weight_decay = 0.1};
    const at::Tensor start = at::linspace(-1, 1, 8).to(at::kBFloat16);
    at::Tensor half = start.clone().set_requires_grad(true),
               full = start.to(at::kFloat).set_requires_grad(true);
    Adam optimizer_half(options, {{"w", half}}), optimizer_full(options, {{"w", full}});
    for (int step = 0; step < 4; ++step) {
      half.mutable_grad() = at::cos(start * step + 1).to(at::kBFloat16);
      full.mutable_grad() = half.grad().to(at::kFloat);
      optimizer_half.update(0.01);
      optimizer_full.update(0.01);
    }
    EXPECT_EQ(state_of(optimizer_half, "exp_avg.w").scalar_type(), at::kFloat);
    // adamw's moments do not depend on the rounded weights
    if (type == "adamw") {
      EXPECT_TRUE(
          at::allclose(state_of(optimizer_half, "exp_avg_sq.w"), state_of(optimizer_full, "exp_avg_sq.w")));
    }
    EXPECT_TRUE(at::allclose(half.to(at::kFloat), full, /*rtol=*/0, /*atol=*/0.02));
  }
}

TEST(Adam, ContinuesBitEqualFromItsState) {
  const TempDir directory;
  Adam whole({}, golden_parameters()), first({}, golden_parameters()), second({}, golden_parameters());
  advance(whole, 0, 6);
  advance(first, 0, 3);
  models::write_safetensors(directory / "state.safetensors", first.state());
  second.restore(models::SafetensorsReader(directory / "state.safetensors"));
  advance(second, 3, 6);
  for (size_t i = 0; i < whole.state().size(); ++i)
    EXPECT_TRUE(at::equal(whole.state()[i].second, second.state()[i].second)) << whole.state()[i].first;
}

TEST(Adam, SharedByRanksIsTheSameToTheBit) {
  const TempDir directory;
  const auto expect_equal = [](const models::NamedTensors& found, const models::NamedTensors& expected) {
    ASSERT_EQ(found.size(), expected.size());
    for (size_t i = 0; i < found.size(); ++i) {
      EXPECT_EQ(found[i].first, expected[i].first);
      EXPECT_TRUE(at::equal(found[i].second, expected[i].second)) << found[i].first;
    }
  };
  // one in half precision and one without a gradient beside the others
  const auto parameters = [] {
    models::NamedTensors all = golden_parameters();
    all.emplace_back("half",
                     filled({4}, [](double i) { return i - 1.5; }).to(at::kBFloat16).set_requires_grad(true));
    all.emplace_back("unreached", at::ones({2}).set_requires_grad(true));
    return all;
  };
  Adam half_way({}, parameters()), whole({}, parameters());
  advance(half_way, 0, 3);
  advance(whole, 0, 6);
  const auto file = directory / "state.safetensors";
  for (const int64_t size : {2, 3, 6}) {  // of five parameters: somebody has none
    const std::vector<int> codes = testing::run_ranks(size, [&](distributed::Group& group) {
      Adam first({}, parameters(), &group), second({}, parameters(), &group);
      EXPECT_LT(first.moment_bytes(), whole.moment_bytes());
      const at::Tensor bytes = at::full({1}, first.moment_bytes(), at::kLong);
      group.sum(bytes);
      EXPECT_EQ(bytes.item<int64_t>(), whole.moment_bytes());
      advance(first, 0, 3);
      expect_equal(first.parameters(), half_way.parameters());
      const models::NamedTensors state = first.state();
      if (group.is_first()) {
        expect_equal(state, half_way.state());
        models::write_safetensors(file, state);
      } else {
        EXPECT_TRUE(state.empty());
      }
      group.barrier();
      second.restore(models::SafetensorsReader(file));
      advance(second, 3, 6);
      expect_equal(second.parameters(), whole.parameters());
      return 0;
    });
    EXPECT_THAT(codes, ::testing::Each(0)) << size << " ranks";
  }
  Adam alone({}, parameters());  // goes on from what they left
  alone.restore(models::SafetensorsReader(file));
  advance(alone, 3, 6);
  expect_equal(alone.state(), whole.state());
}

TEST(Adam, RefusesToTrainNothing) {
  try {
    Adam optimizer({}, {});
    FAIL();
  } catch (const ConfigError& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("found none to train"));
  }
}

}  // namespace
}  // namespace apo::training
