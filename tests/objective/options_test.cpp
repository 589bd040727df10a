// The `objective` section of a configuration.
#include "apo/objective/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "apo/config/options.h"
#include "objective/batch.h"

namespace apo::objective {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::message_of;

ObjectiveOptions read(std::string_view text, const std::vector<std::string>& overrides = {}) {
  return config::load<ObjectiveOptions>(config::Document::from_text(text, overrides));
}

TEST(ObjectiveOptions, DefaultsHoldWhatThePolicyCanDo) {
  const ObjectiveOptions options = read("{}");
  EXPECT_EQ(options.type, ObjectiveType::apo);
  EXPECT_EQ(options.beta, 0.1);
  EXPECT_EQ(options.z0, Z0Estimator::shifted_labels);
  EXPECT_EQ(options.kl_min, -5);
  EXPECT_EQ(options.kl_max, 5);
  EXPECT_EQ(options.compatibility, Compatibility::paper);
  EXPECT_EQ(options.weights.type, WeightType::adaptive);
  EXPECT_EQ(options.weights.normalization, WeightNormalization::sum);
  EXPECT_EQ(options.weights.group_size, 8);
  EXPECT_EQ(options.preset_used(), Preset::robust);
  EXPECT_EQ(options.reduction_used(), Reduction::mean);
  EXPECT_EQ(options.anchor(), 1);
  EXPECT_EQ(options.label_smoothing_bins, 0);
  EXPECT_EQ(options.credit, Credit::sample);
  // who writes C++ gets what who writes YAML gets
  EXPECT_TRUE(config::differences(options, ObjectiveOptions{}).empty());
}

struct Decided {
  std::string text;
  Preset preset;
  Reduction reduction;
  double anchor;
};

// What a preset means for each type, and that what is written wins.
const std::vector<Decided>& decided() {
  static const std::vector<Decided> kAll = {
      {"{type: apo}", Preset::robust, Reduction::mean, 1},
      {"{type: kto}", Preset::robust, Reduction::mean, 1},
      {"{type: apo, preset: robust}", Preset::robust, Reduction::mean, 1},
      {"{type: apo, preset: paper}", Preset::paper, Reduction::sum, 0},
      {"{type: kto, preset: paper}", Preset::paper, Reduction::sum, 0},
      {"{type: kto, preset: paper, reduction: mean}", Preset::paper, Reduction::mean, 0},
      {"{type: apo, preset: paper, sft_weight: 0.1}", Preset::paper, Reduction::sum, 0.1},
      {"{type: apo, sft_weight: 0}", Preset::robust, Reduction::mean, 0},
      {"{reduction: sum, type: apo}", Preset::robust, Reduction::sum, 1},
      {"{type: dpo}", Preset::robust, Reduction::sum, 0},
      {"{type: tpo, preset: paper, sft_weight: 0.2}", Preset::paper, Reduction::sum, 0.2},
      {"{type: sft}", Preset::robust, Reduction::sum, 0},
      {"{type: weighted-bc, preset: paper}", Preset::paper, Reduction::sum, 0},
      {"{type: apo, compatibility: released-code}", Preset::paper, Reduction::sum, 0},
      {"{type: apo, compatibility: released-code, sft_weight: 0.2}", Preset::paper, Reduction::sum, 0.2},
      {"{type: kto, compatibility: released-code}", Preset::robust, Reduction::mean, 1},  // it is apo's alone
  };
  return kAll;
}

TEST(ObjectiveOptions, APresetDecidesWhatIsNotWritten) {
  for (const Decided& expected : decided()) {
    SCOPED_TRACE(expected.text);
    const ObjectiveOptions options = read(expected.text);
    EXPECT_EQ(options.preset_used(), expected.preset);
    EXPECT_EQ(options.reduction_used(), expected.reduction);
    EXPECT_EQ(options.anchor(), expected.anchor);
    check(options);
  }
  // the order of writing decides nothing, and an override is written too
  EXPECT_EQ(read("{type: kto}", {"preset=paper"}).anchor(), 0);
  EXPECT_EQ(read("{sft_weight: 0.3, preset: paper, type: kto}").anchor(), 0.3);
  EXPECT_EQ(read("{preset: paper}", {"sft_weight=0.2", "reduction=mean"}).reduction_used(), Reduction::mean);
}

// A printed config has every value, and means the same once read, with every option of the other types as
// well.
TEST(ObjectiveOptions, PrintedAndReadBackMeansTheSame) {
  for (const Decided& expected : decided()) {
    SCOPED_TRACE(expected.text);
    ObjectiveOptions options = read(expected.text);
    for (const bool comments : {false, true}) {
      const std::string text = config::print(options, comments);
      for (const char* key : {"preset: ", "reduction: ", "sft_weight: ", "group_size: 8"})
        EXPECT_THAT(text, HasSubstr(key));
      ObjectiveOptions back = read(text);
      EXPECT_TRUE(config::differences(options, back).empty());
      EXPECT_EQ(back.preset_used(), expected.preset);
      EXPECT_EQ(back.reduction_used(), expected.reduction);
      EXPECT_EQ(back.anchor(), expected.anchor);
      EXPECT_EQ(config::print(back, comments), text);
    }
  }
}

TEST(ObjectiveOptions, TheReleasedCodeIsNotRobust) {
  const auto message = [](const ObjectiveOptions& options) {
    return message_of<ConfigError>([&] { check(options); });
  };
  const auto says =
      AllOf(HasSubstr("objective.preset"), HasSubstr("released-code"), HasSubstr("expected paper"));
  EXPECT_THAT(message(read("{compatibility: released-code, preset: robust}")), says);
  EXPECT_THAT(message({.compatibility = Compatibility::released_code, .preset = Preset::robust}), says);
  check({.compatibility = Compatibility::released_code});
  check({.compatibility = Compatibility::released_code, .preset = Preset::paper});
}

TEST(ObjectiveOptions, EveryNameReadsAndPrintsBack) {
  for (const std::string text : {"type: kto", "type: sft", "type: weighted-bc", "z0: mismatched", "z0: exact",
                                 "z0: none", "compatibility: released-code", "reduction: sum",
                                 "preset: paper", "credit: dimension", "sft_weight: 0.25", "kl_min: -3"}) {
    ObjectiveOptions options = read(text);
    EXPECT_THAT(config::print(options), HasSubstr(text));
    EXPECT_FALSE(config::differences(options, ObjectiveOptions{}).empty()) << text;
    EXPECT_TRUE(config::differences(options, read(config::print(options))).empty()) << text;
  }
  const ObjectiveOptions options =
      read("{}", {"weights.type=uniform", "weights.normalization=mean", "weights.group_size=0",
                  "weights.eta_desirable=4", "weights.eta_undesirable=2", "label_smoothing_bins=3",
                  "beta=0.5", "kl_max=2"});
  EXPECT_EQ(options.weights.type, WeightType::uniform);
  EXPECT_EQ(options.weights.normalization, WeightNormalization::mean);
  EXPECT_EQ(options.weights.group_size, 0);
  EXPECT_EQ(options.weights.eta_desirable, 4);
  EXPECT_EQ(options.weights.eta_undesirable, 2);
  EXPECT_EQ(options.label_smoothing_bins, 3);
  EXPECT_EQ(options.beta, 0.5);
  EXPECT_EQ(options.kl_max, 2);
}

TEST(ObjectiveOptions, AWrongNameListsTheValidOnes) {
  EXPECT_THAT(message_of<ConfigError>([] { read("z0: shifted_labels"); }),
              AllOf(HasSubstr("z0"), HasSubstr("shifted-labels"), HasSubstr("mismatched")));
  EXPECT_THAT(message_of<ConfigError>([] { read("beta: 0"); }), HasSubstr("beta"));
}

TEST(ObjectiveOptions, ContradictionsNameTheirKeys) {
  const auto message = [](const ObjectiveOptions& options) {
    return message_of<ConfigError>([&] { check(options); });
  };
  EXPECT_THAT(message({.kl_min = 2, .kl_max = 1}),
              AllOf(HasSubstr("objective.kl_min"), HasSubstr("objective.kl_max = 1"), HasSubstr("found 2")));
  EXPECT_THAT(message({.beta = -1}), HasSubstr("objective.beta"));
  EXPECT_THAT(message({.beta = std::nan("")}), HasSubstr("objective.beta"));
  EXPECT_THAT(message({.weights = {.eta_desirable = -1}}), HasSubstr("eta_desirable"));
  EXPECT_THAT(message({.sft_weight = -1}), HasSubstr("sft_weight"));
  EXPECT_THAT(message({.weights = {.group_size = -1}}), HasSubstr("objective.weights.group_size"));
  EXPECT_THAT(message({.label_smoothing_bins = -1}), HasSubstr("label_smoothing_bins"));
  EXPECT_THAT(message({.compatibility = Compatibility::released_code, .reduction = Reduction::mean}),
              AllOf(HasSubstr("objective.reduction"), HasSubstr("released-code")));
  EXPECT_THAT(message({.compatibility = Compatibility::released_code,
                       .weights = {.normalization = WeightNormalization::mean}}),
              HasSubstr("objective.weights.normalization"));
  // objectives other than apo ignore `compatibility`, so that one line changes the objective
  check({.type = ObjectiveType::sft,
         .compatibility = Compatibility::released_code,
         .reduction = Reduction::mean});
}

}  // namespace
}  // namespace apo::objective
