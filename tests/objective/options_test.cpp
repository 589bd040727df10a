// The `objective` section of a configuration.
#include "apo/objective/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

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

TEST(ObjectiveOptions, DefaultsAreThePapers) {
  const ObjectiveOptions options = read("{}");
  EXPECT_EQ(options.type, ObjectiveType::apo);
  EXPECT_EQ(options.beta, 0.1);
  EXPECT_EQ(options.z0, Z0Estimator::shifted_labels);
  EXPECT_EQ(options.kl_min, -5);
  EXPECT_EQ(options.kl_max, 5);
  EXPECT_EQ(options.compatibility, Compatibility::paper);
  EXPECT_EQ(options.weights.type, WeightType::adaptive);
  EXPECT_EQ(options.weights.normalization, WeightNormalization::sum);
  EXPECT_EQ(options.reduction, Reduction::sum);
  EXPECT_EQ(options.sft_weight, 0);
  EXPECT_EQ(options.label_smoothing_bins, 0);
  EXPECT_EQ(options.credit, Credit::sample);
}

TEST(ObjectiveOptions, EveryNameReadsAndPrintsBack) {
  for (const std::string text : {"type: kto", "type: sft", "type: weighted-bc", "z0: mismatched", "z0: exact",
                                 "z0: none", "compatibility: released-code", "reduction: mean",
                                 "credit: dimension", "sft_weight: 0.25", "kl_min: -3"}) {
    ObjectiveOptions options = read(text);
    EXPECT_THAT(config::print(options), HasSubstr(text));
    EXPECT_FALSE(config::differences(options, ObjectiveOptions{}).empty()) << text;
    EXPECT_TRUE(config::differences(options, read(config::print(options))).empty()) << text;
  }
  const ObjectiveOptions options =
      read("{}", {"weights.type=uniform", "weights.normalization=mean", "weights.eta_desirable=4",
                  "weights.eta_undesirable=2", "label_smoothing_bins=3", "beta=0.5", "kl_max=2"});
  EXPECT_EQ(options.weights.type, WeightType::uniform);
  EXPECT_EQ(options.weights.normalization, WeightNormalization::mean);
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
