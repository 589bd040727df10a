// A person at a page as who may take over in collection: what is recorded of it.
#include "apo/serving/browser.h"

#include <gmock/gmock.h>

#include "apo/data/trajectory.h"
#include "apo/deploy/collector.h"
#include "serving/fake_page.h"
#include "serving/world.h"
#include "support/listening_port.h"

namespace apo::serving {
namespace {

using namespace std::chrono_literals;
using namespace testing;
using ::testing::HasSubstr;

/// Two numbers, three steps an episode; a robot, or a simulation that says that all is well.
class Scene : public environments::Environment {
 public:
  explicit Scene(bool simulation)
      : Environment({.name = "scene",
                     .action_size = 2,
                     .max_steps = simulation ? 1000 : 3,
                     .control_hz = 50,
                     .repeatable = simulation}) {}
  environments::Situation reset(uint64_t) override { return situation(); }
  Observation observe() override {
    Observation seen;
    seen.images["front"] = at::full({4, 6, 3}, 51, at::kByte);
    seen.state["arm"] = {0.25f, 0.5f};
    seen.instruction = "lift the cube";
    return seen;
  }
  environments::Situation step(const Action& action) override {
    const std::lock_guard lock(mutex);
    executed.push_back(action);
    return situation();
  }
  at::Tensor render(int64_t size) override {
    ++drawn;
    return at::zeros({size, size, 3}, at::kByte);
  }
  size_t steps() {
    const std::lock_guard lock(mutex);
    return executed.size();
  }

  std::atomic<int64_t> drawn = 0;
  std::mutex mutex;
  std::vector<Action> executed;

 private:
  environments::Situation situation() const {
    environments::Situation now;
    now.judged = spec().repeatable;
    return now;
  }
};

/// Collects so many episodes beside the test.
class Collecting {
 public:
  Collecting(bool simulation, int64_t episodes) : scene(simulation), path(dir_ / "mine.hdf5") {
    options_.port = apo::testing::free_port();
    thread_ = std::thread([this, episodes] {
      const auto person = make_browser_human(options_, {}, {.plan = {}, .recording = path});
      EchoPolicy policy;
      deploy::collect(scene, policy, *person, {.take_overs = 0, .episodes = episodes}, path);
    });
  }
  ~Collecting() { finish(); }
  void finish() {
    if (thread_.joinable()) thread_.join();
  }
  /// Once it listens.
  FakePage page() const {
    for (int i = 0; i < 500; ++i) {
      try {
        RawClient probe(options_.port);
        break;
      } catch (const std::exception&) {
        std::this_thread::sleep_for(10ms);
      }
    }
    return FakePage(options_.port);
  }

 private:
  const TempDir dir_;

 public:
  Scene scene;
  const std::filesystem::path path;

 private:
  ServeOptions options_;
  std::thread thread_;
};

const auto kAsks = [](const Json& state) { return state["asks"] == true; };
auto running(const std::string& episode) {
  return [episode](const Json& state) {
    return state["episode"] == episode && state["episode_state"] == "running" && state["step"] > 0;
  };
}

TEST(PersonAtARobot, SaysHowItEndedWhereNobodyElseCan) {
  Collecting collecting(false, 3);
  FakePage page = collecting.page();
  EXPECT_NEAR(page.hear("state", kAsks)["confidence"].get<double>(), 0.75, 1e-6);
  std::this_thread::sleep_for(100ms);
  EXPECT_EQ(collecting.scene.steps(), 3u);  // time is up, and it waits
  page.say({{"type", "success"}});
  page.hear("state", [](const Json& state) { return state["success"] == true; });
  page.say({{"type", "pause"}, {"paused", false}});
  page.hear("state", running("demo_1"));
  page.say({{"type", "pause"}, {"paused", true}});
  page.hear("state", [](const Json& state) { return state["mode"] == "paused"; });
  page.say({{"type", "failure"}});
  page.hear("state", [](const Json& state) { return state["success"] == false; });
  page.say({{"type", "pause"}, {"paused", false}});
  page.hear("state", kAsks);
  std::this_thread::sleep_for(1100ms);  // whoever goes on at once may have meant to pause
  page.say({{"type", "pause"}, {"paused", false}});
  collecting.finish();
  const auto file = data::TrajectoryFile::open(collecting.path);
  ASSERT_EQ(file->num_episodes(), 3);
  EXPECT_EQ(file->episode(0).success, true);
  EXPECT_EQ(file->episode(0).outcome, "success");
  EXPECT_EQ(file->episode(1).success, false);
  EXPECT_EQ(file->episode(1).outcome, "failure");
  EXPECT_EQ(file->episode(2).success, std::nullopt);
}

TEST(PersonAtASimulation, ReplaysWhatIsRecordedWhileItGoesOn) {
  Collecting collecting(true, 2);
  FakePage page = collecting.page();
  page.hear("state", running("demo_0"));
  page.say({{"type", "success"}});
  EXPECT_THAT(page.hear("notice")["text"].get<std::string>(), HasSubstr("the environment says"));
  page.say({{"type", "take_over"}});
  page.hear("state", [](const Json& state) { return state["holder"] == "me" && state["source"] == "h"; });
  page.say({{"type", "input"}, {"action", {-0.5, 0.75}}});
  page.hear("state", [](const Json& state) { return state["human_action"] == Json({-0.5, 0.75}); });
  page.say({{"type", "reset"}});
  const Json list = page.hear("episodes", [](const Json& told) { return told["episodes"].size() == 1; });
  const std::string sources = list["episodes"][0]["sources"];
  page.hear("state", running("demo_1"));
  const size_t moved = sources.find('h');
  ASSERT_NE(moved, std::string::npos);
  page.say({{"type", "replay"}, {"episode", "demo_0"}, {"step", moved}});
  const Json step = page.hear("replay_step");
  EXPECT_EQ(step["source"], "h");
  EXPECT_EQ(step["action"].size(), 2u);
  page.say({{"type", "replay"}, {"episode", "demo_1"}, {"step", 0}});
  EXPECT_THAT(page.hear("notice", [](const Json& told) { return told["level"] == "warn"; })["text"]
                  .get<std::string>(),
              HasSubstr("demo_1: is not in the recording yet"));
  page.say({{"type", "reset"}});
  collecting.finish();
  const auto file = data::TrajectoryFile::open(collecting.path);
  ASSERT_EQ(file->num_episodes(), 2);
  // what the page was told is what was recorded, step by step
  std::string recorded;
  for (const ActionSource source : file->episode(0).sources)
    recorded += source == ActionSource::intervention ? 'h' : 'p';
  EXPECT_EQ(recorded, sources);
}

TEST(PersonAtASimulation, IsDrawnAPictureOnlyWhileAPageIsOpen) {
  Collecting collecting(true, 1);
  FakePage page = collecting.page();
  page.hear("state", running("demo_0"));
  EXPECT_TRUE(eventually([&] { return collecting.scene.drawn > 2; }));
  page.vanish();
  const auto steps_without_a_picture = [&] {
    const int64_t drawn = collecting.scene.drawn;
    const size_t before = collecting.scene.steps();
    std::this_thread::sleep_for(200ms);
    return collecting.scene.drawn == drawn && collecting.scene.steps() > before;
  };
  EXPECT_TRUE(eventually(steps_without_a_picture));
  FakePage again = collecting.page();
  const int64_t drawn = collecting.scene.drawn;
  EXPECT_TRUE(eventually([&] { return collecting.scene.drawn > drawn; }));
  again.say({{"type", "reset"}});
}

}  // namespace
}  // namespace apo::serving
