#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>

#include "apo/base/files.h"
#include "apo/base/interrupt.h"
#include "apo/deploy/collector.h"
#include "apo/deploy/evaluator.h"
#include "deploy/fakes.h"
#include "support/chunk_policy.h"
#include "support/temp_dir.h"

namespace apo::deploy {
namespace {

using testing::FunctionPolicy;
using ::testing::HasSubstr;
using testing::hesitant;
using testing::message_of;
using testing::Walk;

// Three walks without a human: 4 steps to the flag, 8 to the fall, 7 to the flag.
void record_walks(const std::filesystem::path& path) {
  Walk walk;
  FunctionPolicy policy(hesitant);
  collect(walk, policy, *make_no_human(), {.take_overs = 0, .episodes = 3}, path);
}

std::vector<nlohmann::json> lines_of(const std::filesystem::path& path) {
  std::istringstream text(read_file(path));
  std::vector<nlohmann::json> lines;
  for (std::string line; std::getline(text, line);) lines.push_back(nlohmann::json::parse(line));
  return lines;
}

TEST(ScoreDataset, ByHand) {
  const apo::testing::TempDir dir;
  record_walks(dir / "walks.hdf5");
  FunctionPolicy policy(hesitant);
  EXPECT_EQ(score_dataset(policy, (dir / "walks.hdf5").string(), {}, 4, dir / "scores.jsonl"), 19);
  const auto lines = lines_of(dir / "scores.jsonl");
  ASSERT_EQ(lines.size(), 19u);
  // Logits -(v - 3)^2 for v = 0..7: log Z = log(1 + 2 (e^-1 + e^-4 + e^-9) + e^-16).
  const double log_z = std::log(1 + 2 * (std::exp(-1) + std::exp(-4) + std::exp(-9)) + std::exp(-16));
  // The first action (0.75, 0): tokens 1.75 / 2 * 7 = 6.125 -> 6 and 1 / 2 * 7 = 3.5 -> 4.
  const auto& first = lines[0];
  EXPECT_THAT(first["file"].get<std::string>(), HasSubstr("walks.hdf5"));
  EXPECT_EQ(first["episode"], "demo_0");
  EXPECT_EQ(first["timestep"], 0);
  EXPECT_EQ(first["target_tokens"], nlohmann::json({6, 4}));
  EXPECT_EQ(first["predicted_tokens"], nlohmann::json({3, 3}));
  EXPECT_NEAR(first["token_log_probs"][0], -9 - log_z, 1e-5);
  EXPECT_NEAR(first["token_log_probs"][1], -1 - log_z, 1e-5);
  EXPECT_NEAR(first["log_prob"], -10 - 2 * log_z, 1e-5);
  EXPECT_EQ(first["action"], nlohmann::json({0.75, 0}));
  EXPECT_NEAR(first["predicted_action"][0], 3.0 / 7 * 2 - 1, 1e-6);
  // in units of the normalised action: (|6 - 3| + |4 - 3|) / 7 * 2 / 2
  EXPECT_NEAR(first["action_l1"], 4.0 / 7, 1e-6);
  EXPECT_EQ(lines[4]["episode"], "demo_1");  // the failed walk too
  EXPECT_EQ(lines[18]["timestep"], 6);
  EXPECT_EQ(first.size(), 10u);
}

// The walks were recorded with this very policy, whose ids number the rows of a batch.
TEST(ScoreDataset, WhatThePolicyDecidesThereItself) {
  const apo::testing::TempDir dir;
  record_walks(dir / "walks.hdf5");
  FunctionPolicy policy(hesitant);
  score_dataset(policy, (dir / "walks.hdf5").string(), {}, 4, dir / "scores.jsonl", /*decode=*/true);
  const auto lines = lines_of(dir / "scores.jsonl");
  ASSERT_EQ(lines.size(), 19u);
  for (const auto& line : lines) {
    EXPECT_EQ(line["decoded_action"], line["action"]);
    EXPECT_NE(line["decoded_action"], line["predicted_action"]);
    EXPECT_EQ(line["decoded_tokens"].size(), 1u);
    EXPECT_LT(line["decoded_tokens"][0], 4);
    EXPECT_EQ(line.size(), 12u);
  }
}

// Three steps at once from each step on; the chunk that the episode's end cuts is shorter.
TEST(ScoreDataset, ChunksAreListsOfActions) {
  const apo::testing::TempDir dir;
  record_walks(dir / "walks.hdf5");
  apo::testing::ChunkPolicy policy;
  score_dataset(policy, (dir / "walks.hdf5").string(), {}, 4, dir / "scores.jsonl", /*decode=*/true);
  const auto lines = lines_of(dir / "scores.jsonl");
  ASSERT_EQ(lines.size(), 19u);
  for (size_t i = 0; i < lines.size(); ++i) {
    const auto& line = lines[i];
    const bool last = i + 1 == lines.size() || lines[i + 1]["timestep"] == 0;
    const bool next_is_last = !last && (i + 2 == lines.size() || lines[i + 2]["timestep"] == 0);
    const size_t steps = last ? 1 : next_is_last ? 2 : 3;
    EXPECT_EQ(line["action"].size(), steps) << i;
    EXPECT_EQ(line["predicted_action"].size(), steps) << i;
    for (const char* key : {"target_tokens", "predicted_tokens", "token_log_probs"})
      EXPECT_EQ(line[key].size(), 2 * steps) << key;
    EXPECT_EQ(line["decoded_tokens"].size(), 6u);
    EXPECT_EQ(line["decoded_action"].size(), 3u);
    if (!last) {
      EXPECT_EQ(line["action"][1], lines[i + 1]["action"][0]);
    }
    // all tokens alike for one state: what is decoded is what is most likely
    for (size_t t = 0; t < 2 * steps; ++t) EXPECT_EQ(line["decoded_tokens"][t], line["predicted_tokens"][t]);
  }
}

TEST(ScoreDataset, BatchesDoNotMatter) {
  const apo::testing::TempDir dir;
  record_walks(dir / "walks.hdf5");
  FunctionPolicy policy(hesitant);
  score_dataset(policy, (dir / "walks.hdf5").string(), {}, 1, dir / "one.jsonl");
  score_dataset(policy, (dir / "walks.hdf5").string(), {}, 64, dir / "many.jsonl");
  EXPECT_EQ(read_file(dir / "one.jsonl"), read_file(dir / "many.jsonl"));
}

TEST(ScoreDataset, IgnoresTheTrainingFilters) {
  const apo::testing::TempDir dir;
  record_walks(dir / "walks.hdf5");
  FunctionPolicy policy(hesitant);
  data::DataOptions strict;
  strict.filter.max_abs_action = 0.6;  // would skip every stride of 0.75
  EXPECT_EQ(score_dataset(policy, (dir / "walks.hdf5").string(), strict, 4, dir / "scores.jsonl"), 19);
}

// "caf" and a lone 0xE9: a name that no JSON can hold as it is.
TEST(ScoreDataset, TakesNamesThatAreNotUtf8) {
  const apo::testing::TempDir dir;
  record_walks(dir / "walks.hdf5");
  const std::string path = (dir / "caf\xe9.hdf5").string();
  std::filesystem::rename(dir / "walks.hdf5", path);
  FunctionPolicy policy(hesitant);
  EXPECT_EQ(score_dataset(policy, path, {}, 4, dir / "scores.jsonl"), 19);
  EXPECT_THAT(lines_of(dir / "scores.jsonl").at(0)["file"].get<std::string>(),
              HasSubstr("caf\xef\xbf\xbd.hdf5"));
}

TEST(ScoreDataset, SaysWhatIsWrong) {
  const apo::testing::TempDir dir;
  record_walks(dir / "walks.hdf5");
  FunctionPolicy policy(hesitant), wide(hesitant, 3);
  const std::string walks = (dir / "walks.hdf5").string();
  EXPECT_THAT(
      message_of<DataError>([&] { score_dataset(policy, (dir / "no.hdf5").string(), {}, 4, dir / "s"); }),
      HasSubstr("no.hdf5"));
  EXPECT_THAT(message_of<DataError>([&] { score_dataset(wide, walks, {}, 4, dir / "s"); }),
              HasSubstr("expected actions of 3 numbers"));
  EXPECT_THAT(message_of<ConfigError>([&] { score_dataset(policy, walks, {}, 0, dir / "s"); }),
              HasSubstr("batch"));
  write_file_atomic(dir / "file", "");
  EXPECT_THAT(message_of<RunError>([&] { score_dataset(policy, walks, {}, 4, dir / "file" / "s"); }),
              HasSubstr("file"));
  set_interrupted(true);
  EXPECT_THAT(message_of<Interrupted>([&] { score_dataset(policy, walks, {}, 4, dir / "s"); }),
              HasSubstr("0 of 19"));
  set_interrupted(false);
  EXPECT_FALSE(std::filesystem::exists(dir / "s"));
  EXPECT_FALSE(std::filesystem::exists(dir / "s.partial"));
}

}  // namespace
}  // namespace apo::deploy
