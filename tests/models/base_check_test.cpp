// Whether adapter and weights belong together: copies of the base, and adapters that were merged already.
#include "models/adapters/base_check.h"

#include <ATen/CPUGeneratorImpl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>

#include "models/small_world.h"

namespace apo::models {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::message_of;
using ::testing::Not;

constexpr const char* kFits = "(nothing thrown)";

at::Tensor random(at::IntArrayRef sizes, uint64_t seed, double size = 1) {
  return at::randn(sizes, at::make_generator<at::CPUGeneratorImpl>(seed)) * size;
}

std::string complaint(const at::Tensor& weight, const at::Tensor& copy) {
  PeftAdapter adapter;
  adapter.file = "adapter_model.safetensors";
  adapter.base_copies["embed.weight"] = copy;
  return message_of<DataError>([&] { check_base(adapter, "embed.weight", weight); });
}

TEST(CheckBase, EqualIsEqualUpToTheRoundingOfTheNarrowerType) {
  const at::Tensor base = random({40, 30}, 1);
  const at::Tensor bfloat = base.to(at::kBFloat16), half = base.to(at::kHalf);
  EXPECT_EQ(complaint(base, base), kFits);
  EXPECT_EQ(complaint(base, bfloat), kFits);
  EXPECT_EQ(complaint(bfloat, base), kFits);
  EXPECT_EQ(complaint(base, half), kFits);
  EXPECT_EQ(complaint(half, bfloat), kFits);
  EXPECT_EQ(complaint(bfloat.to(at::kFloat), base), kFits);  // a bfloat16 checkpoint kept in float32
  EXPECT_EQ(complaint(bfloat.to(at::kFloat), bfloat), kFits);
  at::Tensor grown = base.clone();
  grown.view(-1)[7] *= 1.001;
  EXPECT_THAT(complaint(base, grown),
              AllOf(HasSubstr("adapter_model.safetensors: the copy of embed.weight differs"),
                    HasSubstr("trained beside the adapter")));
  EXPECT_THAT(complaint(bfloat, base * 1.002), HasSubstr("differs"));  // half of a bfloat16 step
  EXPECT_THAT(complaint(half, bfloat * 1.05), HasSubstr("differs"));
  EXPECT_THAT(complaint(base, random({40, 30}, 2)), HasSubstr("belongs to another base"));
  EXPECT_THAT(complaint(base, random({40, 31}, 2)), AllOf(HasSubstr("[40, 30]"), HasSubstr("[40, 31]")));
  EXPECT_THAT(complaint(base, base.to(at::kInt)), HasSubstr("found [40, 30] Int"));
}

// Ten layers [60, 50] of size 0.05, and an adapter of rank 4.
struct World {
  explicit World(double size) {
    adapter.file = "adapter_model.safetensors";
    for (uint64_t i = 0; i < 10; ++i) {
      const std::string layer = concat("layer", i);
      weights[layer] = random({60, 50}, 100 + i, 0.05);
      adapter.layers[layer] = {.a = random({4, 50}, 200 + i, 1 / std::sqrt(50.0)),
                               .b = random({60, 4}, 300 + i, size),
                               .scale = 2,
                               .name_a = layer + "_a",
                               .name_b = layer + "_b"};
    }
  }
  at::Tensor change(const std::string& layer) const {
    const PeftAdapter::Part& part = adapter.layers.at(layer);
    return at::matmul(part.b, part.a) * part.scale;
  }
  void merge(at::ScalarType type = at::kFloat) {
    for (auto& [layer, weight] : weights) weight = (weight + change(layer)).to(type);
  }
  MergedShare share() const {
    return merged_share(adapter, [this](const std::string& layer) { return weights.at(layer); });
  }
  std::string complaint() const {
    return message_of<DataError>([&] {
      refuse_merged(
          adapter, [this](const std::string& layer) { return weights.at(layer); }, "somewhere");
    });
  }
  PeftAdapter adapter;
  std::map<std::string, at::Tensor> weights;
};

TEST(MergedShare, IsOneOnceMergedAndZeroBefore) {
  World world(0.1);
  const MergedShare before = world.share();
  EXPECT_NEAR(before.share, 0, 4 * before.standard_error);
  EXPECT_LT(before.standard_error, 0.05);
  EXPECT_EQ(world.complaint(), kFits);
  world.merge(at::kBFloat16);
  const MergedShare after = world.share();
  EXPECT_NEAR(after.share, 1, 4 * after.standard_error);
  EXPECT_TRUE(after.everywhere);
  EXPECT_THAT(world.complaint(),
              AllOf(HasSubstr("adapter_model.safetensors: this adapter is merged into somewhere "
                              "already"),
                    HasSubstr("would count twice")));
  world.merge();
  EXPECT_NEAR(world.share().share, 2, 4 * after.standard_error);
}

// A second round that went on in the direction of the first, which is merged, is not the first applied twice.
TEST(MergedShare, AnAdapterAlongAMergedOneIsToldAndTaken) {
  World world(0.1);
  world.merge();
  for (auto& [layer, part] : world.adapter.layers) part.b = part.b * 0.8;
  EXPECT_NEAR(world.share().share, 1.25, 4 * world.share().standard_error);
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(world.complaint(), kFits);
  EXPECT_THAT(::testing::internal::GetCapturedStderr(),
              AllOf(HasSubstr("hold the adapter's change 1.2"), HasSubstr("twice")));
  for (auto& [layer, part] : world.adapter.layers) part.b = part.b / 0.8;
  EXPECT_THAT(world.complaint(), HasSubstr("already"));
}

// By hand: W = diag(3, 0), D = 2 · (1, 0)ᵀ(1, 0): u·W v = 3, s = 2: share 3 / 2.
TEST(MergedShare, ByHand) {
  PeftAdapter adapter;
  adapter.layers["one"] = {
      .a = torch::tensor({{1.0f, 0.0f}}), .b = torch::tensor({{1.0f}, {0.0f}}), .scale = 2};
  const at::Tensor weight = torch::tensor({{3.0f, 0.0f}, {0.0f, 0.0f}});
  const MergedShare found = merged_share(adapter, [&](const std::string&) { return weight; });
  EXPECT_NEAR(found.share, 1.5, 1e-6);
  EXPECT_NEAR(found.standard_error, 0.75, 1e-6);  // the mean square of W is 9 / 4, s = 2: 1.5 / 2
}

TEST(MergedShare, SaysNothingWhereNothingCanBeSeen) {
  World faint(1e-5);
  faint.merge();
  EXPECT_GT(faint.share().standard_error, 1);
  EXPECT_EQ(faint.complaint(), kFits);
  World fresh(0);
  EXPECT_TRUE(std::isinf(fresh.share().standard_error));
  EXPECT_EQ(fresh.complaint(), kFits);
}

// An adapter in the directions that are the weights' own, as large as they are: its share is what it is, not
// 1 everywhere.
TEST(MergedShare, IsNotFooledByTheWeightsOwnDirections) {
  World world(0.1);
  for (auto& [layer, part] : world.adapter.layers) {
    const auto [u, s, v] = at::linalg_svd(world.weights.at(layer), false);
    const int64_t sign = layer.back() % 2 == 0 ? 1 : -1;
    part.b = u.narrow(1, 0, 4) * sign;
    part.a = (v.narrow(0, 0, 4).t() * s.narrow(0, 0, 4)).t().contiguous() * 0.1;
  }
  EXPECT_EQ(world.complaint(), kFits);
}

TEST(MergedMark, RefusesTheSameAdapterOnly) {
  const World one(0.1), other(0.2);
  const std::map<std::string, std::string> plain{{"format", "pt"}};
  EXPECT_TRUE(with_merged(plain, "").empty());
  const auto once = with_merged(plain, adapter_hash(one.adapter));
  const auto twice = with_merged(once, adapter_hash(other.adapter));
  const auto refuse = [](const World& world, const std::map<std::string, std::string>& metadata) {
    return message_of<DataError>([&] { refuse_marked(world.adapter, metadata, "out"); });
  };
  EXPECT_EQ(refuse(one, plain), kFits);
  EXPECT_THAT(refuse(one, once), HasSubstr("this adapter is merged into out already"));
  EXPECT_EQ(refuse(other, once), kFits);
  EXPECT_THAT(refuse(one, twice), HasSubstr("already"));
  EXPECT_THAT(refuse(other, twice), HasSubstr("already"));
}

TEST(CheckBase, ACopyTellsThatTheAdapterIsMerged) {
  World world(0.01);
  world.adapter.base_copies["layer3.weight"] = world.weights.at("layer3").clone();
  const auto check = [&] {
    return message_of<DataError>(
        [&] { check_base(world.adapter, "layer3.weight", world.weights.at("layer3")); });
  };
  EXPECT_EQ(check(), kFits);
  world.merge(at::kBFloat16);
  EXPECT_THAT(check(),
              AllOf(HasSubstr("merged into the checkpoint already"), Not(HasSubstr("trained beside"))));
}

}  // namespace
}  // namespace apo::models
