// What a checkpoint says of itself: its gripper, its normalisation, what recordings are compared with.
#include "apo/models/description.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <nlohmann/json.hpp>

#include "apo/base/files.h"
#include "apo/training/policy_data.h"
#include "models/openvla_fixture.h"
#include "models/small_world.h"
#include "support/temp_dir.h"

namespace apo::models {
namespace {

using apo::testing::TempDir;
using config::GripperOptions;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::message_of;
using testing::OpenVlaGolden;
using tokenizers::ActionNormalization;

tokenizers::DatasetStatistics statistics_of(std::vector<double> min, std::vector<double> max,
                                            std::vector<bool> mask) {
  tokenizers::DatasetStatistics s;
  s.action = {.mean = std::vector<double>(min.size(), 0),
              .std = std::vector<double>(min.size(), 1),
              .min = min,
              .max = max,
              .q01 = min,
              .q99 = max,
              .mask = std::move(mask)};
  return s;
}

TEST(KnownGripper, OfOpenVlasMixturesIsOneOpenAndZeroClosed) {
  const auto zero_one = statistics_of({-1, -1, 0}, {1, 1, 1}, {true, true, false});
  const GripperOptions libero{.dimension = {}, .open = 1.0, .closed = 0.0};
  for (const char* dataset : {"libero_spatial_no_noops", "libero_10", "bridge_orig", "fractal20220817_data"})
    EXPECT_EQ(known_gripper({}, zero_one, dataset), libero) << dataset;
  EXPECT_FALSE(known_gripper({}, zero_one, "coffee_d0").is_given());  // nobody knows
  const auto both_signs = statistics_of({-1, -1, -1}, {1, 1, 1}, {true, true, false});
  EXPECT_FALSE(known_gripper({}, both_signs, "libero_spatial").is_coded());
}

TEST(KnownGripper, IsWhereTheMaskLeavesWhatVaries) {
  // dimension 1 varies and is left as it is, dimension 3 never changes
  const auto s = statistics_of({-1, 0, -1, 2}, {1, 1, 1, 2}, {true, false, true, false});
  EXPECT_THAT(known_gripper({}, s, "x").dimension, ElementsAre(1));
}

TEST(KnownGripper, IsAsTheOptionsSay) {
  const auto s = statistics_of({-1, -1, 0}, {1, 1, 1}, {true, true, false});
  PolicyOptions options;
  options.gripper = {.dimension = {}, .open = 0.0, .closed = 1.0};
  EXPECT_EQ(known_gripper(options, s, "libero_spatial"), options.gripper);
  options.gripper.dimension = {-3};
  EXPECT_EQ(known_gripper(options, s, "coffee_d0"), options.gripper);
  options.gripper.dimension = {3};
  EXPECT_THAT(message_of<ConfigError>([&] { known_gripper(options, s, "x"); }),
              HasSubstr("policy: gripper.dimension: expected from -3 to 2"));
}

TEST(DescribePolicy, OfASmallOne) {
  TempDir dir;
  const Vocabulary vocabulary = Vocabulary::from_texts({"lift the red cube now"});
  Preprocessing preprocessing = testing::small_preprocessing();
  preprocessing.statistics.gripper = {.dimension = {}, .open = -1.0, .closed = 1.0};
  preprocessing.statistics.normalization = ActionNormalization::released_apo;
  SmallPolicy(testing::small_shape(), preprocessing, vocabulary, 3, at::kCPU).save(dir.path());
  PolicyOptions options;
  EXPECT_FALSE(describe_policy(options).has_value());  // a fresh one
  options.checkpoint = dir.path().string();
  const PolicyDescription description = describe_policy(options).value();
  EXPECT_THAT(description.cameras, ElementsAre("front", "wrist"));
  EXPECT_THAT(description.state_keys, ElementsAre("hand", "height"));
  EXPECT_THAT(description.words, ElementsAre("cube", "lift", "now", "red", "the"));
  EXPECT_EQ(description.image_size, 32);
  EXPECT_EQ(description.statistics.gripper, preprocessing.statistics.gripper);
  EXPECT_EQ(description.statistics.normalization, ActionNormalization::released_apo);
  EXPECT_THAT(description.unknown_words("Lift the BLUE cube!"), ElementsAre("blue"));
  const audit::PolicyInputs inputs = training::policy_inputs(options);
  EXPECT_THAT(inputs.unknown_words("Lift the BLUE cube!"), ElementsAre("blue"));
  EXPECT_EQ(inputs.action->q01, preprocessing.statistics.action.q01);
  EXPECT_FALSE(inputs.of_checkpoint);  // what it needs is known
  EXPECT_EQ(make_policy(options, nullptr, 0, at::kCPU)->gripper(), preprocessing.statistics.gripper);
}

TEST(DescribePolicy, StatisticsOfAFileTakeThePlaceOfASmallOnes) {
  TempDir dir;
  const Vocabulary vocabulary = Vocabulary::from_texts({"lift the red cube now"});
  const Preprocessing preprocessing = testing::small_preprocessing();
  SmallPolicy(testing::small_shape(), preprocessing, vocabulary, 3, at::kCPU).save(dir.path());
  tokenizers::DatasetStatistics others = preprocessing.statistics;
  others.action.q01[0] = -5, others.action.q99[0] = 5;
  others.state.erase("height");
  others.gripper = {.dimension = {}, .open = -1.0, .closed = 1.0};
  others.state.at("hand").mean = {7, 8};
  const std::string file = dir / "others.json";
  write_file_atomic(file, tokenizers::to_json(others, "another"));

  PolicyOptions options;
  options.statistics = file;
  options.gripper = {.dimension = {}, .open = 1.0, .closed = -1.0};  // wins over the file's
  const auto check = [&](const Policy& policy, const PolicyDescription& of_a_saved_one) {
    const std::vector<Action> edge = {{5, 0.1f, 1}};
    EXPECT_EQ(policy.tokenize(edge).num_clipped, 0);
    EXPECT_EQ(of_a_saved_one.statistics.action.q99[0], 5);
    EXPECT_EQ(of_a_saved_one.statistics.gripper.open, 1.0);
    EXPECT_EQ(of_a_saved_one.statistics.state.at("hand").mean, (std::vector<double>{7, 8}));
    EXPECT_EQ(of_a_saved_one.statistics.state.at("height").mean, std::vector<double>{0.1});
  };
  PolicyOptions loaded = options;
  loaded.checkpoint = dir.path().string();
  check(*make_policy(loaded, nullptr, 0, at::kCPU), describe_policy(loaded).value());

  const DataFacts facts{.statistics = preprocessing.statistics,
                        .cameras = {"front", "wrist"},
                        .state_keys = {"hand", "height"},
                        .instructions = {"lift"},
                        .unused = ""};
  PolicyOptions fresh = options;
  fresh.state_keys = {"hand", "height"};
  const auto made = make_policy(fresh, &facts, 1, at::kCPU);
  std::filesystem::create_directory(dir / "made");
  made->save(dir / "made");
  PolicyOptions saved;
  saved.checkpoint = dir / "made";
  check(*made, describe_policy(saved).value());

  loaded.statistics = dir / "none.json";
  EXPECT_THAT(message_of<DataError>([&] { make_policy(loaded, nullptr, 0, at::kCPU); }),
              HasSubstr("none.json"));
  others = preprocessing.statistics;
  for (auto* numbers : {&others.action.mean, &others.action.std, &others.action.min, &others.action.max,
                        &others.action.q01, &others.action.q99})
    numbers->pop_back();
  others.action.mask.pop_back();
  write_file_atomic(file, tokenizers::to_json(others, "another"));
  loaded.statistics = file;
  for (const PolicyOptions& shorter : {fresh, loaded})
    EXPECT_THAT(message_of<DataError>([&] { make_policy(shorter, &facts, 0, at::kCPU); }),
                HasSubstr("others.json: action: expected 3 numbers, found 2"));
}

// 2 (1 - -1) / (2 + 1e-8) - 1 is 1 in float32, the last of 256 bins, and a touch less in float64, the last
// but one.
TEST(ActionNormalization, AsTheReleasedProgramsIsAnotherBinForTheUpperEnd) {
  TempDir dir;
  const OpenVlaGolden golden("b");
  PolicyOptions options;
  const auto size = static_cast<size_t>(golden.policy()->action_size());
  const std::vector<double> low(size, -1), high(size, 1), zero(size, 0);
  nlohmann::json action{{"mean", zero}, {"std", high}, {"min", low},
                        {"max", high},  {"q01", low},  {"q99", high}};
  action["mask"] = std::vector<bool>(size, true);
  action["mask"].back() = false;
  options.statistics = (dir / "statistics.json").string();
  write_file_atomic(options.statistics,
                    nlohmann::json{{golden.json["unnorm_key"], {{"action", action}}}}.dump());
  const std::vector<Action> actions{Action(size, 1.0f), Action(size, -1.0f)};

  const auto policy = golden.policy("", options);
  const auto [first, last] = policy->codec().bins().value();
  const auto part = [&](const at::Tensor& ids, int64_t row) {
    return ids[row].narrow(0, 0, static_cast<int64_t>(size));
  };
  EXPECT_TRUE(part(policy->tokenize(actions).ids, 0).eq(first).all().item<bool>());

  options.action_normalization = ActionNormalization::released_apo;
  const auto released = golden.policy("", options);
  const at::Tensor ids = released->tokenize(actions).ids;
  EXPECT_TRUE(part(ids, 0).eq(first + 1).all().item<bool>()) << ids;
  EXPECT_TRUE(part(ids, 1).eq(last).all().item<bool>()) << ids;
  // and a checkpoint remembers it
  const auto saved = dir / "saved";
  std::filesystem::create_directory(saved);
  released->save(saved);
  const auto loaded = load_policy(saved, at::kCPU);
  EXPECT_TRUE(loaded->tokenize(actions).ids.equal(ids));
}

}  // namespace
}  // namespace apo::models
