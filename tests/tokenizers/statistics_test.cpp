// Action statistics as OpenVLA's file and as a table.
#include "apo/tokenizers/statistics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "apo/base/error.h"
#include "support/message_of.h"
#include "tokenizers/example_statistics.h"

namespace apo::tokenizers {
namespace {

using testing::example;
using ::testing::HasSubstr;

TEST(Statistics, JsonIsOpenVlas) {
  DatasetStatistics s{.action = example(), .state = {}, .num_transitions = 7, .num_trajectories = 2};
  s.state["joints"] = example();
  const auto json = nlohmann::json::parse(to_json(s, "tabletop"));
  EXPECT_EQ(json["tabletop"]["action"]["q99"], (std::vector<double>{1, 10, 1}));
  EXPECT_EQ(json["tabletop"]["action"]["mask"], (std::vector<bool>{true, true, false}));
  EXPECT_EQ(json["tabletop"]["proprio"]["q01"], (std::vector<double>{-1, 0, 0}));
  EXPECT_EQ(json["tabletop"]["num_transitions"], 7);
  const DatasetStatistics back = statistics_from_json(to_json(s, "tabletop"), "", "here");
  EXPECT_EQ(back.action.q01, s.action.q01);
  EXPECT_EQ(back.action.mask, s.action.mask);
  EXPECT_EQ(back.state.at("joints").max, example().max);
  EXPECT_EQ(back.num_trajectories, 2);
}

TEST(Statistics, TableForPeople) {
  DatasetStatistics s{.action = example(), .state = {}, .num_transitions = 7, .num_trajectories = 2};
  const std::string text = to_text(s);
  EXPECT_THAT(text, HasSubstr("7 steps of 2 episodes"));
  EXPECT_THAT(text, HasSubstr("10.0000  yes\n"));
  EXPECT_THAT(text, HasSubstr("  no\n"));
}

TEST(Statistics, JsonErrorsNameTheKey) {
  const auto message = [](const std::string& text, const std::string& name = "") {
    return apo::testing::message_of<DataError>([&] { statistics_from_json(text, name, "statistics.json"); });
  };
  EXPECT_THAT(message("not json"), HasSubstr("statistics.json:1: expected JSON, found something else"));
  EXPECT_THAT(message("[1]"),
              HasSubstr("statistics.json: expected an object of action statistics, found [1]"));
  EXPECT_THAT(
      message(R"({"a": {"action": {"q01": )" + std::string(300000, '[') + std::string(300000, ']') + "}}}"),
      HasSubstr("statistics.json: JSON nested too deeply, beyond 64 levels"));
  EXPECT_THAT(message(R"({"a": {}, "b": {}})"), HasSubstr("name one with unnorm_key (valid: a, b)"));
  EXPECT_THAT(message(R"({"a": {}, "b": {}})", "c"), HasSubstr("no statistics 'c' (valid: a, b)"));
  EXPECT_THAT(message(R"({"action": {"mean": [0]}, "index": {"mean": [0]}})"),
              HasSubstr("statistics.json: found LeRobot's statistics"));
  EXPECT_THAT(message(R"({"norm_stats": {"actions": {}}})"),
              HasSubstr("statistics.json: found openpi's statistics"));
  EXPECT_THAT(message(R"({"a": {}})"),
              HasSubstr("a.action: expected an object with q01, q99, ..., found nothing"));
  EXPECT_THAT(message(R"({"a": {"action": {"q01": [0]}}})"),
              HasSubstr("a.action.q99: expected a list, found nothing"));
  const std::string good = R"("mean": [0], "std": [1], "min": [0], "max": [1])";
  EXPECT_THAT(message(R"({"a": {"action": {"q01": [0], "q99": [1, 2], )" + good + "}}}"),
              HasSubstr("a.action.q99: expected 1 numbers, found [1,2]"));
  EXPECT_THAT(message(R"({"a": {"action": {"q01": ["x"], "q99": [1], )" + good + "}}}"),
              HasSubstr("q01[0]: expected a number, found \"x\""));
  EXPECT_THAT(message(R"({"a": {"action": {"q01": [2], "q99": [1], )" + good + "}}}"),
              HasSubstr("dimension 0: expected q99 not below q01, found q01 2 and q99 1"));
  EXPECT_THAT(message(R"({"a": {"action": {"q01": [0], "q99": [1], "mask": [1], )" + good + "}}}"),
              HasSubstr("mask[0]: expected true or false, found 1"));
  const auto with = [&](const std::string& entry) {
    return message(R"({"a": {"action": {"q01": [0], "q99": [1], )" + good + "}, " + entry + "}}");
  };
  EXPECT_THAT(with(R"("gripper": [6])"), HasSubstr("a.gripper: expected an object, found [6]"));
  EXPECT_THAT(with(R"("gripper": {"dimension": ["x"]})"),
              HasSubstr("a.gripper.dimension[0]: expected a whole number, found \"x\""));
  EXPECT_THAT(with(R"("gripper": {"dimension": [6]})"),
              HasSubstr("gripper.dimension: expected from -1 to 0"));
  EXPECT_THAT(
      with(R"("action_normalization": "auto")"),
      HasSubstr("a.action_normalization: expected quantiles, bounds or released-apo, found \"auto\""));
}

}  // namespace
}  // namespace apo::tokenizers
