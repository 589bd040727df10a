#include "models/sequence/elementwise.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>

#include "apo/base/device.h"
#include "apo/base/error.h"
#include "models/openvla/llama.h"
#include "models/sequence/kernels/elementwise.h"
#include "models/sequence/quantized.h"
#include "support/message_of.h"

namespace apo::models {
namespace {

at::Tensor random(at::IntArrayRef sizes, at::ScalarType type = at::kDouble) {
  return at::randn(sizes, at::TensorOptions(at::kDouble)).to(type);
}

// cos and sin of one angle a pair, for both halves: [1, 1, length, size].
std::pair<at::Tensor, at::Tensor> angles(int64_t length, int64_t size, at::ScalarType type = at::kDouble) {
  const at::Tensor half = random({1, 1, length, size / 2}), angle = at::cat({half, half}, -1);
  return {angle.cos().to(type), angle.sin().to(type)};
}

// A quarter turn takes (3, 4) to (-4, 3), and back.
TEST(Elementwise, TurnsByHand) {
  const at::Tensor heads = at::tensor({3.0, 4.0}).view({1, 1, 1, 2}),
                   cos = at::zeros({1, 1, 1, 2}, at::kDouble), sin = at::ones({1, 1, 1, 2}, at::kDouble);
  EXPECT_TRUE(rotate(heads, cos, sin, 1).equal(at::tensor({-4.0, 3.0}).view({1, 1, 1, 2})));
  EXPECT_TRUE(rotate(heads, cos, sin, -1).equal(at::tensor({4.0, -3.0}).view({1, 1, 1, 2})));
  const Turned quarter = turned(3, 4, 0, 1), back = turned(3, 4, 0, -1);
  EXPECT_EQ(quarter.first, -4);
  EXPECT_EQ(quarter.second, 3);
  EXPECT_EQ(back.first, 4);
  EXPECT_EQ(back.second, -3);
}

TEST(Elementwise, TurningBackUndoesATurnAndIsItsGradient) {
  const at::Tensor heads = random({2, 3, 5, 8}).set_requires_grad(true), direction = random({2, 3, 5, 8});
  const auto [cos, sin] = angles(5, 8);
  EXPECT_TRUE(at::allclose(rotate(rotate(heads.detach(), cos, sin, 1), cos, sin, -1), heads));
  const at::Tensor halves = at::cat({-heads.narrow(-1, 4, 4), heads.narrow(-1, 0, 4)}, -1);
  (heads * cos + halves * sin).backward(direction);
  EXPECT_TRUE(at::allclose(rotate(direction, cos, sin, -1), heads.grad()));
}

TEST(Elementwise, TheGatedUnitAndItsGradientsAreAutogradsAndTheKernels) {
  const at::Tensor gate = (4 * random({64})).set_requires_grad(true),
                   up = random({64}).set_requires_grad(true), gradient = random({64});
  const at::Tensor expected = gate * at::sigmoid(gate) * up;
  expected.backward(gradient);
  EXPECT_TRUE(at::allclose(gated_unit(gate.detach(), up.detach()), expected));
  const auto [of_gate, of_up] = gated_unit_gradients(gradient, gate.detach(), up.detach());
  EXPECT_TRUE(at::allclose(of_gate, gate.grad()));
  EXPECT_TRUE(at::allclose(of_up, up.grad()));
  for (int64_t i = 0; i < 64; ++i) {
    const auto number = [i](const at::Tensor& tensor) {
      return static_cast<float>(tensor[i].item<double>());
    };
    const GatedGradient kernel = gated_gradient(number(gradient), number(gate), number(up));
    EXPECT_NEAR(gated(number(gate), number(up)), number(expected), 1e-5);
    EXPECT_NEAR(kernel.gate, number(gate.grad()), 1e-5);
    EXPECT_NEAR(kernel.up, number(up.grad()), 1e-5);
  }
}

TEST(Elementwise, NothingOverflowsFarFromZero) {
  EXPECT_EQ(gated(-200, 3), 0);
  EXPECT_EQ(gated(200, 3), 600);
  EXPECT_EQ(gated_gradient(1, -200, 3).gate, 0);
  EXPECT_EQ(gated_gradient(1, 200, 3).gate, 3);
  EXPECT_TRUE(std::isnan(gated(std::nanf(""), 1)));
}

// The loops of the CPU against the composition in float64; sizes that do not fill a vector, and heads that
// lie apart.
TEST(Elementwise, LoopsOfTheCpuEqualTheComposition) {
  const auto expect_near = [](const at::Tensor& loop, const at::Tensor& expected) {
    EXPECT_EQ(loop.scalar_type(), at::kFloat);
    EXPECT_EQ(loop.sizes(), expected.sizes());
    EXPECT_TRUE(at::allclose(loop.to(at::kDouble), expected, 3e-6, 3e-6));
  };
  for (const int64_t size : {2, 6, 64, 130})
    for (const int64_t length : {1, 37}) {
      const at::Tensor heads = random({2, length, 3, 2 * size}).narrow(-1, 0, size).transpose(1, 2);
      const auto [cos, sin] = angles(length, size);
      const at::Tensor several_cos = at::cat({cos, -cos}), several_sin = at::cat({sin, sin * 0.5});
      const auto f = [](const at::Tensor& x) { return x.to(at::kFloat); };
      for (const double direction : {1.0, -1.0}) {
        expect_near(rotate(f(heads), f(cos), f(sin), direction), rotate(heads, cos, sin, direction));
        expect_near(rotate(f(heads), f(several_cos), f(several_sin), direction),
                    rotate(heads, several_cos, several_sin, direction));
      }
    }
  for (const int64_t count : {1, 30, 5000}) {
    const at::Tensor gate = 4 * random({3, count}), up = random({3, count}), gradient = random({3, count});
    const auto f = [](const at::Tensor& x) { return x.to(at::kFloat); };
    expect_near(gated_unit(f(gate), f(up)), gated_unit(gate, up));
    const auto [of_gate, of_up] = gated_unit_gradients(f(gradient), f(gate), f(up));
    const auto [expected_gate, expected_up] = gated_unit_gradients(gradient, gate, up);
    expect_near(of_gate, expected_gate);
    expect_near(of_up, expected_up);
  }
  const at::Tensor far = at::tensor({-200.0f, 200.0f, -1e30f}), three = at::full({3}, 3.0f);
  EXPECT_TRUE(gated_unit(far, three).equal(at::tensor({0.0f, 600.0f, 0.0f})));
  const auto [of_gate, of_up] = gated_unit_gradients(at::ones({3}), far, three);
  EXPECT_TRUE(of_gate.equal(at::tensor({0.0f, 3.0f, 0.0f})));
  EXPECT_TRUE(of_up.equal(at::tensor({0.0f, 200.0f, 0.0f})));
  EXPECT_TRUE(std::isnan(gated_unit(at::full({1}, std::nanf("")), at::ones(1)).item<float>()));
}

TEST(Elementwise, TheNormAndItsGradientAreAutograds) {
  for (const int64_t width : {1, 5, 64, 100})
    for (const double offset : {0.0, 1.0}) {
      const at::Tensor x = random({2, 3, width}).set_requires_grad(true), weight = random({width}),
                       gradient = random({2, 3, width});
      const at::Tensor expected = x * at::rsqrt(x.square().mean(-1, true) + 1e-2) * (weight + offset);
      expected.backward(gradient);
      const at::Tensor single = x.detach().to(at::kFloat), weights = weight.to(at::kFloat);
      ASSERT_TRUE(has_rms_norm(single, weights));
      const auto [out, scale] = rms_norm(single, weights, offset, 1e-2);
      EXPECT_TRUE(at::allclose(out.to(at::kDouble), expected, 1e-5, 1e-6));
      const at::Tensor back = rms_norm_gradient(gradient.to(at::kFloat), single, weights, scale, offset);
      EXPECT_TRUE(at::allclose(back.to(at::kDouble), x.grad(), 1e-4, 1e-5)) << width;
    }
  const at::Tensor x = at::ones({2, 4}), weight = at::ones({4});
  EXPECT_FALSE(has_rms_norm(x.to(at::kBFloat16), weight.to(at::kBFloat16)));
  EXPECT_FALSE(has_rms_norm(x.to(at::kDouble), weight.to(at::kDouble)));
  EXPECT_FALSE(has_rms_norm(at::ones({2, 8}).slice(1, 0, 8, 2), weight));
  EXPECT_FALSE(has_rms_norm(x, at::ones({2})));
}

// What trains through it: x, the weight, both; a gradient that comes transposed.
TEST(Elementwise, TheNormOfAModelHasAutogradsGradients) {
  for (const bool gemma : {false, true})
    for (const int trains : {1, 2, 3}) {
      RmsNorm norm(48, 1e-2, at::TensorOptions(at::kFloat), gemma);
      const at::Tensor weight = random({48}), x = random({3, 5, 48}),
                       gradient = random({5, 3, 48}).transpose(0, 1);
      norm.weight = weight.to(at::kFloat).set_requires_grad((trains & 2) != 0);
      const at::Tensor input = x.to(at::kFloat).set_requires_grad((trains & 1) != 0);
      const at::Tensor out = norm(input);
      out.backward(gradient.to(at::kFloat));
      const at::Tensor w = weight.clone().set_requires_grad(true), y = x.clone().set_requires_grad(true);
      const at::Tensor expected = y * at::rsqrt(y.square().mean(-1, true) + 1e-2) * (gemma ? w + 1 : w);
      expected.backward(gradient);
      const auto near = [](const at::Tensor& single, const at::Tensor& exact) {
        return at::allclose(single.to(at::kDouble), exact, 1e-4, 1e-5);
      };
      EXPECT_TRUE(near(out, expected));
      EXPECT_EQ(input.grad().defined(), (trains & 1) != 0);
      EXPECT_EQ(norm.weight.grad().defined(), (trains & 2) != 0);
      if (input.grad().defined()) {
        EXPECT_TRUE(near(input.grad(), y.grad()));
      }
      if (norm.weight.grad().defined()) {
        EXPECT_TRUE(near(norm.weight.grad(), w.grad()));
      }
    }
}

TEST(Elementwise, ASecondDerivativeOfTheNormIsRefused) {
  RmsNorm norm(8, 1e-2, at::TensorOptions(at::kFloat));
  norm.weight = at::ones(8);
  const at::Tensor x = at::randn({2, 8}).set_requires_grad(true);
  EXPECT_THAT(apo::testing::message_of<RunError>([&] {
                norm(x).backward(at::ones({2, 8}), /*retain_graph=*/true, /*create_graph=*/true);
              }),
              ::testing::HasSubstr("no second derivative"));
}

// Sizes that do not fill a block, heads that lie apart, and shapes that no kernel takes.
TEST(Elementwise, OnCudaEqualThoseOnTheCpu) {
  if (cuda_state().devices == 0) GTEST_SKIP() << "no CUDA device: " << cuda_state().problem;
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kHalf, at::kDouble}) {
    const double tolerance = type == at::kDouble ? 1e-12 : type == at::kFloat ? 1e-5 : 0.04;
    const auto expect_equal = [&](const at::Tensor& device, const at::Tensor& host) {
      EXPECT_EQ(device.sizes(), host.sizes());
      EXPECT_TRUE(device.is_cuda());
      EXPECT_TRUE(at::allclose(device.cpu().to(at::kDouble), host.to(at::kDouble), tolerance, tolerance))
          << type;
    };
    for (const int64_t size : {8, 32, 128})
      for (const int64_t length : {1, 37}) {
        const at::Tensor heads = random({2, length, 3, 2 * size}, type).narrow(-1, 0, size).transpose(1, 2);
        const auto [cos, sin] = angles(length, size, type);
        const at::Tensor several_cos = at::cat({cos, -cos}), several_sin = at::cat({sin, sin * 0.5});
        for (const double direction : {1.0, -1.0}) {
          expect_equal(rotate(heads.cuda(), cos.cuda(), sin.cuda(), direction),
                       rotate(heads, cos, sin, direction));
          expect_equal(rotate(heads.cuda(), several_cos.cuda(), several_sin.cuda(), direction),
                       rotate(heads, several_cos, several_sin, direction));
        }
      }
    for (const int64_t count : {8, 24, 30, 5000}) {
      const at::Tensor gate = 4 * random({2, count}, type), up = random({2, count}, type),
                       gradient = random({2, count}, type);
      expect_equal(gated_unit(gate.cuda(), up.cuda()), gated_unit(gate, up));
      const auto [of_gate, of_up] = gated_unit_gradients(gradient.cuda(), gate.cuda(), up.cuda());
      const auto [host_gate, host_up] = gated_unit_gradients(gradient, gate, up);
      expect_equal(of_gate, host_gate);
      expect_equal(of_up, host_up);
    }
    if (type == at::kDouble) continue;
    for (const int64_t out : {1, 3, 130}) {
      const QuantizedWeight host = quantize(random({out, 192}, at::kFloat), Quantization::nf4);
      expect_equal(decoded({host.codes.cuda(), host.scales.cuda()}, type), decoded(host, type));
      if (out > 2) {
        expect_equal(decoded(rows_of({host.codes.cuda(), host.scales.cuda()}, 1, 3), type),
                     decoded(rows_of(host, 1, 3), type));
      }
      EXPECT_TRUE(
          quantize(decoded(host, at::kFloat).cuda(), Quantization::nf4).codes.cpu().equal(host.codes));
    }
  }
}

}  // namespace
}  // namespace apo::models
