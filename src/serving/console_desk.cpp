#include "serving/console_desk.h"

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "apo/base/error.h"
#include "serving/hold.h"

namespace apo::serving {
namespace {

using Json = ConsoleDesk::Json;

Json number_list(const std::optional<Action>& action) { return action ? Json(*action) : Json(); }
Json truth(const std::optional<bool>& value) { return value ? Json(*value) : Json(); }

constexpr double kSurelyMeant_s = 1;  // whoever resumes so soon after another's pause had meant to pause

bool flag(const Json& message, const char* name) {
  const auto found = message.find(name);
  return found != message.end() && found->is_boolean() && found->get<bool>();
}

}  // namespace

void check_console(const ConsoleOptions& options, int64_t action_size) {
  APO_CHECK(ConfigError, options.scale.empty() || std::ssize(options.scale) == action_size,
            "serve.console.scale: expected ", action_size, " numbers, found ", options.scale.size());
  for (const int64_t d : options.reversed)
    APO_CHECK(ConfigError, d < action_size, "serve.console.reversed: expected numbers of an action, 0 to ",
              action_size - 1, ", found ", d);
}

double steps_a_second(const ConsoleOptions& options, double environments) {
  constexpr double kSlowest = 1;
  if (options.control_hz > 0) return options.control_hz;
  return environments >= kSlowest ? environments : kUsualHz;
}

data::LabelRules with_gripper(data::LabelRules rules, const config::GripperOptions& gripper) {
  rules.gripper = config::or_else(rules.gripper, gripper);
  return rules;
}

ConsoleDesk::ConsoleDesk(DeskOptions options, Say say, End end)
    : options_(std::move(options)),
      say_(std::move(say)),
      end_(std::move(end)),
      watched_(options_.rules),
      last_action_(static_cast<size_t>(options_.action_size), 0.0f) {}

int64_t ConsoleDesk::join(Time now) {
  const std::lock_guard lock(mutex_);
  const int64_t viewer = next_viewer_++;
  viewers_[viewer].heard = now;
  watched_.relabel();  // nobody looked meanwhile
  say_(viewer, {{"type", "hello"}, {"version", 1}, {"viewer", concat("viewer-", viewer)}});
  say_(viewer, state(viewer));
  say_(viewer, episodes());
  return viewer;
}

void ConsoleDesk::leave(int64_t viewer) {
  const std::lock_guard lock(mutex_);
  lose(viewer);
}

// The arm is nobody's, and the policy is asked anew.
void ConsoleDesk::release() {
  holder_ = 0;
  mode_ = Mode::policy;
  moved_ = false;
  human_action_.reset();
}

void ConsoleDesk::lose(int64_t viewer) {
  const auto found = viewers_.find(viewer);
  if (found == viewers_.end()) return;
  // whoever looked elsewhere does not expect that the arm begins to move
  const bool pauses = options_.lost_pauses || !found->second.visible;
  viewers_.erase(found);
  if (holder_ != viewer) return;
  release();
  paused_ = paused_ || pauses;
  notice(0, pauses ? "the page that held the arm is gone; the robot waits"
                   : "the page that held the arm is gone; the policy acts");
  tell_states();
}

std::vector<int64_t> ConsoleDesk::look_around(Time now) {
  const std::lock_guard lock(mutex_);
  std::vector<int64_t> lost;
  for (const auto& [number, viewer] : viewers_)
    if (std::chrono::duration<double>(now - viewer.heard).count() > options_.lost_s) lost.push_back(number);
  for (const int64_t number : lost) lose(number);
  return lost;
}

void ConsoleDesk::notice(int64_t viewer, const std::string& text, const std::string& code) {
  Json message = {{"type", "notice"}, {"level", "warn"}, {"text", text}};
  if (!code.empty()) message["code"] = code;
  say_(viewer, message);
}

void ConsoleDesk::take_over(int64_t viewer, bool force, Time now) {
  if (!watched_.is_running() || asks_) return notice(viewer, "no episode runs");
  if (holder_ != 0 && holder_ != viewer) {
    if (!force) return notice(viewer, "someone else holds the arm", "held");
    notice(holder_, "someone else took the arm");
  }
  if (holder_ != viewer) {
    holder_ = viewer;
    mode_ = Mode::human;
    moved_ = false;
    viewers_[viewer].input.reset();
    viewers_[viewer].input_at = now;
  }
}

void ConsoleDesk::hear(int64_t viewer, const Json& message, Time now) {
  APO_CHECK(DataError, message.is_object() && message.contains("type") && message["type"].is_string(),
            "expected an object with a type");
  const std::string type = message["type"];
  const std::lock_guard lock(mutex_);
  const auto found = viewers_.find(viewer);
  if (found == viewers_.end()) return;  // lost meanwhile
  Viewer& page = found->second;
  page.heard = now;
  const bool holds = holder_ == viewer;
  if (type == "ping") {
    say_(viewer, {{"type", "pong"}, {"t", message.value("t", Json())}, {"server_ms", wall_clock_ms()}});
    return;
  } else if (type == "take_over") {
    take_over(viewer, flag(message, "force"), now);
  } else if (type == "hand_back") {
    if (holds) release();
  } else if (type == "pause") {
    const auto paused = message.find("paused");  // only a clear word sets the robot in motion
    pause(viewer, paused == message.end() || !paused->is_boolean() || paused->get<bool>(), now);
  } else if (type == "success" || type == "failure" || type == "reset") {
    mark(viewer, type, holds, now);
  } else if (type == "instruction") {
    instruct(viewer, message);
  } else if (type == "input") {
    const auto action = message.find("action");
    APO_CHECK(DataError,
              action != message.end() && action->is_array() && std::ssize(*action) == options_.action_size,
              "input: expected an action of ", options_.action_size, " numbers");
    std::vector<std::optional<float>> numbers;
    for (const Json& number : *action) {
      APO_CHECK(DataError, number.is_null() || (number.is_number() && std::abs(number.get<double>()) <= 1),
                "input: expected numbers from -1 to 1");
      numbers.push_back(number.is_null() ? std::nullopt : std::optional<float>(number.get<float>()));
    }
    if (holds && page.visible) {
      page.input = std::move(numbers);
      page.input_at = now;
    }
    return;
  } else if (type == "visible") {
    page.visible = flag(message, "visible");
    page.input.reset();
    if (holds && !page.visible && options_.simulated) pause(viewer, true, now);
  } else {
    return;  // of the network's side, or of a later version
  }
  tell_states();
}

// Everybody's. Two people who stop the robot at once do not set it in motion.
void ConsoleDesk::pause(int64_t viewer, bool paused, Time now) {
  if (paused) {
    if (!paused_) paused_at_ = now;
    if (!paused_) paused_by_ = viewer;
  } else if (paused_ && viewer != paused_by_) {
    if (std::chrono::duration<double>(now - paused_at_).count() < kSurelyMeant_s)
      return notice(viewer, "someone paused just now, too: the robot waits");
    if (!asks_) notice(0, "another page lets the robot go on");
  }
  paused_ = paused;
}

// The episode ends, as a person says.
void ConsoleDesk::mark(int64_t viewer, const std::string& how, bool holds, Time now) {
  const bool resets = how == "reset";
  if (!(resets ? options_.can_reset : options_.can_mark))
    return notice(viewer, resets ? "this robot cannot be reset from here"
                                 : "the environment says how this episode ends");
  if (!watched_.is_running() || watched_.now().marked)
    return notice(viewer, "no episode runs: a mark belongs before its end");
  if (holder_ != 0 && !holds) return notice(viewer, "someone else holds the arm", "held");
  watched_.now().marked = true;
  if (asks_) paused_by_ = viewer;
  end_(watched_.now().key, how == "success", how);
  // the hands of who held it, or who sets up the scene, may be there when the robot asks for the next episode
  if ((holds || resets) && !options_.simulated) pause(viewer, true, now);
}

void ConsoleDesk::instruct(int64_t viewer, const Json& message) {
  if (!options_.can_instruct) return notice(viewer, "the task gives the instruction");
  if (watched_.is_running() && watched_.now().record.num_steps() > 0)
    return notice(viewer, "an instruction can be changed between episodes");
  const auto text = message.find("text");
  APO_CHECK(DataError, text != message.end() && text->is_string(), "instruction: expected a text");
  std::string wish = text->get<std::string>();
  APO_CHECK(DataError, std::ssize(wish) <= options_.instruction_bytes, "instruction: expected at most ",
            options_.instruction_bytes, " bytes (serve.limits.instruction_bytes), found ", wish.size());
  wish_ = std::move(wish);
  instruction_ = wish_;
}

Action ConsoleDesk::held_still(const Action& last) const {
  return serving::held_still(options_.idle, options_.grippers, last);
}

// The gripper's command is the robot's own already.
float ConsoleDesk::scale_of(size_t dimension) const {
  const bool grips =
      std::ranges::find(options_.grippers, static_cast<int64_t>(dimension)) != options_.grippers.end();
  return options_.scale.empty() || grips ? 1.0f : static_cast<float>(options_.scale[dimension]);
}

// What the person's page wants, where it is fresh and in sight.
Action ConsoleDesk::input_of(const Viewer& viewer, Time now) {
  Action action = held_still(last_action_);
  const double age = std::chrono::duration<double>(now - viewer.input_at).count();
  if (!viewer.input || !viewer.visible || age > 2 / options_.control_hz) return action;
  for (size_t d = 0; d < action.size(); ++d)
    if ((*viewer.input)[d]) action[d] = *(*viewer.input)[d] * scale_of(d);
  moved_ |= action != held_still(last_action_);
  return action;
}

std::optional<Override> ConsoleDesk::decide(const ServedMoment& moment) {
  const std::lock_guard lock(mutex_);
  const Action nothing(static_cast<size_t>(options_.action_size), 0.0f);
  const Action& wanted = moment.policy_action != nullptr ? *moment.policy_action : nothing;
  if (watched_.is_running() && !watched_.runs(moment.episode)) {
    if (!paused_) return std::nullopt;  // one robot at a time is watched; a pause is everyone's
    return Override{.action = held_still(wanted), .reason = "", .recorded = false};
  }
  if (!watched_.is_running()) {
    release();
    const bool same_robot = !watched_.empty() && watched_.now().key == moment.episode;
    if (!same_robot) last_action_ = wanted;
    watched_.begin(moment.episode);
  }
  if (data::EpisodeRecord& record = watched_.now().record; record.num_steps() == 0)
    record.instruction = instruction_ = moment.observation.instruction;
  captured_ms_ = moment.captured_ms;
  confidence_ = moment.confidence;
  policy_action_ =
      moment.policy_action != nullptr ? std::optional<Action>(*moment.policy_action) : std::nullopt;
  human_action_.reset();
  if (paused_) {
    tell_states();
    return Override{.action = held_still(last_action_), .reason = "", .recorded = false};
  }
  const auto holder = viewers_.find(holder_);
  if (mode_ != Mode::human || holder == viewers_.end()) return std::nullopt;
  human_action_ = input_of(holder->second, std::chrono::steady_clock::now());
  return Override{.action = *human_action_, .reason = "console"};
}

void ConsoleDesk::happened(const std::string& episode, const Step& what) {
  const std::lock_guard lock(mutex_);
  if (!watched_.runs(episode)) return;
  last_action_ = what.action;
  watched_.add(what, !viewers_.empty());
  tell_states();
}

void ConsoleDesk::ended(const std::string& episode, std::optional<bool> success, const std::string& outcome,
                        std::optional<int64_t> recording) {
  const std::lock_guard lock(mutex_);
  if (!watched_.runs(episode)) return;
  watched_.end(success, outcome, recording);
  asks_ = false;
  release();
  say_(0, episodes());
  tell_states();
}

void ConsoleDesk::joined(int64_t recording, const std::string& name) {
  const std::lock_guard lock(mutex_);
  if (!watched_.joined(recording, name)) return;
  say_(0, episodes());
  tell_states();
}

void ConsoleDesk::begin_at(int64_t episode) {
  const std::lock_guard lock(mutex_);
  watched_.begin_at(episode);
  had_episodes_ = episode > 0;
}

void ConsoleDesk::ask_how_it_ended() {
  const std::lock_guard lock(mutex_);
  release();
  paused_ = asks_ = true;
  paused_by_ = 0;
  paused_at_ = std::chrono::steady_clock::now();
  tell_states();
}

bool ConsoleDesk::is_paused() const {
  const std::lock_guard lock(mutex_);
  return paused_;
}

bool ConsoleDesk::has_corrections() const {
  const std::lock_guard lock(mutex_);
  return had_episodes_ || watched_.pools().intervention > 0;
}

std::string ConsoleDesk::instruction_for(const std::string& episode) {
  const std::lock_guard lock(mutex_);
  return watched_.is_running() && !watched_.runs(episode) ? "" : wish_;
}

std::string ConsoleDesk::episode() const {
  const std::lock_guard lock(mutex_);
  return watched_.empty() ? "" : watched_.now().name;
}

bool ConsoleDesk::watches(const std::string& key) const {
  const std::lock_guard lock(mutex_);
  return !watched_.empty() && watched_.now().key == key;
}

std::string ConsoleDesk::label(const std::string& episode, int64_t step) const {
  const std::lock_guard lock(mutex_);
  return watched_.label(episode, step);
}

ConsoleDesk::Json ConsoleDesk::state_for(int64_t viewer) const {
  const std::lock_guard lock(mutex_);
  return state(viewer);
}

void ConsoleDesk::tell_states() {
  for (const auto& [number, viewer] : viewers_) say_(number, state(number));
}

ConsoleDesk::Json ConsoleDesk::episodes() const {
  return {{"type", "episodes"}, {"episodes", watched_.json()}};
}

ConsoleDesk::Json ConsoleDesk::state(int64_t viewer) const {
  const WatchedEpisode* now = watched_.empty() ? nullptr : &watched_.now();
  Json preview;
  if (const auto window = watched_.last_window()) preview = {window->first, window->second};
  const PoolSizes& pools = watched_.pools();
  const char* mode = paused_ ? "paused" : mode_ == Mode::human ? "human" : "policy";
  std::string still;
  if (paused_)
    still = "Paused.";
  else if (mode_ == Mode::human && !moved_)
    still = "Still until your first input.";
  Json gripper;
  if (!options_.grippers.empty()) gripper = last_action_[static_cast<size_t>(options_.grippers.front())];
  return {{"type", "state"},
          {"step", now != nullptr ? now->record.num_steps() : 0},
          {"episode", now != nullptr ? now->name : ""},
          {"episode_state", now != nullptr && now->running ? "running" : "finished"},
          {"outcome", now != nullptr ? now->record.outcome : ""},
          {"success", now != nullptr ? truth(now->record.success) : Json()},
          {"mode", mode},
          {"source", now == nullptr || now->record.sources.empty()
                         ? ""
                         : std::string(1, letter_of(now->record.sources.back()))},
          {"holder", holder_ == 0        ? "nobody"
                     : holder_ == viewer ? "me"
                                         : "other"},
          {"instruction", instruction_},
          {"policy_action", number_list(policy_action_)},
          {"human_action", number_list(human_action_)},
          {"gripper", gripper},
          {"confidence", confidence_ ? Json(*confidence_) : Json()},
          {"captured_ms", captured_ms_},
          {"pools",
           {{"desirable", pools.desirable},
            {"intervention", pools.intervention},
            {"undesirable", pools.undesirable}}},
          {"k", options_.rules.labels.steps_before_intervention},
          {"preview", preview},
          {"asks", asks_},
          {"reason_no_motion", still}};
}

}  // namespace apo::serving
