// What `apo-data validate` finds: each check sees one good and one bad recording.
#include "apo/audit/validate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "audit/names.h"
#include "audit/scan.h"
#include "audit/validations.h"
#include "data/seal.h"
#include "support/places.h"

namespace apo::audit {
namespace {

namespace fs = std::filesystem;
using apo::testing::TempDir;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(Validate, GoodDataHaveNoFindings) {
  TempDir dir;
  const std::string a = record(dir, {}), b = record(dir, {.name = "b.hdf5", .seed = 2});
  const Validation v = validated({a, b});
  EXPECT_EQ(complaints(v), "");
  EXPECT_EQ(v.num_files, 2);
  EXPECT_EQ(v.num_episodes, 4);
  EXPECT_EQ(v.num_steps, 40);
  EXPECT_EQ(v.checks.size(), 18u);
  EXPECT_THAT(to_text(v), AllOf(HasSubstr("2 files, 4 episodes, 40 steps"),
                                HasSubstr("verdict: good (0 errors, 0 warnings)")));
}

TEST(Validate, ReadsOnBehindWhatCannotBeRead) {
  TempDir dir;
  const std::string good = record(dir, {});
  {
    hdf5::Group data = hdf5::Group::open_for_writing(good).group("data");
    data.group("demo_0").remove("actions");
  }
  const Validation v = validated({(dir / "none.hdf5").string(), good});
  EXPECT_EQ(v.num_episodes, 1);
  EXPECT_THAT(found(v, "readable"),
              AllOf(HasSubstr("error: " + (dir / "none.hdf5").string() + ": no such file"),
                    HasSubstr("a.hdf5: /data/demo_0/actions: expected a dataset, found nothing")));
  EXPECT_THAT(found(v, "totals"), HasSubstr("total is 20, its readable episodes have 10 steps"));
  EXPECT_THAT(to_text(v), HasSubstr("not fit for training"));
}

// Our writer refuses such numbers; other recorders do not.
std::string record_with_nan(const TempDir& dir) {
  const std::string path = record(dir, {});
  hdf5::Group demo = hdf5::Group::open_for_writing(path).group("data").group("demo_1");
  std::vector<float> actions = demo.array("actions").floats();
  actions[3 * 7 + 1] = NAN;
  demo.remove("actions");
  demo.write("actions", actions, {10, 7});
  seal_episode(demo);
  return path;
}

TEST(Validate, Finite) {
  TempDir dir;
  EXPECT_THAT(found(validated({record_with_nan(dir)}), "finite"),
              HasSubstr("error: 1 steps with NaN or infinite numbers (first: a.hdf5 demo_1 timestep 3)"));
}

TEST(Validate, Range) {
  const auto few = found(of({.change =
                                 [](int64_t i, Step& s) {
                                   if (i == 4 || i == 5) s.action[2] = 1.5f;
                                 }}),
                         "range");
  EXPECT_THAT(few, AllOf(HasSubstr("dimension 2: 2 of 20 steps (10.0 %) beyond, the largest |a| is 1.5 "
                                   "(first: a.hdf5 demo_0 timestep 4)"),
                         HasSubstr("warning: 2 of 20 steps (10.0 %) are skipped for it")));
  const auto many = found(of({.change =
                                  [](int64_t, Step& s) {
                                    for (float& a : s.action) a *= 40;
                                  }}),
                          "range");
  EXPECT_THAT(many,
              HasSubstr("error: 20 of 20 steps (100.0 %) would be skipped: the actions are not in [-1, 1]"));
  EXPECT_EQ(found(of({.change = [](int64_t, Step& s) { s.action[0] *= 1.5f; }},
                     [](DataOptions& o) { o.filter.max_abs_action = 2; }),
                  "range"),
            "");
}

TEST(Validate, Spread) {
  const auto constant = found(of({.change =
                                      [](int64_t, Step& s) {
                                        s.action[3] = 0.25f;
                                        s.action[6] = 1;
                                      }}),
                              "spread");
  EXPECT_THAT(constant, AllOf(HasSubstr("note: dimension 3: q01 = q99 = 0.25 (always the same)"),
                              HasSubstr("warning: dimension 6 (gripper): q01 = q99 = 1")));
  EXPECT_THAT(found(of({.change = [](int64_t, Step& s) { s.action.assign(7, 0.5f); }}), "spread"),
              HasSubstr("error: no dimension varies"));
  Recording glitch{.episodes = std::vector<std::string>(30, "ppppphhhpp"), .change = [](int64_t i, Step& s) {
                     for (float& a : s.action) a *= 0.02f;
                     if (i == 100) s.action[0] = 0.9f;
                   }};
  EXPECT_THAT(found(of(glitch, [](DataOptions& o) { o.filter.min_motion = 0; }), "spread"),
              HasSubstr("dimension 0: q01..q99 is ["));
}

TEST(Validate, Units) {
  EXPECT_THAT(found(of({.change =
                            [](int64_t, Step& s) {
                              for (float& a : s.action) a *= 0.01f;
                            }}),
                    "units"),
              HasSubstr("warning: 12 of 14 steps (85.7 %) to imitate move by less than 0.05"));
  TempDir dir;
  const std::vector<std::string> episodes(12, "ppppphhhpp");
  const std::string a = record(dir, {.episodes = episodes});
  const std::string b = record(dir, {.name = "b.hdf5",
                                     .episodes = episodes,
                                     .change = [](int64_t, Step& s) { s.action[1] *= 0.1f; },
                                     .seed = 5});
  EXPECT_THAT(found(validated({a, b}), "units"),
              AllOf(HasSubstr("warning: dimension 1: spreads over 1.7"), HasSubstr("other units?"),
                    Not(HasSubstr("dimension 0"))));
}

TEST(Validate, Signs) {
  TempDir dir;
  const std::vector<std::string> episodes(12, "ppppphhhpp");
  const std::string a = record(dir, {.episodes = episodes});
  const std::string zero_one = record(dir, {.name = "b.hdf5",
                                            .episodes = episodes,
                                            .change = [](int64_t, Step& s) { s.action[6] = s.action[6] > 0; },
                                            .seed = 5});
  EXPECT_THAT(found(validated({a, zero_one}), "signs"),
              HasSubstr("warning: gripper: 0..1 in " + zero_one + ", -1..1 in " + a));
  const std::string inverted = record(dir, {.name = "c.hdf5",
                                            .episodes = episodes,
                                            .change = [](int64_t, Step& s) { s.action[6] *= -1; },
                                            .seed = 6});
  EXPECT_THAT(
      found(validated({a, inverted}), "signs"),
      HasSubstr("episodes of " + a + " begin with it low, those of " + inverted + " the other way round"));
  const std::string backwards = record(dir, {.name = "d.hdf5",
                                             .episodes = episodes,
                                             .change = [](int64_t, Step& s) { s.action[1] *= -1; },
                                             .seed = 7});
  EXPECT_THAT(
      found(validated({backwards}), "signs"),
      AllOf(HasSubstr("warning: dimension 1: eef_pos moves against it in " + backwards + " (correlation -"),
            Not(HasSubstr("dimension 0"))));
}

TEST(Validate, ConstantPolicy) {
  const Recording stuck{.episodes = {"ppppphhhpp", "pppppppppppppphp"}, .change = [](int64_t i, Step& s) {
                          if (i >= 12 && i < 23) s.action.assign(7, 0.5f);
                        }};
  EXPECT_THAT(found(of(stuck), "constant"), HasSubstr("warning: 11 of 22 policy steps (50.0 %) in 1 episodes "
                                                      "repeat one action, at most 11 times in a row "
                                                      "(first: a.hdf5 demo_1 timestep 2)"));
  // a human may hold still
  EXPECT_EQ(found(of({.episodes = {"pppphhhhhhhhhhhhpp"},
                      .change =
                          [](int64_t, Step& s) {
                            if (s.source == ActionSource::intervention) s.action.assign(7, 0.5f);
                          }}),
                  "constant"),
            "");
}

TEST(Validate, Pools) {
  TempDir dir;
  const std::string path = record(dir, {.episodes = {"pppppp", "pppppp"}});
  EXPECT_THAT(found(validated({path}), "pools"),
              AllOf(HasSubstr("error: the intervention pool is empty, but its share of a batch is 0.25"),
                    HasSubstr("error: the undesirable pool is empty")));
  EXPECT_THAT(found(validated({path}, nullptr, false), "pools"),
              HasSubstr("note: the intervention pool is empty"));
  EXPECT_EQ(found(validated({path}, [](DataOptions& o) { o.pools = {1, 0, 0}; }), "pools"), "");
}

TEST(Validate, PoolsOfNothing) {
  TempDir dir;
  const std::string none = (dir / "none.hdf5").string();
  EXPECT_EQ(found(validated({none}, nullptr, false), "pools"), "no such check");
  EXPECT_EQ(found(validated({none}), "pools"), "error: every pool is empty, for no episode was read\n");
}

TEST(Validate, Windows) {
  EXPECT_THAT(found(of({.episodes = {"pphhhhpp", "phhhpppp", "ppppphhp"}}), "windows"),
              HasSubstr("warning: 2 of 3 take-overs (66.7 %) have fewer (first: a.hdf5 demo_0 timestep 2)"));
}

TEST(Validate, Labels) {
  EXPECT_THAT(found(of({.episodes = {"pppppp"}}), "labels"), HasSubstr("no human correction"));
  const std::vector<std::string> ten(10, "pphhhh"), nine(9, "pphhhh");
  EXPECT_THAT(found(of({.episodes = ten, .success = false}), "labels"),
              HasSubstr("10 of 10 corrected episodes (100.0 %) failed all the same"));
  EXPECT_THAT(found(of({.episodes = ten, .success = true}), "labels"), Not(HasSubstr("all the same")));
  EXPECT_THAT(found(of({.episodes = nine, .success = false}), "labels"), Not(HasSubstr("all the same")));
  EXPECT_THAT(found(of({.success = std::nullopt}), "labels"),
              HasSubstr("2 of 2 episodes (100.0 %) do not say whether they succeeded"));
  EXPECT_THAT(found(of({.change =
                            [](int64_t i, Step& s) {
                              if (i < 3) s.desirable = false;
                            }}),
                    "labels"),
              HasSubstr("note: "));
  TempDir dir;
  const std::string path = record(dir, {});
  EXPECT_THAT(found(validated({}, [&](DataOptions& o) { o.expert.push_back({.path = path}); }), "labels"),
              HasSubstr("14 of 20 steps (70.0 %) of this expert source were the policy's"));
}

TEST(Validate, DemonstrationsGivenAsInteractions) {
  TempDir dir;
  const std::string path = record(dir, {.episodes = {"eeeeee"}});
  EXPECT_THAT(found(validated({path}), "labels"),
              AllOf(HasSubstr("warning: " + path + ": every step is an expert's"),
                    HasSubstr("belongs under data.expert")));
  EXPECT_THAT(found(validated({path}, nullptr, false), "labels"),
              HasSubstr("note: " + path + ": every step is an expert's"));
  // nothing is said of steps that are all marked as skipped
  {
    hdf5::Group demo = hdf5::Group::open_for_writing(path).group("data").group("demo_0");
    demo.remove("action_source");
    demo.write("action_source", std::vector<int8_t>(6, -1), {6});
    seal_episode(demo);
  }
  EXPECT_THAT(found(validated({path}), "labels"),
              AllOf(HasSubstr("6 of 6 steps (100.0 %) are skipped"), Not(HasSubstr("expert's"))));
}

TEST(Validate, FilterKeys) {
  TempDir dir;
  const std::string path = record(dir, {});
  {
    hdf5::Group mask = hdf5::Group::open_for_writing(path).create_group("mask");
    for (const char* key : {"train", "valid"}) mask.write(key, std::vector<int8_t>{0}, {1});
  }
  EXPECT_EQ(found(validated({path}), "labels"),
            "note: robomimic's filter keys are not followed, all demonstrations are used (1 file; a.hdf5: "
            "train, valid)\n");
  EXPECT_THAT(inspect_text(options_for_paths({path})), HasSubstr("filter_keys       train, valid\n"));
}

TEST(Validate, Instructions) {
  TempDir dir;
  const std::string a = record(dir, {}),
                    b = record(dir, {.name = "b.hdf5", .instruction = "Lift the_cube.", .seed = 3});
  EXPECT_THAT(found(validated({a, b}), "instructions"),
              HasSubstr("one task in 2 spellings: 'Lift the_cube.', 'lift the cube'"));
}

TEST(Validate, Shapes) {
  TempDir dir;
  const std::string a = record(dir, {});
  const auto with_camera = [&](const std::string& name, const std::function<void(Observation&)>& change) {
    return record(dir, {.name = name, .change = [&](int64_t, Step& s) { change(s.observation); }, .seed = 9});
  };
  const std::string other =
      with_camera("b.hdf5", [](Observation& o) { o.images["wrist"] = o.images["front"]; });
  EXPECT_THAT(found(validated({a, other}), "shapes"),
              HasSubstr("warning: mixed cameras: front (first: a.hdf5 demo_0), front+wrist (first: b.hdf5 "
                        "demo_0); only front in all"));
  const std::string renamed = with_camera("c.hdf5", [](Observation& o) {
    auto node = o.images.extract("front");
    node.key() = "top";
    o.images.insert(std::move(node));
  });
  EXPECT_THAT(found(validated({a, renamed}), "shapes"), HasSubstr("no camera is in all episodes"));
  const std::string larger = with_camera("d.hdf5", [](Observation& o) {
    o.images["front"] = at::zeros({9, 9, 3}, at::kByte);
  });
  EXPECT_THAT(found(validated({a, larger}), "shapes"),
              HasSubstr("camera front has pictures of several sizes: 6x5 (first: a.hdf5 demo_0), 9x9"));
  const std::string longer =
      record(dir, {.name = "e.hdf5", .change = [](int64_t, Step& s) { s.action.push_back(0); }});
  EXPECT_THAT(found(validated({a, longer}), "shapes"),
              HasSubstr("error: actions of several sizes: 7 (first: a.hdf5 demo_0), 8"));
}

TEST(Validate, CamerasThatThePolicyNeeds) {
  TempDir dir;
  const auto with_wrist = [](int64_t, Step& s) {
    s.observation.images["wrist"] = s.observation.images["front"];
  };
  const std::string front = record(dir, {}),
                    both = record(dir, {.name = "b.hdf5", .change = with_wrist, .seed = 2});
  const auto shapes = [](const std::vector<std::string>& paths, const PolicyInputs& inputs) {
    return found(validated(paths, nullptr, true, inputs), "shapes");
  };
  const std::string sets =
      "front (first: a.hdf5 demo_0), front+wrist (first: b.hdf5 demo_0); only front in all";
  const std::string of_the_first = "error: mixed cameras: " + sets +
                                   ", and the policy needs front, wrist (all of the first "
                                   "episode, unless policy.cameras names others)\n";
  EXPECT_EQ(shapes({both, front}, {}), of_the_first);
  EXPECT_EQ(shapes({front, both}, {}), "warning: mixed cameras: " + sets + "\n");
  EXPECT_EQ(shapes({both, front}, {.cameras = {"front"}}), "note: mixed cameras: " + sets + "\n");
  EXPECT_EQ(shapes({front, both}, {.cameras = {"wrist"}}),
            "error: mixed cameras: " + sets + ", and the policy needs wrist (policy.cameras)\n");
  EXPECT_EQ(shapes({both, front}, {.of_checkpoint = true}), "warning: mixed cameras: " + sets + "\n");
  EXPECT_EQ(shapes({front}, {.cameras = {"top"}}),
            "error: cameras: front (first: a.hdf5 demo_0); only front in all, and the policy needs top "
            "(policy.cameras)\n");
  // training begins with the demonstrations
  EXPECT_EQ(found(validated({front}, [&](DataOptions& o) { o.expert = {{.path = both}}; }), "shapes"),
            of_the_first);
  // nobody looks at the pictures of steps that are skipped
  const std::string skipped = record(dir, {.name = "c.hdf5",
                                           .episodes = {"pppppppp"},
                                           .change = [](int64_t, Step& s) { s.action[0] = 2; },
                                           .seed = 3});
  EXPECT_EQ(shapes({both, skipped}, {}), "");
}

TEST(Validate, StatesThatThePolicyNeeds) {
  TempDir dir;
  const std::string a = record(dir, {});
  const std::string longer =
      record(dir, {.name = "b.hdf5",
                   .change = [](int64_t, Step& s) { s.observation.state["joints"].push_back(0); },
                   .seed = 2});
  const std::string without = record(
      dir,
      {.name = "c.hdf5", .change = [](int64_t, Step& s) { s.observation.state.erase("joints"); }, .seed = 3});
  const auto shapes = [&](const std::string& other, const PolicyInputs& inputs) {
    return found(validated({a, other}, nullptr, true, inputs), "shapes");
  };
  EXPECT_THAT(shapes(longer, {}), AllOf(HasSubstr("note: state joints has several sizes"),
                                        HasSubstr("policy.state_keys does not name it")));
  EXPECT_THAT(shapes(longer, {.state_keys = {"joints"}}), HasSubstr("error: state joints has several sizes"));
  EXPECT_THAT(shapes(longer, {.state_keys = {"eef_pos"}}), HasSubstr("note: state joints"));
  EXPECT_THAT(shapes(without, {.state_keys = {"joints"}}),
              HasSubstr("error: state joints is only in 2 of 4 episodes"));
  EXPECT_THAT(shapes(without, {.of_checkpoint = true}),
              HasSubstr("warning: state joints is only in 2 of 4 episodes"));
  EXPECT_EQ(shapes(a, {.state_keys = {"elbow"}}),
            "error: no episode has the state elbow (policy.state_keys)\n");
}

TEST(Validate, Pictures) {
  EXPECT_THAT(
      found(of({.change = [](int64_t, Step& s) { s.observation.images["front"].zero_(); }}), "pictures"),
      HasSubstr("warning: camera front is one color all over in 2 of 2 episodes looked at (100.0 %) (first: "
                "a.hdf5 demo_0 timestep 0)"));
  const at::Tensor frozen = numbered_step(3).observation.images["front"];
  EXPECT_THAT(found(of({.episodes = {"pppppphhhhpppp"},
                        .change = [&](int64_t, Step& s) { s.observation.images["front"] = frozen.clone(); }}),
                    "pictures"),
              HasSubstr("shows the same at the start and the end"));
  const std::string layouts = apo::testing::in_source("tests/data/goldens/layouts/");
  EXPECT_THAT(found(validated({layouts + "KITCHEN_SCENE10_close_the_top_drawer_demo.hdf5"}), "pictures"),
              HasSubstr("a LIBERO file that does not say how its pictures lie"));
  EXPECT_EQ(found(validated({layouts + "libero.hdf5"}), "pictures"), "");
}

TEST(Validate, APictureOfACameraThatNobodyNeedsIsANote) {
  TempDir dir;
  write_damaged_wrist(dir / "a.hdf5");
  const auto pictures = [&](const PolicyInputs& inputs) {
    return found(validated({(dir / "a.hdf5").string()}, nullptr, false, inputs), "pictures");
  };
  const std::string wrong = "wrist_image row 3: expected numbers 0..1, found a value of 1.5";
  EXPECT_THAT(pictures({}), AllOf(HasSubstr("error: "), HasSubstr(wrong)));
  EXPECT_THAT(pictures({.cameras = {"wrist"}}), AllOf(HasSubstr("error: "), HasSubstr(wrong)));
  EXPECT_THAT(pictures({.cameras = {"front"}}),
              AllOf(HasSubstr("note: "), HasSubstr(wrong), Not(HasSubstr("error: "))));
}

TEST(Validate, LengthsAndDuplicates) {
  const Validation v = of({.episodes = {"ppphhp", "pph", "pphhpp", "pphhpp"}});
  EXPECT_THAT(found(v, "lengths"),
              HasSubstr("warning: 1 of 4 episodes (25.0 %) are shorter (first: a.hdf5 demo_1)"));
  TempDir dir;
  const std::string a = record(dir, {});
  fs::copy_file(a, dir / "b.hdf5");
  EXPECT_THAT(found(validated({dir.path().string()}), "duplicates"),
              HasSubstr("warning: 2 episodes repeat another one (first: b.hdf5 demo_0 and a.hdf5 demo_0)"));
}

TEST(Validate, JsonSaysTheSame) {
  TempDir dir;
  const auto json = nlohmann::json::parse(to_json(validated({record_with_nan(dir)})));
  EXPECT_EQ(json["verdict"], "error");
  EXPECT_EQ(json["errors"], 1);
  EXPECT_EQ(json["episodes"], 2);
  for (const auto& check : json["checks"]) {
    EXPECT_EQ(check["verdict"], check["name"] == "finite" ? "error" : "ok") << check;
  }
  EXPECT_THAT(config_error([] { validate({}, true); }), HasSubstr("no data to validate"));
}

TEST(Validate, AFileWithoutEpisodes) {
  TempDir dir;
  { TrajectoryWriter writer(dir / "a.hdf5", test_info()); }
  EXPECT_THAT(found(validated({(dir / "a.hdf5").string()}), "readable"),
              HasSubstr("a.hdf5: holds no episodes"));
}

// Rows 0, 1, ..: every second row is forgotten each time the sample is full, extremes and spacing stay.
TEST(ActionSample, KeepsEvenlySpacedRows) {
  ActionSample sample(8);
  for (int i = 0; i < 100; ++i) sample.add({static_cast<float>(i), -1.0f});
  const auto column = sample.sorted_column(0);
  EXPECT_LT(column.size(), 8u);
  EXPECT_GE(column.size(), 4u);
  EXPECT_EQ(column[0], 0);
  for (size_t i = 1; i < column.size(); ++i) EXPECT_EQ(column[i] - column[i - 1], 16);
  EXPECT_EQ(sample.max(0), 99);
  EXPECT_EQ(sample.num_seen(), 100);
}

}  // namespace
}  // namespace apo::audit
