#include "models/sequence/product.h"

#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>
#include <ostream>
#include <utility>
#include <vector>

namespace apo::models {
namespace {

// A large weight goes to oneDNN, a small one beside an adapter to the BLAS library; where there are many
// rows, the adapter's own products go to oneDNN, and what it adds is added to the weight.
struct Shape {
  int64_t in, out, columns = 2;  // and 3 rows in each
};
constexpr Shape kLarge{520, 300}, kSmall{6, 5}, kManyRows{520, 300, 3000};

struct Layer {
  at::Tensor input, weight, bias, a, b;

  Layer(Shape shape, at::ScalarType type, bool train_weight) {
    auto generator = at::make_generator<at::CPUGeneratorImpl>(7);
    const auto random = [&](at::IntArrayRef sizes) {
      return at::randn(sizes, generator, at::TensorOptions(at::kDouble)).to(type);
    };
    input = random({shape.columns, 3, shape.in}).set_requires_grad(true);
    weight = random({shape.out, shape.in}).set_requires_grad(train_weight);
    bias = random({shape.out}).set_requires_grad(train_weight);
    a = random({4, shape.in}).set_requires_grad(true);
    b = random({shape.out, 4}).set_requires_grad(true);
  }
  std::vector<at::Tensor*> all() { return {&input, &weight, &bias, &a, &b}; }
};

// The composition that the fused step stands for.
at::Tensor plain(const Layer& layer, bool with_bias, bool with_adapter) {
  const auto bias = with_bias ? std::optional(layer.bias) : std::nullopt;
  const at::Tensor y = at::linear(layer.input, layer.weight, bias);
  return with_adapter ? y + 0.75 * at::linear(at::linear(layer.input, layer.a), layer.b) : y;
}

at::Tensor fused(const Layer& layer, bool with_bias, bool with_adapter) {
  const auto bias = with_bias ? std::optional(layer.bias) : std::nullopt;
  const LowRank update = with_adapter ? LowRank{layer.a, layer.b, 0.75} : LowRank{};
  EXPECT_TRUE(can_fuse(layer.input, layer.weight, bias, update));
  return adapted_product(layer.input, layer.weight, bias, update);
}

double relative(const at::Tensor& found, const at::Tensor& expected) {
  return ((found - expected).norm() / expected.norm().clamp_min(1e-12)).item<double>();
}

struct Case {
  Shape shape;
  bool with_bias, with_adapter, train_weight;
};

void PrintTo(const Case& c, std::ostream* out) {
  *out << (c.shape.in == kLarge.in ? "large" : "small") << (c.shape.columns > 2 ? "_many_rows" : "")
       << (c.with_bias ? "_bias" : "") << (c.with_adapter ? "_adapter" : "")
       << (c.train_weight ? "_trained" : "");
}

class AdaptedProduct : public ::testing::TestWithParam<Case> {};

TEST_P(AdaptedProduct, EqualsThePlainCompositionAndItsGradients) {
  const Case& c = GetParam();
  Layer one(c.shape, at::kFloat, c.train_weight), other(c.shape, at::kFloat, c.train_weight);
  const at::Tensor expected = plain(one, c.with_bias, c.with_adapter),
                   found = fused(other, c.with_bias, c.with_adapter);
  EXPECT_EQ(found.sizes(), expected.sizes());
  EXPECT_LT(relative(found, expected), 1e-6);
  // a gradient that is no contiguous tensor, as attention hands it back
  const at::Tensor direction =
      at::linspace(-1, 2, expected.numel()).view({expected.size(-1), 3, c.shape.columns}).transpose(0, 2);
  expected.backward(direction);
  found.backward(direction);
  for (size_t i = 0; i < one.all().size(); ++i) {
    const at::Tensor &of_one = one.all()[i]->grad(), &of_other = other.all()[i]->grad();
    ASSERT_EQ(of_other.defined(), of_one.defined()) << i;
    if (!of_one.defined()) continue;
    EXPECT_EQ(of_other.sizes(), of_one.sizes()) << i;
    EXPECT_LT(relative(of_other, of_one), 2e-6) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(All, AdaptedProduct,
                         ::testing::Values(Case{kLarge, true, true, false}, Case{kLarge, false, true, false},
                                           Case{kLarge, true, false, false}, Case{kLarge, false, false, true},
                                           Case{kLarge, true, true, true}, Case{kSmall, true, true, false},
                                           Case{kSmall, false, true, true},
                                           Case{kManyRows, true, true, false},
                                           Case{kManyRows, false, true, true}));

// The same numbers whatever is recorded: else a frozen reference would differ from its policy before the
// first update.
TEST(AdaptedProductLaws, WhatRequiresAGradientDoesNotChangeTheNumbers) {
  for (const Shape shape : {kLarge, kManyRows}) {
    const Layer trained(shape, at::kFloat, true);
    const at::Tensor recorded = fused(trained, true, true);
    const at::NoGradGuard no_grad;
    EXPECT_TRUE(fused(trained, true, true).equal(recorded));
    EXPECT_TRUE(fused(Layer(shape, at::kFloat, false), true, true).equal(recorded));
  }
}

// A fresh adapter and its frozen snapshot, which is not multiplied at all.
TEST(AdaptedProductLaws, AZeroThatStaysIsNotMultiplied) {
  for (const Shape shape : {kSmall, kLarge, kManyRows}) {
    Layer layer(shape, at::kFloat, false);
    layer.b = at::zeros_like(layer.b);
    const at::Tensor trained = fused(layer, true, true);
    const LowRank kept{at::full_like(layer.a, NAN), layer.b, 0.75, {}, {}, true};
    ASSERT_TRUE(can_fuse(layer.input, layer.weight, layer.bias, kept));
    EXPECT_TRUE(adapted_product(layer.input, layer.weight, layer.bias, kept).equal(trained));
    // beside a half-precision base it needs no scaled numbers
    const Layer half(shape, at::kBFloat16, false);
    ASSERT_TRUE(can_fuse(half.input, half.weight, half.bias, kept));
    EXPECT_TRUE(adapted_product(half.input, half.weight, half.bias, kept)
                    .equal(at::linear(half.input, half.weight, half.bias)));
  }
}

// Beside ones, 1e-9 is lost to rounding; beside a sum of zero, it is not.
TEST(AdaptedProductLaws, WhatAnAdapterAddsIsAddedToTheWeightWhereRowsAreMany) {
  for (const auto& [shape, added_to_weight] : {std::pair{kLarge, false}, std::pair{kManyRows, true}}) {
    const at::Tensor weight = at::ones({shape.out, shape.in}), a = at::zeros({1, shape.in});
    a[0][0] = 1;
    const at::Tensor x = at::ones({3 * shape.columns, shape.in});
    x.slice(1, 1, shape.in, 2).fill_(-1);
    const at::Tensor y = adapted_product(x, weight, std::nullopt, {a, at::full({shape.out, 1}, 1e-9), 1});
    EXPECT_EQ(y.eq(0).all().item<bool>(), added_to_weight);
  }
}

TEST(AdaptedProductLaws, AgreesWithDifferencesInFloat64) {
  Layer layer(kSmall, at::kDouble, true);
  fused(layer, true, true).square().sum().backward();
  const double step = 1e-5;
  for (at::Tensor* tensor : layer.all()) {
    const at::Tensor gradient = tensor->grad().flatten();
    const at::NoGradGuard no_grad;
    for (const int64_t i : {int64_t{0}, tensor->numel() / 2, tensor->numel() - 1}) {
      const at::Tensor entry = tensor->view(-1)[i];
      entry.add_(step);
      const double above = fused(layer, true, true).square().sum().item<double>();
      entry.sub_(2 * step);
      const double below = fused(layer, true, true).square().sum().item<double>();
      entry.add_(step);
      EXPECT_NEAR(gradient[i].item<double>(), (above - below) / (2 * step),
                  1e-4 * (1 + std::abs(gradient[i].item<double>())));
    }
  }
}

// bfloat16 keeps 8 bits: each of the few roundings on the way moves a number by at most 1/256 of itself.
TEST(AdaptedProductLaws, AFloat32AdapterOfAHalfPrecisionLayerComesScaledInItsType) {
  for (const Shape shape : {kLarge, kSmall, kManyRows}) {
    for (const double scale : {0.5, 0.75}) {  // exact in bfloat16, and rounded
      Layer half(shape, at::kBFloat16, false), exact(shape, at::kBFloat16, false);
      half.a = Layer(shape, at::kFloat, false).a, half.b = Layer(shape, at::kFloat, false).b;
      for (size_t i = 0; i < half.all().size(); ++i)
        *exact.all()[i] =
            half.all()[i]->detach().to(at::kDouble).set_requires_grad(half.all()[i]->requires_grad());
      const at::Tensor expected = at::linear(exact.input, exact.weight, exact.bias) +
                                  scale * at::linear(at::linear(exact.input, exact.a), exact.b);
      const LowRank update{half.a, half.b, scale, (scale * half.a).detach().to(at::kBFloat16),
                           (scale * half.b).detach().to(at::kBFloat16)};
      ASSERT_TRUE(can_fuse(half.input, half.weight, half.bias, update));
      const at::Tensor found = adapted_product(half.input, half.weight, half.bias, update);
      EXPECT_EQ(found.scalar_type(), at::kBFloat16);
      EXPECT_LT(relative(found.to(at::kDouble), expected), 0.01);
      const at::Tensor direction = at::linspace(-1, 2, expected.numel()).view(expected.sizes());
      found.backward(direction.to(at::kBFloat16));
      expected.backward(direction.to(at::kBFloat16).to(at::kDouble));
      for (const auto member : {&Layer::input, &Layer::a, &Layer::b}) {
        EXPECT_EQ((half.*member).grad().scalar_type(), (half.*member).scalar_type());
        EXPECT_LT(relative((half.*member).grad().to(at::kDouble), (exact.*member).grad()), 0.01);
      }
      EXPECT_FALSE(half.weight.grad().defined());
    }
  }
}

TEST(AdaptedProductLaws, LeavesOutWhatItCannotDo) {
  const Layer layer(kLarge, at::kFloat, false), small(kSmall, at::kFloat, false);
  EXPECT_FALSE(can_fuse(small.input, small.weight, std::nullopt, {}))
      << "a small layer alone stays LibTorch's";
  EXPECT_FALSE(can_fuse(layer.input.to(at::kBFloat16), layer.weight, std::nullopt, {}));
  EXPECT_FALSE(can_fuse(layer.input.to(at::kBFloat16), layer.weight.to(at::kBFloat16), std::nullopt,
                        {layer.a, layer.b, 1}))
      << "an adapter in another type, without its scaled numbers";
}

}  // namespace
}  // namespace apo::models
