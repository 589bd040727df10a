// Options of one kind of environment: `environment.NAME`, read, printed and refused elsewhere.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "apo/base/error.h"
#include "apo/config/options.h"
#include "apo/simulation/tabletop.h"
#include "deploy/fakes.h"
#include "support/message_of.h"

namespace apo::deploy {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::message_of;
using ::testing::Not;
using testing::Walk;

struct HillOptions {
  double slope = 0.25;
  std::string surface = "gravel";
  void visit(config::Visitor& v) {
    v("slope", slope, "climbed per step; steeper is harder", config::between(0, 1));
    v("surface", surface, "what is walked on");
  }
};

struct Hill : Walk {
  explicit Hill(const HillOptions& options) { spec_.config = config::print(options); }
};

class OwnOptions : public ::testing::Test {
 protected:
  void SetUp() override {
    environments::register_environment<HillOptions>(
        "hill", [](const HillOptions& own, const environments::EnvironmentOptions&) {
          return std::make_unique<Hill>(own);
        });
    testing::walk_options();
  }
  static environments::EnvironmentOptions read(const std::string& text,
                                               const std::vector<std::string>& overrides = {}) {
    return config::load<environments::EnvironmentOptions>(config::Document::from_text(text, overrides));
  }
  static std::string refused(const std::string& text, const std::vector<std::string>& overrides = {}) {
    return message_of<ConfigError>([&] { read(text, overrides); });
  }
};

TEST_F(OwnOptions, ReachTheFactory) {
  environments::EnvironmentOptions options = read("{type: hill, hill: {slope: 0.5}}");
  EXPECT_EQ(options.of<HillOptions>().slope, 0.5);
  EXPECT_EQ(environments::make_environment(options)->spec().config, "slope: 0.5\nsurface: gravel\n");
  options.of<HillOptions>().surface = "ice";
  EXPECT_THAT(environments::make_environment(options)->spec().config, HasSubstr("ice"));
  EXPECT_THAT(environments::make_environment({.type = "hill"})->spec().config, HasSubstr("slope: 0.25"))
      << "the defaults";
}

TEST_F(OwnOptions, PrintAndReadBack) {
  const std::string text = config::print(read("{type: hill, hill: {surface: ice}}"));
  EXPECT_THAT(text, AllOf(HasSubstr("hill:\n  slope: 0.25\n  surface: ice\n"), Not(HasSubstr("tabletop"))));
  EXPECT_EQ(config::print(read(text)), text);
  EXPECT_EQ(config::differences(read("{type: hill, hill: {slope: 1}}"), read("{type: hill}")),
            std::vector<std::string>{"hill.slope: 1 -> 0.25"});
  EXPECT_THAT(config::print(environments::EnvironmentOptions{}, true),
              HasSubstr("tabletop:  # of the built-in environment\n  task: pick"));
}

TEST_F(OwnOptions, AreCheckedLikeAllOthers) {
  EXPECT_THAT(refused("{type: hill, hill: {slope: 2}}"),
              HasSubstr("hill.slope: expected a number in [0, 1]"));
  EXPECT_THAT(refused("{type: hill, hill: {slpe: 1}}"), HasSubstr("did you mean 'hill.slope'?"));
}

TEST_F(OwnOptions, OfAnotherKindAreAnError) {
  EXPECT_EQ(refused("type: hill\ntabletop: {image_size: 32}\n"),
            "<text>:2: tabletop: expected no such section where environment.type is hill, found a section");
  EXPECT_THAT(refused("{hill: {slope: 1}}"),
              HasSubstr("hill: expected no such section where environment.type is tabletop"));
  EXPECT_THAT(refused("{type: walk, walk: {pace: 1}}"),
              HasSubstr("environment.type is walk, which has no options of its own"));
  EXPECT_THAT(refused("{type: dune, dune: {height: 1}}"),
              HasSubstr("environment.type is dune, which is not registered (--plugin FILE"));
  // a base config's section is set aside by emptying it
  EXPECT_EQ(read("{tabletop: {image_size: 32}}", {"type=hill", "tabletop="}).type, "hill");
}

TEST_F(OwnOptions, ThoseOfAnotherKindAreNotTaken) {
  environments::EnvironmentOptions options;
  options.of<simulation::TabletopOptions>().image_size = 32;
  options.type = "hill";
  EXPECT_THAT(config::print(options), AllOf(HasSubstr("slope: 0.25"), Not(HasSubstr("image_size"))));
  const environments::EnvironmentOptions& fixed = options;
  EXPECT_EQ(fixed.of<HillOptions>().slope, 0.25);
}

TEST_F(OwnOptions, NeedANameThatCanBeAKey) {
  for (const std::string name : {"", "type", "gripper", "disruptions", "my.robot"})
    EXPECT_THAT(message_of<ConfigError>([&] {
                  environments::register_environment(
                      name, [](const environments::EnvironmentOptions&) { return std::make_unique<Walk>(); });
                }),
                HasSubstr("register_environment"))
        << name;
}

// A plug-in that forgets a field of its spec is told, before an episode ends at its first step.
TEST(Spec, WhatIsMissingIsNamed) {
  class Forgetful : public testing::Walk {
   public:
    explicit Forgetful(const std::string& field) {
      if (field == "action_size") spec_.action_size = 0;
      if (field == "max_steps") spec_.max_steps = 0;
      if (field == "control_hz") spec_.control_hz = 0;
      if (field == "idle") spec_.idle = {0, 0, 0};
    }
  };
  for (const std::string field : {"action_size", "max_steps", "control_hz", "idle"}) {
    environments::register_environment("forgetful", [field](const environments::EnvironmentOptions&) {
      return std::make_unique<Forgetful>(field);
    });
    environments::EnvironmentOptions options;
    options.type = "forgetful";
    EXPECT_THAT(apo::testing::message_of<RunError>([&] { environments::make_environment(options); }),
                ::testing::AllOf(::testing::HasSubstr("environment.type forgetful"),
                                 ::testing::HasSubstr(field + ": expected")));
  }
}

}  // namespace
}  // namespace apo::deploy
