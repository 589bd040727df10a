#include "serving/console_desk.h"

#include <torch/types.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <utility>

#include "apo/base/error.h"
#include "serving/hold.h"

namespace apo::serving {
namespace {

using Json = ConsoleDesk::Json;

Json number_list(const std::optional<Action>& action) { return action ? Json(*action) : Json(); }
Json truth(const std::optional<bool>& value) { return value ? Json(*value) : Json(); }

char letter_of(ActionSource source) {
  return source == ActionSource::expert ? 'e' : source == ActionSource::policy ? 'p' : 'h';
}
char letter_of(const data::LabelledStep& step) {
  if (step.filtered) return '-';
  switch (step.label) {
    case data::StepLabel::desirable:
      return 'd';
    case data::StepLabel::undesirable:
      return 'u';
    case data::StepLabel::intervention:
      return 'i';
    default:
      return 'n';
  }
}

void add_step(data::EpisodeRecord& record, const Step& step) {
  if (step.take_over) {
    const int64_t now = record.num_steps();
    record.take_overs.push_back(
        {now, step.take_over->reason, std::max<int64_t>(now - step.take_over->steps_held, 0)});
  }
  record.actions.push_back(step.action);
  record.sources.push_back(step.source);
  record.recorded.push_back(true);
  record.desirable.emplace_back();
  record.policy_actions.push_back(step.policy_action);
  record.decision_offsets.push_back(step.decision_offset);
}

constexpr size_t kMostEpisodes = 500;  // that pages are told of
constexpr int64_t kRelabelEvery = 32;  // steps: labels of a whole episode are counted anew, for its filters
constexpr double kSurelyMeant_s = 1;   // whoever resumes so soon after another's pause had meant to pause

bool flag(const Json& message, const char* name) {
  const auto found = message.find(name);
  return found != message.end() && found->is_boolean() && found->get<bool>();
}

}  // namespace

data::LabelRules with_gripper(data::LabelRules rules, const config::GripperOptions& gripper) {
  rules.gripper = config::or_else(rules.gripper, gripper);
  return rules;
}

ConsoleDesk::ConsoleDesk(DeskOptions options, Say say, End end)
    : options_(std::move(options)),
      say_(std::move(say)),
      end_(std::move(end)),
      last_action_(static_cast<size_t>(options_.action_size), 0.0f) {}

int64_t ConsoleDesk::join(Time now) {
  const std::lock_guard lock(mutex_);
  const int64_t viewer = next_viewer_++;
  viewers_[viewer].heard = now;
  if (!watched_.empty()) relabel(watched_.back());  // nobody looked meanwhile
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
  if (watched_.empty() || !watched_.back().running) return notice(viewer, "no episode runs");
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
    notice(0, "another page lets the robot go on");
  }
  paused_ = paused;
}

// The episode ends, as a person says.
void ConsoleDesk::mark(int64_t viewer, const std::string& how, bool holds, Time now) {
  const bool resets = how == "reset";
  if (!(resets ? options_.can_reset : options_.can_mark))
    return notice(viewer, resets ? "this robot cannot be reset from here"
                                 : "the environment says how this episode ends");
  if (!is_running() || watched_.back().marked)
    return notice(viewer, "no episode runs: a mark belongs before its end");
  if (holder_ != 0 && !holds) return notice(viewer, "someone else holds the arm", "held");
  watched_.back().marked = true;
  end_(watched_.back().key, how == "success", how);
  // the hands of who held it, or who sets up the scene, may be there when the robot asks for the next episode
  if (holds || resets) pause(viewer, true, now);
}

void ConsoleDesk::instruct(int64_t viewer, const Json& message) {
  if (!options_.can_instruct) return notice(viewer, "the task gives the instruction");
  if (is_running() && watched_.back().record.num_steps() > 0)
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
  const bool is_new = watched_.empty() || !watched_.back().running;
  const Action nothing(static_cast<size_t>(options_.action_size), 0.0f);
  const Action& wanted = moment.policy_action != nullptr ? *moment.policy_action : nothing;
  if (!is_new &&
      watched_.back().key != moment.episode) {  // one robot at a time is watched; a pause is everyone's
    if (!paused_) return std::nullopt;
    return Override{.action = held_still(wanted), .reason = "", .recorded = false};
  }
  if (is_new) {
    release();
    const bool same_robot = !watched_.empty() && watched_.back().key == moment.episode;
    if (!same_robot) last_action_ = wanted;
    Watched next{.key = moment.episode, .name = concat("demo_", next_episode_++)};
    if (watched_.size() >= kMostEpisodes) watched_.pop_front();
    watched_.push_back(std::move(next));
  }
  if (Watched& now = watched_.back(); now.record.num_steps() == 0)
    now.record.instruction = instruction_ = moment.observation.instruction;
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

void ConsoleDesk::happened(const std::string& episode, int64_t, const Step& what) {
  const std::lock_guard lock(mutex_);
  if (watched_.empty() || !watched_.back().running || watched_.back().key != episode) return;
  Watched& now = watched_.back();
  last_action_ = what.action;
  const auto& sources = now.record.sources;
  const bool as_before = !sources.empty() && sources.back() == what.source;
  add_step(now.record, what);
  if (!viewers_.empty()) {
    // what came before changes with a take-over alone
    const bool grown = as_before && std::ssize(now.labels) + 1 == now.record.num_steps();
    if (grown && now.record.num_steps() % kRelabelEvery != 0)
      append_label(now);
    else
      relabel(now);
  }
  tell_states();
}

// As the step before, until all are labelled anew.
void ConsoleDesk::append_label(Watched& watched) {
  const bool human = watched.record.sources.back() == ActionSource::intervention;
  data::LabelledStep step;
  step.label = human ? data::StepLabel::intervention : data::StepLabel::desirable;
  if (human) step.take_over_number = watched.labels.back().take_over_number;
  watched.labels.push_back(std::move(step));
  ++(human ? watched.pools.intervention : watched.pools.desirable);
  ++(human ? pools_.intervention : pools_.desirable);
}

// What a later step makes of earlier ones is counted anew.
void ConsoleDesk::relabel(Watched& watched) {
  if (watched.record.num_steps() == 0) return;
  watched.labels = data::label_episode(watched.record, options_.rules);
  const Pools before = std::exchange(watched.pools, pools_of(watched.labels));
  pools_.desirable += watched.pools.desirable - before.desirable;
  pools_.intervention += watched.pools.intervention - before.intervention;
  pools_.undesirable += watched.pools.undesirable - before.undesirable;
}

ConsoleDesk::Pools ConsoleDesk::pools_of(const std::vector<data::LabelledStep>& labels) {
  Pools pools;
  for (const data::LabelledStep& step : labels) {
    if (step.filtered) continue;
    pools.desirable += step.label == data::StepLabel::desirable;
    pools.intervention += step.label == data::StepLabel::intervention;
    pools.undesirable += step.label == data::StepLabel::undesirable;
  }
  return pools;
}

void ConsoleDesk::ended(const std::string& episode, std::optional<bool> success, const std::string& outcome,
                        std::optional<int64_t> recording) {
  const std::lock_guard lock(mutex_);
  if (watched_.empty() || !watched_.back().running || watched_.back().key != episode) return;
  Watched& now = watched_.back();
  now.running = false;
  now.recording = recording;
  now.record.success = success;
  now.record.outcome = outcome;
  relabel(now);
  release();
  if (now.record.num_steps() == 0) {  // it never was one
    watched_.pop_back();
    --next_episode_;
  }
  say_(0, episodes());
  tell_states();
}

// With several robots the guess of its name may have been wrong.
void ConsoleDesk::joined(int64_t recording, const std::string& name) {
  const std::lock_guard lock(mutex_);
  int64_t number = 0;
  std::from_chars(name.data() + name.find('_') + 1, name.data() + name.size(), number);
  next_episode_ = std::max(next_episode_, number + 1);
  const auto found = std::ranges::find(watched_, std::optional(recording), &Watched::recording);
  if (found == watched_.end() || found->name == name) return;
  found->name = name;
  say_(0, episodes());
  tell_states();
}

void ConsoleDesk::begin_at(int64_t episode) {
  const std::lock_guard lock(mutex_);
  next_episode_ = episode;
}

std::string ConsoleDesk::instruction_for(const std::string& episode) {
  const std::lock_guard lock(mutex_);
  return is_running() && watched_.back().key != episode ? "" : wish_;
}

bool ConsoleDesk::is_running() const { return !watched_.empty() && watched_.back().running; }

std::string ConsoleDesk::episode() const {
  const std::lock_guard lock(mutex_);
  return watched_.empty() ? "" : watched_.back().name;
}

bool ConsoleDesk::watches(const std::string& key) const {
  const std::lock_guard lock(mutex_);
  return !watched_.empty() && watched_.back().key == key;
}

std::string ConsoleDesk::label(const std::string& episode, int64_t step) const {
  const std::lock_guard lock(mutex_);
  for (const Watched& watched : watched_)
    if (watched.name == episode && step >= 0 && step < std::ssize(watched.labels))
      return {letter_of(watched.labels[static_cast<size_t>(step)])};
  return "";
}

ConsoleDesk::Json ConsoleDesk::state_for(int64_t viewer) const {
  const std::lock_guard lock(mutex_);
  return state(viewer);
}

void ConsoleDesk::tell_states() {
  for (const auto& [number, viewer] : viewers_) say_(number, state(number));
}

ConsoleDesk::Json ConsoleDesk::told(const Watched& watched) {
  std::string sources, labels;
  for (const ActionSource source : watched.record.sources) sources += letter_of(source);
  for (const data::LabelledStep& step : watched.labels) labels += letter_of(step);
  return {{"name", watched.name},
          {"steps", watched.record.num_steps()},
          {"success", truth(watched.record.success)},
          {"outcome", watched.record.outcome},
          {"instruction", watched.record.instruction},
          {"sources", sources},
          {"labels", labels},
          {"running", watched.running}};
}

ConsoleDesk::Json ConsoleDesk::episodes() const {
  Json list = Json::array();
  for (const Watched& watched : watched_) list.push_back(told(watched));
  return {{"type", "episodes"}, {"episodes", list}};
}

ConsoleDesk::Json ConsoleDesk::state(int64_t viewer) const {
  const Watched* now = watched_.empty() ? nullptr : &watched_.back();
  Json preview;
  if (now != nullptr) {
    int64_t last = -1;  // the last take-over's steps
    for (size_t t = 0; t < now->labels.size(); ++t)
      if (now->labels[t].take_over) last = now->labels[t].take_over_number;
    int64_t from = -1, to = -1;
    for (size_t t = 0; t < now->labels.size(); ++t) {
      const data::LabelledStep& step = now->labels[t];
      if (last < 0 || step.take_over_number != last || step.label != data::StepLabel::undesirable) continue;
      if (from < 0) from = static_cast<int64_t>(t);
      to = static_cast<int64_t>(t) + 1;
    }
    if (from >= 0) preview = {from, to};
  }
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
           {{"desirable", pools_.desirable},
            {"intervention", pools_.intervention},
            {"undesirable", pools_.undesirable}}},
          {"k", options_.rules.labels.steps_before_intervention},
          {"preview", preview},
          {"reason_no_motion", still}};
}

}  // namespace apo::serving
