#include "serving/batcher.h"

#include <torch/types.h>

#include <algorithm>
#include <exception>
#include <utility>

#include "apo/base/error.h"
#include "apo/base/text.h"
#include "base/stopwatch.h"

namespace apo::serving {
namespace {

constexpr size_t kLongestReason = 500;

double seconds(Clock::duration duration) { return std::chrono::duration<double>(duration).count(); }

// The first line of what was said, without LibTorch's trace.
std::string sentence_of(const std::string& said) {
  return shortened(said.substr(0, said.find('\n')), kLongestReason);
}

void fail(Job& job, Failure failure, std::string reason, double queue_s) {
  Answer answer;
  answer.failure = failure;
  answer.reason = std::move(reason);
  answer.queue_s = queue_s;
  job.done(std::move(answer));
}

}  // namespace

deploy::Robot robot_of(const models::Policy& policy, const ServeOptions& options) {
  return {.action_size = policy.action_size(),
          .gripper = options.gripper,
          .section = "serve",
          .most_steps = options.horizon};
}

std::string_view to_string(Failure failure) {
  switch (failure) {
    case Failure::none:
      return "none";
    case Failure::request:
      return "request";
    case Failure::busy:
      return "busy";
    case Failure::late:
      return "late";
    case Failure::gone:
      return "gone";
    case Failure::policy:
      return "policy";
    case Failure::recording:
      return "recording";
  }
  return "unknown";
}

Batcher::Batcher(models::Policy& policy, const ServeOptions& options, Metrics& metrics)
    : policy_(policy), options_(options), metrics_(metrics) {
  thread_ = std::thread([this] { run(); });
  watch_ = std::thread([this] { watch(); });
}

Batcher::~Batcher() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
  {
    const std::lock_guard lock(mutex_);
    over_ = true;
  }
  watch_changed_.notify_one();
  watch_.join();
}

void Batcher::Once::give(Answer answer) {
  if (given.exchange(true)) return;
  const auto tell = std::move(done);  // with what it holds of the request
  tell(std::move(answer));
}

void Batcher::submit(Job job) {
  {
    const std::lock_guard lock(mutex_);
    if (!stopping_ && std::ssize(waiting_) < options_.batch.queue) {
      if (options_.deadline_ms > 0) {
        const auto reply = std::make_shared<Once>();
        reply->done = std::move(job.done);
        reply->arrived = job.arrived;
        job.done = [reply](Answer answer) { reply->give(std::move(answer)); };
        while (!watched_.empty() && watched_.front()->given) watched_.pop_front();
        // frames that were sent ahead arrived before those of others
        const auto later = std::ranges::upper_bound(watched_, reply->arrived, {},
                                                    [](const auto& other) { return other->arrived; });
        if (later == watched_.begin()) watch_changed_.notify_one();
        watched_.insert(later, reply);
      }
      waiting_.push_back(std::move(job));
      changed_.notify_all();
      return;
    }
  }
  fail(job, Failure::busy,
       concat("the server is busy: ", options_.batch.queue, " requests wait already (serve.batch.queue)"), 0);
}

bool Batcher::late(const Job& job, Clock::time_point now) const {
  return options_.deadline_ms > 0 && seconds(now - job.arrived) * 1000 > options_.deadline_ms;
}

// Tells those whose time is up.
void Batcher::watch() {
  const auto deadline = std::chrono::duration_cast<Clock::duration>(
      std::chrono::duration<double, std::milli>(options_.deadline_ms));
  std::unique_lock lock(mutex_);
  while (!over_) {
    while (!watched_.empty() && watched_.front()->given) watched_.pop_front();
    if (watched_.empty()) {
      watch_changed_.wait(lock);
      continue;
    }
    const auto until = watched_.front()->arrived + deadline;
    if (Clock::now() <= until) {
      watch_changed_.wait_until(lock, until);
      continue;
    }
    const std::shared_ptr<Once> reply = std::move(watched_.front());
    watched_.pop_front();
    lock.unlock();
    Answer answer;
    answer.failure = Failure::late;
    answer.queue_s = seconds(Clock::now() - reply->arrived);
    answer.reason = concat("too late: no answer after ", static_cast<int64_t>(answer.queue_s * 1000),
                           " ms, serve.deadline_ms is ", options_.deadline_ms);
    reply->give(std::move(answer));
    lock.lock();
  }
}

// Up to a batch of those that somebody waits for, once there is one; none: it is over.
std::vector<Job> Batcher::take(std::unique_lock<std::mutex>& lock) {
  changed_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
  if (options_.batch.wait_ms > 0 && !waiting_.empty()) {
    const auto until =
        waiting_.front().arrived + std::chrono::duration_cast<Clock::duration>(
                                       std::chrono::duration<double, std::milli>(options_.batch.wait_ms));
    changed_.wait_until(lock, until,
                        [this] { return stopping_ || std::ssize(waiting_) >= options_.batch.max_size; });
  }
  std::vector<Job> jobs;
  while (!waiting_.empty() && std::ssize(jobs) < options_.batch.max_size) {
    jobs.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
  }
  return jobs;
}

void Batcher::run() {
  const at::NoGradGuard no_gradient;
  policy_.set_training(false);
  std::unique_lock lock(mutex_);
  for (;;) {
    std::vector<Job> jobs = take(lock);
    if (jobs.empty()) return;
    lock.unlock();
    answer(std::move(jobs));
    lock.lock();
  }
}

void Batcher::answer(std::vector<Job> jobs) {
  const Clock::time_point begin = Clock::now();
  std::vector<Job> asked;
  for (Job& job : jobs) {
    const double waited = seconds(begin - job.arrived);
    if (job.gone && job.gone->load())
      fail(job, Failure::gone, "the client is gone", waited);
    else if (late(job, begin))
      fail(job, Failure::late,
           concat("too late: the request waited ", static_cast<int64_t>(waited * 1000),
                  " ms for others, serve.deadline_ms is ", options_.deadline_ms),
           waited);
    else
      asked.push_back(std::move(job));
  }
  if (asked.empty()) return;
  std::vector<Answer> answers = decide(asked);
  const Clock::time_point end = Clock::now();
  metrics_.inference.add(seconds(end - begin));
  for (size_t i = 0; i < asked.size(); ++i) {
    Answer& answer = answers[i];
    answer.infer_s = seconds(end - begin);
    answer.queue_s = seconds(begin - asked[i].arrived);
    answer.batch_size = std::ssize(asked);
    metrics_.queue.add(answer.queue_s);
    if (answer.failure == Failure::none && late(asked[i], end)) {
      answer.failure = Failure::late;
      answer.reason =
          concat("too late: the answer took ", static_cast<int64_t>(seconds(end - asked[i].arrived) * 1000),
                 " ms, serve.deadline_ms is ", options_.deadline_ms);
      answer.actions.clear();
    }
    asked[i].done(std::move(answer));
  }
}

// What the policy wants for each, or why not.
std::vector<Answer> Batcher::decide(std::span<Job> jobs) {
  std::vector<Answer> answers(jobs.size());
  try {
    std::vector<Observation> seen;
    std::vector<uint64_t> seeds;
    for (const Job& job : jobs) {
      seen.push_back(job.observation);
      policy_.prepare(seen.back());
      seeds.push_back(job.seed);
    }
    deploy::Decisions decisions = deploy::decide(
        policy_, seen, std::move(seeds), robot_of(policy_, options_), [](size_t) { return "the answer"; },
        options_.temperature, std::ranges::any_of(jobs, &Job::confidence));
    for (size_t i = 0; i < jobs.size(); ++i) {
      if (!decisions.confidence.empty()) answers[i].confidence = decisions.confidence[i];
      answers[i].actions = std::move(decisions.rows[i].actions);
      if (decisions.rows[i].refused.empty()) continue;
      answers[i].failure = Failure::policy;
      answers[i].reason = sentence_of(decisions.rows[i].refused);
    }
    return answers;
  } catch (const std::exception& error) {
    if (jobs.size() > 1) {  // whose fault it is shows alone
      for (size_t i = 0; i < jobs.size(); ++i) answers[i] = std::move(decide(jobs.subspan(i, 1))[0]);
      return answers;
    }
    answers[0].failure =
        dynamic_cast<const DataError*>(&error) != nullptr ? Failure::request : Failure::policy;
    answers[0].reason = sentence_of(error.what());
    return answers;
  }
}

void warm_up(models::Policy& policy, const Observation& observation) {
  const at::NoGradGuard no_gradient;
  Observation seen = observation;
  policy.set_training(false);
  policy.prepare(seen);
  policy.act(policy.encode({&seen, 1}));
}

}  // namespace apo::serving
