// One recording for each rule of `apo-data validate`: what must be found, how grave, and what must not.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>
#include <ostream>

#include "audit/names.h"
#include "audit/validations.h"
#include "data/journal.h"
#include "data/seal.h"

namespace apo::audit {
namespace {

namespace fs = std::filesystem;
using apo::testing::TempDir;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using Strings = std::vector<std::string>;

struct Rule {
  const char* name;
  std::function<Validation(const TempDir& dir)> validation;
  const char* check;
  const char* found;  // how the finding begins: "warning: state joints ..."; empty: there must be none
  const char* also = "";
};
void PrintTo(const Rule& rule, std::ostream* out) { *out << rule.name; }

class ValidateRule : public ::testing::TestWithParam<Rule> {};

TEST_P(ValidateRule, IsApplied) {
  TempDir dir;
  const std::string text = found(GetParam().validation(dir), GetParam().check);
  if (*GetParam().found) {
    EXPECT_THAT(text, AllOf(StartsWith(GetParam().found), HasSubstr(GetParam().also)));
  } else {
    EXPECT_EQ(text, "");
  }
}

using Change = std::function<void(int64_t, Step&)>;
using Options = std::function<void(DataOptions&)>;

// What validates one recording, or two: a.hdf5 and b.hdf5.
auto one(Recording recording, Options options = nullptr) {
  return [=](const TempDir& dir) { return validated({record(dir, recording)}, options); };
}
auto two(Recording a, Recording b) {
  return [=](const TempDir& dir) {
    Recording second = b;
    second.name = "b.hdf5";
    return validated({record(dir, a), record(dir, second)});
  };
}
// The first as demonstrations, the second as interactions.
auto expert_and(Recording a, Recording b, Options options = nullptr) {
  return [=](const TempDir& dir) {
    Recording second = b;
    second.name = "b.hdf5";
    const std::string expert = record(dir, a);
    return validated({record(dir, second)}, [&](DataOptions& o) {
      o.expert.push_back({.path = expert});
      if (options) options(o);
    });
  };
}
// One recording whose demo_0 is changed afterwards, where our writer would refuse.
auto edited(Recording recording, std::function<void(hdf5::Group& demo)> edit, Options options = nullptr) {
  return [=](const TempDir& dir) {
    const std::string path = record(dir, recording);
    {
      hdf5::Group demo = hdf5::Group::open_for_writing(path).group("data").group("demo_0");
      edit(demo);
      seal_episode(demo);
    }
    return validated({path}, options);
  };
}

template <class T>
void replace(hdf5::Group& demo, const std::string& name, const std::vector<T>& values) {
  const std::vector<int64_t> shape = demo.array(name).shape();
  demo.remove(name);
  demo.write(name, values, shape);
}

// Marks steps of demo_0 as skipped and gives each the same action.
std::function<void(hdf5::Group&)> skip(std::vector<size_t> steps, float action) {
  return [=](hdf5::Group& demo) {
    std::vector<float> actions = demo.array("actions").floats();
    std::vector<int8_t> sources;
    for (const int64_t code : demo.array("action_source").integers())
      sources.push_back(static_cast<int8_t>(code));
    for (const size_t t : steps) {
      sources[t] = -1;
      std::fill_n(actions.begin() + static_cast<int64_t>(7 * t), 7, action);
    }
    replace(demo, "actions", actions);
    replace(demo, "action_source", sources);
  };
}

Change scaled(size_t dimension, float factor) {
  return [=](int64_t, Step& s) { s.action[dimension] *= factor; };
}
Change all_scaled(float factor) {
  return [=](int64_t, Step& s) {
    for (float& a : s.action) a *= factor;
  };
}
Change hold(int64_t from, int64_t to) {
  return [=](int64_t i, Step& s) {
    if (i >= from && i < to) s.action.assign(7, 0.5f);
  };
}
// Small motions and one large number: a glitch.
Change glitch(size_t dimension, float value) {
  return [=](int64_t i, Step& s) {
    for (float& a : s.action) a *= 0.02f;
    if (i == 100) s.action[dimension] = value;
  };
}
void any_motion(DataOptions& options) { options.filter.min_motion = 0; }

const Strings kMany(30, "ppppphhhpp"), kTwelve(12, "ppppphhhpp");
std::string steps(size_t n) { return std::string(n, 'p'); }

// ---- the first table: what was recorded ----

INSTANTIATE_TEST_SUITE_P(
    Recordings, ValidateRule,
    ::testing::Values(
        Rule{"StateOfSeveralSizes",
             two({},
                 {.change = [](int64_t, Step& s) { s.observation.state["joints"].push_back(0); }, .seed = 2}),
             "shapes",
             "note: state joints has several sizes: 2 (first: a.hdf5 demo_0), 3 (first: b.hdf5 demo_0)"},
        Rule{"StateMissing",
             two({}, {.change = [](int64_t, Step& s) { s.observation.state.erase("joints"); }, .seed = 2}),
             "shapes", "note: state joints is only in 2 of 4 episodes (50.0 %)"},
        Rule{"NoCamera", one({.change = [](int64_t, Step& s) { s.observation.images.clear(); }}), "shapes",
             "error: no episode has a camera"},
        Rule{"NothingDesirable", one({.episodes = {"hhhhhh", "ppphhh"}}), "pools",
             "error: the desirable pool is empty, but its share of a batch is 0.5",
             "set data.pools.desirable to 0"},
        Rule{"MostSkipped",
             one({.change =
                      [](int64_t i, Step& s) {
                        if (i % 10 < 9) s.action[0] = 2;
                      }}),
             "labels", "warning: ",
             "a.hdf5: 12 of 20 steps (60.0 %) are skipped (`apo-data inspect` lists the reasons)"},
        Rule{"NothingToImitate",
             one({.change =
                      [](int64_t i, Step& s) {
                        if (i >= 5 && i < 8) s.action[0] = 2;
                      }}),
             "windows",
             "warning: 1 of 2 take-overs (50.0 %) have no human step that is imitated (first: a.hdf5 demo_0 "
             "timestep 5)"},
        Rule{"GripperChangeLeftOut",
             one({.change =
                      [](int64_t i, Step& s) {
                        if (i == 5) s.action[0] = 2;
                      }}),
             "filters", "warning: ",
             "a.hdf5: 1 of 2 changes of the gripper (50.0 %) are left out (first: a.hdf5 demo_0 timestep 5)"},
        Rule{"AlmostAllFiltered",
             expert_and({.episodes = {std::string(40, 'e')},
                         .change =
                             [](int64_t i, Step& s) {
                               if (i > 2) s.action[0] = 2;
                             }},
                        {}),
             "filters",
             "error: ", "filters leave out 37 of 40 steps that would be imitated (37 action out of range)"},
        Rule{"HalfSkipped",
             one({.change =
                      [](int64_t i, Step& s) {
                        if (i % 10 > 4) s.action[0] = 2;
                      }}),
             "labels", ""},
        Rule{"InstructionWithoutWords", one({.instruction = "?!"}), "instructions",
             "warning: some episodes have an instruction without words"},
        Rule{"FarLonger", one({.episodes = {"ppphhp", "ppphhp", "ppphh" + steps(56)}}), "lengths",
             "note: the longest has 61 steps (a.hdf5 demo_2), the median 6"},
        Rule{"TenTimesAsLong", one({.episodes = {"ppphhp", "ppphhp", "ppphh" + steps(55)}}), "lengths", ""},
        Rule{"UpperOutlier", one({.episodes = kMany, .change = glitch(0, 0.9f)}, any_motion), "spread",
             "warning: dimension 0: q01..q99 is [", "and 0.9: glitches or other units in some steps?"},
        Rule{"LowerOutlier", one({.episodes = kMany, .change = glitch(2, -0.9f)}, any_motion), "spread",
             "warning: dimension 2: q01..q99 is [", "the extremes are -0.9 and "},
        Rule{"OutlierOfTheGripper", one({.episodes = kMany, .change = glitch(6, 0.9f)}, any_motion), "spread",
             ""},
        Rule{"PolicyActionNotFinite",
             edited({.change = [](int64_t, Step& s) { s.policy_action = s.action; }},
                    [](hdf5::Group& demo) {
                      std::vector<float> wanted = demo.array("policy_action").floats();
                      wanted[7 * 4 + 2] = NAN;
                      replace(demo, "policy_action", wanted);
                    }),
             "readable", "error: ", "/data/demo_0/policy_action row 4: expected finite numbers, found nan"},
        Rule{"WindowsMostlyWhole", one({.episodes = {"pphhhhpp", "ppphhhpp"}}), "windows",
             "note: 1 of 2 take-overs (50.0 %) have fewer (first: a.hdf5 demo_0 timestep 2)"},
        Rule{"WindowsMostlyCutShort", one({.episodes = {"pphhhhpp", "pphhhhpp", "ppphhhpp"}}), "windows",
             "warning: 2 of 3 take-overs (66.7 %)"},
        Rule{"StillExperts",
             expert_and({.episodes = {"eeeeeeee"}, .change = all_scaled(0.01f)},
                        {.episodes = kMany, .seed = 2}),
             "units", "warning: 7 of 8 expert steps (87.5 %) to imitate move by less than 0.05"},
        Rule{"StillInteractions",
             expert_and({.episodes = Strings(30, "eeeeeeeeee")}, {.change = all_scaled(0.01f), .seed = 2}),
             "units", "warning: 12 of 14 interaction steps (85.7 %) to imitate move by less than 0.05"}),
    [](const auto& info) { return info.param.name; });

// ---- the second table: rules with an exception or a limit ----

INSTANTIATE_TEST_SUITE_P(
    Limits, ValidateRule,
    ::testing::Values(
        Rule{"StuckAllTheTime", one({.episodes = {steps(20), steps(20)}, .change = hold(0, 40)}), "constant",
             "error: 40 of 40 policy steps (100.0 %) in 2 episodes repeat one action"},
        Rule{"StuckForAWhile", one({.episodes = {steps(20), steps(20)}, .change = hold(3, 33)}), "constant",
             "warning: 30 of 40 policy steps (75.0 %) in 2 episodes repeat one action, at most 17 times in a "
             "row"},
        Rule{"ConstantAroundASkippedStep",
             edited({.episodes = {steps(20)}, .change = hold(0, 19)}, skip({9}, 0.5f)), "constant", ""},
        Rule{"ConstantWithoutASkippedStep",
             edited({.episodes = {steps(20)}, .change = hold(0, 19)}, skip({10}, 0.5f)), "constant",
             "warning: 10 of 19 policy steps"},
        Rule{"SkippedNan", edited({}, skip({3, 4}, NAN)), "finite", ""},
        Rule{"SkippedOutOfRange", edited({}, skip({3, 4}, 40)), "range", ""},
        Rule{"SkippedOutlier", edited({.episodes = kMany}, skip({3}, 40)), "spread", ""},
        Rule{"UnitsAtFiveTimes",
             two({.episodes = kTwelve}, {.episodes = kTwelve, .change = scaled(1, 1 / 5.5f)}), "units",
             "warning: dimension 1: spreads over 1.7", "other units?"},
        Rule{"UnitsBelowFiveTimes",
             two({.episodes = kTwelve}, {.episodes = kTwelve, .change = scaled(1, 1 / 4.5f)}), "units", ""},
        Rule{"UnitsOfTheGripper",
             two({.episodes = kTwelve}, {.episodes = kTwelve, .change = scaled(6, 0.1f)}), "units", ""},
        Rule{"UnitsOf100Steps",
             two({.episodes = {steps(100)}}, {.episodes = {steps(100)}, .change = scaled(1, 0.1f)}), "units",
             "warning: dimension 1: spreads over"},
        Rule{"UnitsOf99Steps",
             two({.episodes = {steps(100)}}, {.episodes = {steps(99)}, .change = scaled(1, 0.1f)}), "units",
             ""},
        Rule{"SignsOf100Moves", one({.episodes = {steps(101)}, .change = scaled(1, -1)}), "signs",
             "warning: dimension 1: eef_pos moves against it"},
        Rule{"SignsOf99Moves", one({.episodes = {steps(100)}, .change = scaled(1, -1)}), "signs", ""},
        Rule{"TotalOfSomeEpisodes", one({}, [](DataOptions& o) { o.interactions[0].limit = 1; }), "totals",
             ""},
        Rule{"FrozenPictureWhileOnlyTheGripperMoves",
             one({.episodes = {"pppppphhhhpppp"},
                  .change =
                      [](int64_t, Step& s) {
                        std::fill_n(s.action.begin(), 6, 0.0f);
                        s.observation.images = numbered_step(3).observation.images;
                      }}),
             "pictures", ""}),
    [](const auto& info) { return info.param.name; });

// ---- the third table: statistics are of the expert steps where there are any ----

const Recording kExpert{.episodes = Strings(12, "eeeeeeeeee")}, kInteraction{.episodes = kTwelve, .seed = 2};

Recording changed(Recording recording, Change change) {
  recording.change = std::move(change);
  return recording;
}

INSTANTIATE_TEST_SUITE_P(
    Statistics, ValidateRule,
    ::testing::Values(
        Rule{"ExpertsConstant", expert_and(changed(kExpert, scaled(3, 0)), kInteraction), "spread",
             "warning: dimension 3: q01 = q99 = 0 (always the same in the expert sources): every "
             "action of a policy that learns from this has that number there"},
        Rule{"UnitsOfConstantExperts", expert_and(changed(kExpert, scaled(3, 0)), kInteraction), "units",
             "warning: dimension 3: spreads over 0 in ", "b.hdf5: other units?"},
        Rule{"InteractionsConstant", expert_and(kExpert, changed(kInteraction, scaled(3, 0))), "spread", ""},
        Rule{"UnitsOfConstantInteractions", expert_and(kExpert, changed(kInteraction, scaled(3, 0))), "units",
             ""},
        Rule{"BothConstant", expert_and(changed(kExpert, scaled(3, 0)), changed(kInteraction, scaled(3, 0))),
             "spread", "note: dimension 3: q01 = q99 = 0 (always the same): "},
        Rule{"ExpertsWithoutAKeptStep", expert_and(changed(kExpert, all_scaled(40)), kInteraction), "spread",
             ""},
        Rule{"ExpertsHaveSmallActions", expert_and(changed(kExpert, scaled(1, 0.04f)), kInteraction),
             "spread", "warning: dimension 1: q01..q99 is ["},
        Rule{"UnitsOfExperts", expert_and(changed(kExpert, scaled(1, 0.1f)), kInteraction), "units",
             "warning: dimension 1: spreads over 0.17", "b.hdf5: other units?"}),
    [](const auto& info) { return info.param.name; });

// Two expert sources of other units are compared with one another, and together with the interactions.
TEST(Validate, UnitsOfSeveralExpertSources) {
  TempDir dir;
  const std::string a = record(dir, changed(kExpert, scaled(1, 0.1f)));
  const std::string b = record(dir, {.name = "b.hdf5", .episodes = kExpert.episodes, .seed = 3});
  const std::string c =
      record(dir, {.name = "c.hdf5", .episodes = kTwelve, .change = scaled(2, 0.1f), .seed = 4});
  const std::string text = found(validated({c},
                                           [&](DataOptions& o) {
                                             o.expert = {{.path = a}, {.path = b}};
                                           }),
                                 "units");
  EXPECT_THAT(text, AllOf(HasSubstr("dimension 1: spreads over 0.1"), HasSubstr(" in " + a + " and over 1.7"),
                          HasSubstr(" in " + b)));
  EXPECT_THAT(text, AllOf(HasSubstr("dimension 2: spreads over 1.7"),
                          HasSubstr(" in the expert sources and over 0.1"), HasSubstr(" in " + c)));
}

// ---- totals ----

std::string totals_with(const std::string& total) {
  TempDir dir;
  const std::string path = record(dir, {});
  {
    hdf5::Group data = hdf5::Group::open_for_writing(path).group("data");
    data.remove_attribute("total");
    data.set_attribute("total", total);
  }
  return found(validated({path}), "totals");
}

TEST(Validate, TotalsOfText) {
  EXPECT_EQ(totals_with("20"), "");
  EXPECT_EQ(totals_with("twenty"), "");
  EXPECT_EQ(totals_with(""), "");
  EXPECT_THAT(totals_with("21"), HasSubstr("warning: "));
  EXPECT_THAT(totals_with("12345678901234567890123"),
              HasSubstr("a.hdf5: total is 12345678901234567890123, its readable episodes have 20 steps"));
  EXPECT_THAT(totals_with(std::string(5000, '9')), HasSubstr("total is " + std::string(40, '9') + ", its"));
}

TEST(Validate, TotalsWithALeftoverJournal) {
  TempDir dir;
  const std::string path = record(dir, {});
  {
    Journal journal(journal_path(path));
    const auto file = TrajectoryFile::open(path);
    for (int64_t e = 2; e < 4; ++e) {  // one that ended and one that did not
      journal.begin_episode(e, "lift the cube", "hash");
      for (int64_t t = 0; t < 7 + e; ++t) {
        Step step = numbered_step(t, source_of("ppppphhhpp"[t]));
        step.action = file->episode(1).actions[static_cast<size_t>(t)];
        step.observation = file->observation(1, t);
        journal.append(step);
      }
      if (e == 2) journal.end_episode(true, "success");
    }
    journal.flush();
  }
  const Validation v = validated({path});
  EXPECT_EQ(v.num_steps, 20 + 9 + 10);
  EXPECT_EQ(found(v, "totals"), "");
}

}  // namespace
}  // namespace apo::audit
