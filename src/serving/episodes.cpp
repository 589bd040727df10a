#include "serving/episodes.h"

#include <torch/types.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "apo/base/error.h"
#include "apo/base/log.h"
#include "apo/base/random.h"
#include "deploy/take_over.h"
#include "serving/hold.h"

namespace apo::serving {
namespace {

constexpr std::string_view kConnection = "connection ";

}  // namespace

class Episode {
 public:
  explicit Episode(std::string key) : key(std::move(key)) {}
  const std::string key;

  // guarded by the mutex of the episodes
  int64_t asked = 0;  // steps
  int64_t in_flight = 0;
  std::optional<uint64_t> seed;
  Clock::time_point last_seen;
  std::string asked_for;  // the robot's own instruction, of the request before
  std::string wish;       // a person's in its place; empty: none
  bool started = false;   // a step was made: what is asked for stands

  // of the thread of the episodes
  int64_t answered = 0;
  std::optional<int64_t> recording;  // number of the recorder's
  std::string instruction;           // the robot's own, of the step before
  ActionSource last_source = ActionSource::policy;
  Action last_action;
  std::string reason;  // of the take-over that goes on
  Clock::time_point last_input;
  bool device = false;  // a human's device has acted, and may hold the arm still
  bool ended = false;
  bool ended_by_person = false;
  int64_t made = 0;  // steps that are its own: not those in which the robot waited
};

std::string connection_key(uint64_t connection) { return concat(kConnection, connection); }
std::string named_key(const std::string& episode_id) { return "episode " + episode_id; }
std::string address_key(const std::string& address, const std::string& instruction) {
  return concat("address ", address, " ", instruction);
}

Episodes::Episodes(const ServeOptions& options, std::vector<int64_t> grippers, const Recording& recording,
                   Watcher* watcher)
    : options_(options), grippers_(std::move(grippers)), watcher_(watcher) {
  if (!recording.path.empty())
    recorder_ = std::make_unique<data::EpisodeRecorder>(recording.path, recording.info,
                                                        [this](int64_t number, const std::string& name) {
                                                          if (watcher_ != nullptr)
                                                            watcher_->joined(number, name);
                                                        });
  worker_ = std::make_unique<Worker>();
}

Episodes::~Episodes() {
  worker_.reset();
  for (auto& [key, episode] : episodes_) finish(*episode, std::nullopt, "interrupted");
}

std::pair<std::shared_ptr<Episode>, uint64_t> Episodes::enter(const std::string& key, StepRequest& request) {
  const std::string wish = watcher_ != nullptr ? watcher_->instruction_for(key) : "";
  const std::lock_guard lock(mutex_);
  const auto found = episodes_.find(key);
  APO_CHECK(RunError, found != episodes_.end() || std::ssize(episodes_) < options_.limits.episodes,
            "the server is busy: ", options_.limits.episodes,
            " episodes run already (serve.limits.episodes)");
  auto& episode = found != episodes_.end() ? found->second : episodes_[key];
  if (!episode) episode = std::make_shared<Episode>(key);
  std::string& instruction = request.observation.instruction;
  request.asked_for = instruction;
  if (episode->asked_for != instruction) episode->started = false;
  episode->asked_for = instruction;
  if (!episode->started) episode->wish = wish;
  if (!episode->wish.empty()) instruction = episode->wish;
  if (request.seed) episode->seed = request.seed;
  episode->last_seen = Clock::now();
  ++episode->in_flight;
  const uint64_t seed = episode->seed.value_or(static_cast<uint64_t>(options_.seed));
  return {episode, mix_seed(seed, "decode", static_cast<uint64_t>(episode->asked++))};
}

void Episodes::answered(std::shared_ptr<Episode> episode, StepRequest request, Answer answer,
                        Clock::time_point arrived, Done done) {
  worker_->post([this, episode = std::move(episode), request = std::move(request), answer = std::move(answer),
                 arrived, done = std::move(done)]() mutable {
    StepReply reply;
    if (answer.failure == Failure::gone) {  // it was not executed
      reply.failure = answer.failure;
      reply.reason = std::move(answer.reason);
    } else {
      try {
        reply = decide(*episode, request, answer, arrived);
      } catch (const std::exception& error) {
        reply.failure = Failure::recording;
        reply.reason = error.what();
      }
    }
    if (reply.failure == Failure::none)
      if (auto told = to_tell_.extract(episode->key)) reply.ended = std::move(told.mapped().first);
    reply.infer_s = answer.infer_s;
    reply.queue_s = answer.queue_s;
    reply.echo = std::move(request.echo);
    {
      const std::lock_guard lock(mutex_);
      episode->last_seen = Clock::now();
      --episode->in_flight;
    }
    done(std::move(reply));
  });
}

Action Episodes::idle(const Action& last) const {
  return held_still(std::vector<float>(options_.idle.begin(), options_.idle.end()), grippers_, last);
}

// What was asked before a person ended the episode is answered after it: the hands may be in the scene.
StepReply Episodes::hold(const Episode& episode, const Answer& answer) const {
  StepReply reply;
  reply.source = ActionSource::intervention;
  reply.actions.assign(std::max<size_t>(answer.actions.size(), 1), idle(episode.last_action));
  return reply;
}

StepReply Episodes::decide(Episode& episode, StepRequest& request, Answer& answer,
                           Clock::time_point arrived) {
  const bool policy_answered = answer.failure == Failure::none;
  if (!episode.ended && episode.answered > 0 && episode.instruction != request.asked_for) begin_anew(episode);
  episode.instruction = request.asked_for;
  if (episode.ended_by_person && !episode.last_action.empty()) return hold(episode, answer);
  StepReply reply;
  Step step;
  bool recorded = true;
  std::optional<Action> human;
  std::optional<Override> override;
  if (watcher_ != nullptr && !episode.ended)
    override = watcher_->decide({.episode = episode.key,
                                 .step = episode.answered,
                                 .observation = request.observation,
                                 .policy_action = policy_answered ? &answer.actions.front() : nullptr,
                                 .captured_ms = wall_clock_ms(Clock::now() - arrived),
                                 .confidence = answer.confidence});
  const double since_input = std::chrono::duration<double>(arrived - episode.last_input).count();
  episode.device = request.intervention || (episode.device && since_input < options_.hysteresis_s);
  if (request.intervention) {  // whoever stands beside the robot wins over who sits at a page
    human = std::move(request.intervention);
    episode.last_input = arrived;
  } else if (episode.device) {
    human = idle(episode.last_action);
    request.reason = episode.reason;
  } else if (override) {
    human = override->recorded || episode.last_action.empty() ? std::move(override->action)
                                                              : idle(episode.last_action);
    request.reason = std::move(override->reason);
    recorded = override->recorded;
  }
  if (!human && !policy_answered) {
    reply.failure = answer.failure;
    reply.reason = std::move(answer.reason);
    return reply;
  }
  step.observation = std::move(request.observation);
  if (policy_answered) step.decision_offset = 0;
  if (human) {
    const size_t horizon = policy_answered ? answer.actions.size() : 1;
    reply.actions.assign(horizon, idle(*human));
    reply.actions.front() = *human;
    deploy::act_by_human(step, std::move(*human),
                         policy_answered ? std::optional(answer.actions.front()) : std::nullopt,
                         episode.last_source == ActionSource::intervention || !recorded, {request.reason});
  } else {
    step.action = answer.actions.front();
    reply.actions = std::move(answer.actions);
  }
  reply.source = step.source;
  episode.reason = request.reason;
  episode.last_action = step.action;
  if (recorded) {
    ++episode.made;
    const std::lock_guard lock(mutex_);
    episode.started = true;
  }
  if (recorded && !episode.ended) record(episode, step);
  if (recorded) episode.last_source = step.source;
  if (watcher_ != nullptr && recorded && !episode.ended) watcher_->happened(episode.key, step);
  ++episode.answered;
  return reply;
}

void Episodes::record(Episode& episode, const Step& step) {
  if (!recorder_) return;
  if (!episode.recording) episode.recording = recorder_->begin(step.observation.instruction);
  recorder_->append(*episode.recording, step);
}

// What follows is another episode: it is asked for something else.
void Episodes::begin_anew(Episode& episode) {
  finish(episode, std::nullopt, "other instruction");
  episode.ended = false;
  episode.answered = episode.made = 0;
  episode.last_source = ActionSource::policy;
}

void Episodes::finish(Episode& episode, std::optional<bool> success, const std::string& outcome) {
  episode.ended = true;
  const std::optional<int64_t> recording = std::exchange(episode.recording, std::nullopt);
  // before it can join the recording, of which the watcher is told, too
  if (watcher_ != nullptr) watcher_->ended(episode.key, success, outcome, recording);
  if (!recording) return;
  try {
    recorder_->end(*recording, success, outcome);
  } catch (const std::exception& error) {
    log_error(error.what());
  }
}

void Episodes::end_by_person(const std::string& key, std::optional<bool> success,
                             const std::string& outcome) {
  end(key, success, outcome, {}, true);
}

void Episodes::end(const std::string& key, std::optional<bool> success, const std::string& outcome,
                   std::function<void(int64_t)> done, bool by_person) {
  std::shared_ptr<Episode> episode;
  {
    const std::lock_guard lock(mutex_);
    if (auto found = episodes_.extract(key)) episode = std::move(found.mapped());
  }
  worker_->post([this, key, episode, success, outcome, by_person, done = std::move(done)] {
    int64_t steps = -1;
    to_tell_.erase(key);
    if (by_person) to_tell_[key] = {outcome, Clock::now()};
    if (episode) episode->ended_by_person = by_person;
    if (episode) {
      steps = episode->recording ? recorder_->num_steps(*episode->recording) : episode->made;
      const std::string words = !outcome.empty() ? outcome
                                : !success       ? "ended"
                                                 : (*success ? "success" : "failure");
      finish(*episode, success, words);
    }
    if (done) done(steps);
  });
}

std::string Episodes::latest_of(const std::string& address) {
  const std::lock_guard lock(mutex_);
  const std::string prefix = address_key(address, "");
  const Episode* latest = nullptr;
  for (const auto& [key, episode] : episodes_)
    if (key.starts_with(prefix) && (latest == nullptr || episode->last_seen > latest->last_seen))
      latest = episode.get();
  return latest != nullptr ? latest->key : prefix;
}

void Episodes::end_idle() {
  std::vector<std::string> idle;
  {
    const std::lock_guard lock(mutex_);
    const auto now = Clock::now();
    for (const auto& [key, episode] : episodes_)
      if (!key.starts_with(kConnection) && episode->in_flight == 0 &&
          std::chrono::duration<double>(now - episode->last_seen).count() > options_.limits.episode_idle_s)
        idle.push_back(key);
  }
  for (const std::string& key : idle) end(key, std::nullopt, "idle");
  worker_->post([this] {  // robots that never came back
    std::erase_if(to_tell_, [&](const auto& entry) {
      const auto age = Clock::now() - entry.second.second;
      return std::chrono::duration<double>(age).count() > options_.limits.episode_idle_s;
    });
  });
}

void Episodes::copy_recording(const std::filesystem::path& target) {
  recorder_->wait();  // for what has just ended
  APO_CHECK(DataError, recorder_->num_episodes() > 0, options_.record,
            ": expected an episode, found none yet");
  recorder_->copy_to(target);
}

}  // namespace apo::serving
