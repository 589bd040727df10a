// Who acted, as recorders of other projects write it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "apo/audit/inspect.h"
#include "apo/audit/validate.h"
#include "audit/names.h"
#include "audit/validations.h"
#include "data/recordings.h"
#include "support/temp_dir.h"

namespace apo::audit {
namespace {

namespace fs = std::filesystem;
using apo::testing::TempDir;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using Numbers = std::vector<float>;
using Change = std::function<void(hdf5::Group& demo)>;

// "p" policy, "h" human, "e" expert, "s" not recorded: one letter a step.
std::string letters(const EpisodeRecord& record) {
  std::string text;
  for (size_t i = 0; i < record.sources.size(); ++i)
    text += !record.recorded[i] ? 's' : std::string("eph")[static_cast<size_t>(record.sources[i])];
  return text;
}

class WhoActedTest : public ::testing::Test {
 protected:
  // A robomimic file of one episode with as many steps as the arrays that `change` adds need.
  fs::path write(int64_t steps, const Change& change) {
    hdf5::Group demo = hdf5::Group::create(path_).create_group("data").create_group("demo_0");
    demo.set_attribute("task_description", "lift");
    Numbers actions;
    for (int64_t t = 0; t < steps; ++t)
      actions.insert(actions.end(), {0.5f, 0.01f * static_cast<float>(t), 1});
    demo.write("actions", actions, {steps, 3});
    hdf5::Group obs = demo.create_group("obs");
    obs.write("front_image", std::vector<uint8_t>(static_cast<size_t>(steps * 48)), {steps, 4, 4, 3});
    change(demo);
    return path_;
  }
  EpisodeRecord read(int64_t steps, const Change& change) {
    return TrajectoryFile::open(write(steps, change))->episode(0);
  }
  std::string error(int64_t steps, const Change& change) {
    return data_error([&] { read(steps, change); });
  }
  static void add(hdf5::Group& demo, const std::string& name, const Numbers& values, bool column = false) {
    const auto n = static_cast<int64_t>(values.size());
    demo.write(name, values, column ? std::vector<int64_t>{n, 1} : std::vector<int64_t>{n});
  }

  TempDir dir_;
  fs::path path_ = dir_ / "a.hdf5";
};

TEST_F(WhoActedTest, ThreeArraysOfRobomimic) {
  const EpisodeRecord record = read(6, [](auto& demo) {
    add(demo, "interventions", {0, 0, 0, 1, 1, 0}, true);
    add(demo, "policy_acting", {1, 1, 1, 0, 0, 1});
    add(demo, "user_acting", {0, 0, 0, 1, 1, 0}, true);
  });
  EXPECT_EQ(letters(record), "ppphhp");
  EXPECT_TRUE(record.unused.empty());
}

// 25 policy and 15 human steps with K = 10: 60 of 6 episodes are undesirable, 90 are corrections.
TEST_F(WhoActedTest, TheyDecideTheLabels) {
  Numbers human(40, 0), policy(40, 1);
  for (size_t i = 25; i < 40; ++i) human[i] = 1, policy[i] = 0;
  write(40, [&](auto& demo) {
    add(demo, "interventions", human, true);
    add(demo, "policy_acting", policy);
    add(demo, "user_acting", human, true);
  });
  for (int i = 1; i < 6; ++i) fs::copy_file(path_, dir_ / concat("b", i, ".hdf5"));
  DataOptions options;
  options.interactions.push_back({.path = dir_.path().string()});
  const Dataset dataset(options);
  EXPECT_EQ(dataset.pool(Pool::undesirable).size(), 60u);
  EXPECT_EQ(dataset.pool(Pool::intervention).size(), 90u);
  EXPECT_EQ(dataset.pool(Pool::desirable).size(), 90u);
}

TEST_F(WhoActedTest, AtAStepOfNeitherNothingIsRecorded) {
  EXPECT_EQ(letters(read(5,
                         [](auto& demo) {
                           add(demo, "policy_acting", {1, 1, 0, 0, 1});
                           add(demo, "user_acting", {0, 0, 0, 1, 0});
                         })),
            "ppshp");
}

TEST_F(WhoActedTest, ArraysOfOtherRecorders) {
  for (const std::string name : {"interventions", "intervention", "intervene_flag", "is_intervention",
                                 "complementary_info.is_intervention"}) {
    EXPECT_EQ(letters(read(4, [&](auto& demo) { add(demo, name, {0, 1, 1, 0}, true); })), "phhp") << name;
    EXPECT_EQ(letters(read(4,
                           [&](auto& demo) {
                             hdf5::Group obs = demo.group("obs");
                             add(obs, name.substr(name.find('.') + 1), {0, 1, 1, 0});
                           })),
              "phhp")
        << name << " in obs";
  }
  EXPECT_EQ(letters(read(4,
                         [](auto& demo) {
                           hdf5::Group more = demo.create_group("complementary_info");
                           add(more, "is_intervention", {0, 0, 1, 1});
                         })),
            "pphh");
  EXPECT_EQ(letters(read(3, [](auto& demo) { add(demo, "user_acting", {0, 1, 0}); })), "php");
  EXPECT_EQ(letters(read(3, [](auto& demo) { add(demo, "policy_acting", {0, 1, 0}); })), "hph");
  EXPECT_EQ(letters(read(3, [](auto& demo) { add(demo, "interventions", {0, 0, 0}); })), "ppp");
}

// Who acts through the whole episode and never intervenes demonstrates.
TEST_F(WhoActedTest, Demonstrations) {
  EXPECT_EQ(letters(read(3,
                         [](auto& demo) {
                           add(demo, "interventions", {0, 0, 0});
                           add(demo, "policy_acting", {0, 0, 0});
                           add(demo, "user_acting", {1, 1, 1});
                         })),
            "eee");
  EXPECT_EQ(letters(read(3,
                         [](auto& demo) {
                           add(demo, "interventions", {1, 1, 1});
                           add(demo, "user_acting", {1, 1, 1});
                         })),
            "hhh");
}

// Recorders make the arrays and leave zeros in them.
TEST_F(WhoActedTest, ZerosAloneSayNothing) {
  const EpisodeRecord record = read(3, [](auto& demo) {
    add(demo, "interventions", {0, 0, 0, 0}, true);
    add(demo, "policy_acting", {0, 0, 0, 0});
    add(demo, "user_acting", {0, 0, 0, 0}, true);
  });
  EXPECT_EQ(letters(record), "eee");
  EXPECT_THAT(record.remarks.at("policy_acting"), HasSubstr("zeros alone"));
  EXPECT_EQ(letters(read(3,
                         [](auto& demo) {
                           add(demo, "interventions", {0, 1, 0});
                           add(demo, "policy_acting", {0, 0, 0});
                           add(demo, "user_acting", {0, 0, 0});
                         })),
            "php");
}

// A person's arrays are filled, the policy's is not.
TEST_F(WhoActedTest, ZerosOfThePolicyAloneSayNothing) {
  const EpisodeRecord record = read(4, [](auto& demo) {
    add(demo, "policy_acting", {0, 0, 0, 0});
    add(demo, "user_acting", {0, 1, 1, 0});
  });
  EXPECT_EQ(letters(record), "phhp");
  EXPECT_THAT(record.remarks.at("policy_acting"), HasSubstr("user_acting is 0, which says who acted"));
  EXPECT_EQ(letters(read(4,
                         [](auto& demo) {
                           add(demo, "interventions", {0, 1, 1, 0});
                           add(demo, "policy_acting", {0, 0, 0, 0});
                           add(demo, "user_acting", {0, 1, 1, 0});
                         })),
            "phhp");
  // a demonstration in which the person pauses
  EXPECT_EQ(letters(read(4,
                         [](auto& demo) {
                           add(demo, "interventions", {0, 0, 0, 0});
                           add(demo, "policy_acting", {0, 0, 0, 0});
                           add(demo, "user_acting", {0, 1, 1, 0});
                         })),
            "sees");
}

// h5py reads zeros from an array that was made and never filled.
TEST_F(WhoActedTest, WhatWasNeverWrittenIsItsFillValue) {
  const std::vector<std::pair<std::string, std::string>> names{{"action_source", "eee"},
                                                               {"action_modes", "ppp"},
                                                               {"policy_acting", "eee"},
                                                               {"user_acting", "ppp"},
                                                               {"interventions", "ppp"},
                                                               {"intervention", "ppp"},
                                                               {"intervene_flag", "ppp"},
                                                               {"is_intervention", "ppp"},
                                                               {"complementary_info.is_intervention", "ppp"},
                                                               {"policy_action_valid", "eee"}};
  for (const auto& [name, expected] : names) {
    const EpisodeRecord record = read(3, [&name = name](auto& demo) {
      demo.make_unwritten(name, {3});
      if (name == "policy_action_valid") demo.write("policy_action", Numbers(9, 0.5f), {3, 3});
    });
    EXPECT_EQ(letters(record), expected) << name;
    EXPECT_TRUE(record.remarks.contains(name)) << name;
    EXPECT_EQ(record.desirable[1], std::nullopt) << name;
    EXPECT_EQ(record.policy_actions[1], std::nullopt) << name;
  }
  const auto in_obs = [](auto& demo) { demo.group("obs").make_unwritten("user_acting", {3}); };
  EXPECT_EQ(letters(read(3, in_obs)), "ppp");
  EXPECT_THAT(error(3, [](auto& demo) { demo.make_unwritten("intervention", {2}); }),
              HasSubstr("/data/demo_0/intervention: expected 3 rows"));
}

// Zeros are no action that the policy wanted, and no word on every step.
TEST_F(WhoActedTest, APolicyActionAndLabelsThatWereNeverWrittenAreNotUsed) {
  const EpisodeRecord record = read(2, [](auto& demo) {
    add(demo, "intervention", {0, 1});
    demo.make_unwritten("desirable", {2});
    demo.make_unwritten("policy_action", {2, 3});
  });
  EXPECT_EQ(record.policy_actions[1], std::nullopt);
  EXPECT_EQ(record.unused.at("policy_action"), "float32 [2, 3], never written");
  EXPECT_EQ(record.desirable[1], std::nullopt);
  EXPECT_EQ(record.unused.at("desirable"), "float32 [2], never written");
}

TEST_F(WhoActedTest, OursComesFirstThenSirius) {
  EXPECT_EQ(letters(read(3,
                         [](auto& demo) {
                           demo.write("action_source", std::vector<int8_t>{1, 1, 2}, {3});
                           add(demo, "interventions", {1, 0, 0});
                         })),
            "pph");
  EXPECT_EQ(letters(read(3,
                         [](auto& demo) {
                           add(demo, "action_modes", {-1, 0, 1});
                           add(demo, "interventions", {1, 0, 0});
                         })),
            "eph");
  EXPECT_EQ(letters(read(3, [](auto& demo) { add(demo, "action_source", {1, 1, 2}); })), "pph");  // of floats
}

TEST_F(WhoActedTest, ContradictionsAreRefused) {
  EXPECT_THAT(error(3,
                    [](auto& demo) {
                      add(demo, "policy_acting", {1, 1, 1});
                      add(demo, "user_acting", {0, 0, 1});
                    }),
              AllOf(HasSubstr("/data/demo_0/policy_acting row 2: expected 0 where "),
                    HasSubstr("/user_acting is 1, found 1")));
  EXPECT_THAT(error(3,
                    [](auto& demo) {
                      add(demo, "interventions", {0, 0, 1});
                      add(demo, "policy_acting", {1, 0, 0});
                      add(demo, "user_acting", {0, 1, 1});
                    }),
              AllOf(HasSubstr("/data/demo_0/interventions row 1: expected 1 as in "), HasSubstr("found 0")));
  EXPECT_THAT(error(3,
                    [](auto& demo) {
                      add(demo, "intervention", {0, 0, 1});
                      add(demo, "intervene_flag", {0, 1, 1});
                    }),
              HasSubstr("/data/demo_0/intervene_flag row 1: expected 0 as in "));
  EXPECT_THAT(error(3,
                    [](auto& demo) {
                      add(demo, "intervention", {0, 0.5f, 1});
                    }),
              HasSubstr("/data/demo_0/intervention row 1: expected one of 0, 1, found 0.5"));
  EXPECT_THAT(
      error(3,
            [](auto& demo) {
              add(demo, "intervention", {0, 1});
            }),
      HasSubstr("/data/demo_0/intervention: expected 3 rows, one for each action, found float32 [2]"));
  EXPECT_THAT(error(2,
                    [](auto& demo) {
                      demo.write("intervene_flag", Numbers(4), {2, 2});
                    }),
              HasSubstr("/data/demo_0/intervene_flag: expected numbers [S], found float32 [2, 2]"));
}

TEST_F(WhoActedTest, WhatThePolicyWanted) {
  const Numbers wanted{9, 9, 9, 0.1f, 0.2f, 1};
  const auto expect = [&](const EpisodeRecord& record) {
    EXPECT_EQ(record.policy_actions[0], std::nullopt);
    EXPECT_EQ(record.policy_actions[1], (Action{0.1f, 0.2f, 1}));
  };
  expect(read(2, [&](auto& demo) {
    add(demo, "intervention", {0, 1});
    demo.write("complementary_info.policy_action", wanted, {2, 3});
  }));
  const EpisodeRecord record = read(2, [&](auto& demo) {
    hdf5::Group more = demo.create_group("complementary_info");
    add(more, "is_intervention", {0, 1});
    more.write("policy_action", wanted, {2, 3});
    add(more, "state", {0, 0});
  });
  expect(record);
  EXPECT_EQ(record.unused, (std::map<std::string, std::string>{{"complementary_info/state", "float32 [2]"}}));
}

// What is beside the actions and is not read is named; what may say who acted is a warning.
TEST_F(WhoActedTest, WhatIsNotReadIsNamed) {
  write(6, [](auto& demo) {
    add(demo, "is_teleoperated", {0, 0, 1, 1, 0, 0});
    add(demo, "states", Numbers(6));
    add(demo, "rewards", Numbers(6));
    demo.create_group("datagen_info");
  });
  const DataOptions options = options_for_paths({path_.string()}, TrajectoryFormat::automatic, "");
  EXPECT_THAT(found(validate(options, false), "shapes"),
              AllOf(HasSubstr("warning: is_teleoperated is not read, and may say who acted: float32 [6]"),
                    HasSubstr("note: not read: datagen_info, states"), Not(HasSubstr("rewards"))));
  EXPECT_THAT(inspect_text(options),
              AllOf(HasSubstr("not read          datagen_info: a group"), HasSubstr("states: float32 [6]")));
}

}  // namespace
}  // namespace apo::audit
