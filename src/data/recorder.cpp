#include "apo/data/recorder.h"

#include <torch/types.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <exception>
#include <map>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "apo/base/error.h"
#include "apo/base/finishing.h"
#include "apo/base/log.h"
#include "apo/base/text.h"
#include "apo/data/recovery.h"
#include "base/paths.h"
#include "data/journal.h"
#include "data/layouts.h"
#include "data/spool.h"
#include "data/step_schema.h"

namespace apo::data {
namespace {

namespace fs = std::filesystem;

std::string demo_name(int64_t number) { return concat("demo_", number); }

// RunError naming both.
void move(const fs::path& from, const fs::path& to) {
  std::error_code error;
  if (from != to) fs::rename(from, to, error);
  APO_CHECK(RunError, !error, from.string(), ": cannot be renamed to ", to.filename().string(), ": ",
            error.message());
}

// A running episode.
struct Running {
  explicit Running(const fs::path& path) : path(path), journal(std::make_unique<Journal>(path)) {}
  fs::path path;
  std::unique_ptr<Journal> journal;
  int64_t steps = 0;
};

// A finished one on its way into the file.
struct Finished {
  fs::path path;
  int64_t number = 0;
  bool ended = true;  // false: as the journal says
  std::optional<bool> success = {};
  std::string outcome = {};
};

// Whether the file's demo_`number` is the episode of `journal`: what others have added to the file since is
// not taken for it.
bool is_in_file(const fs::path& path, int64_t number, const fs::path& journal) {
  const JournalReader reader(journal);
  std::vector<JournalEpisode> held = reader.episodes();
  if (held.empty()) return false;
  reader.read_steps(held.front());
  const EpisodeRecord ours = record_of(held.front().episode, demo_name(number));
  const auto file = open_trajectories(path, {.format = TrajectoryFormat::apo, .lazily = true});
  for (int64_t i = file->num_episodes() - 1; i >= 0; --i) {
    const EpisodeRecord theirs = file->episode(i);
    if (theirs.name == ours.name) return theirs.actions == ours.actions && theirs.sources == ours.sources;
  }
  return false;
}

}  // namespace

struct EpisodeRecorder::State {
  State(const fs::path& path, const TrajectoryInfo& info, Joined joined)
      : path(path), info(info), joined(std::move(joined)), finishing(concat("episodes of ", path.string())) {}

  fs::path path;
  const TrajectoryInfo info;
  Joined joined;
  Finishing finishing;  // a signal waits until all is in the file

  mutable std::mutex mutex;
  std::condition_variable changed;
  std::map<int64_t, std::shared_ptr<Running>> running;
  std::deque<Finished> finished;
  std::map<int64_t, std::string> names;  // of those that are in the file
  bool merging = false;                  // or copying: the file is somebody's
  bool stopping = false, tried = false;
  int64_t next_number = 0;
  int64_t in_file = 0;
  std::optional<StepSchema> schema;  // of the file's first step
  std::thread thread;

  // of the thread, once it runs, and of `copy_to`
  std::unique_ptr<TrajectoryWriter> writer;
  std::string writer_hash;  // the policy's that it was made for

  void open();
  void take_up(const SpooledEpisode& left);
  void open_writer(const std::string& policy_hash);
  void close_writer();
  void merge(Finished& episode);
  void copy(const JournalReader& reader, const JournalEpisode& one, const Finished& episode);
  void tell(int64_t episode, int64_t demo);
  void merge_all();
  std::shared_ptr<Running> find(int64_t episode) const {
    const std::lock_guard lock(mutex);
    const auto found = running.find(episode);
    return found == running.end() ? nullptr : found->second;
  }
  std::shared_ptr<Running> take(int64_t episode) {
    const std::lock_guard lock(mutex);
    const auto found = running.find(episode);
    APO_ASSERT(found != running.end());
    auto taken = std::move(found->second);
    running.erase(found);
    return taken;
  }
};

void EpisodeRecorder::State::open_writer(const std::string& policy_hash) {
  if (writer && policy_hash == writer_hash) return;
  close_writer();
  drop_unfinished_episode(path);  // one whose own journal still holds everything
  TrajectoryInfo of_episode = info;
  of_episode.policy_hash = policy_hash;
  writer = std::make_unique<TrajectoryWriter>(path, of_episode);
  writer_hash = policy_hash;
}

// What the writer has of an unfinished episode is forgotten: the episode's own journal holds it.
void EpisodeRecorder::State::close_writer() {
  if (!writer) return;
  try {
    if (writer->in_episode()) writer->discard_episode();
  } catch (const Error& error) {
    log_error(error.what());
  }
  writer.reset();
}

// Takes up what was left behind, and learns what every step must be like.
void EpisodeRecorder::State::open() {
  open_writer(info.policy_hash);
  in_file = writer->num_episodes();
  for (const SpooledEpisode& left : left_behind(path)) {
    next_number = std::max(next_number, left.number + 1);
    take_up(left);
  }
  open_writer(info.policy_hash);
  if (in_file == 0) return;
  const auto file = TrajectoryFile::open(path, TrajectoryFormat::apo);
  if (file->num_episodes() > 0)
    schema = schema_of(file->observation(0, 0), file->episode(0).actions.at(0).size());
}

// One that was being brought in is in the file if the kill came late enough.
void EpisodeRecorder::State::take_up(const SpooledEpisode& left) {
  Finished episode{.path = left.path, .number = left.number, .ended = false};
  std::unique_ptr<const Journal> mine;
  try {
    mine = std::make_unique<const Journal>(left.path);
    if (left.into && is_in_file(path, *left.into, left.path)) {
      std::error_code ignored;
      fs::remove(left.path, ignored);
      tell(left.number, *left.into);
      return;
    }
  } catch (const Error& error) {
    log_warn(left.path.string(), ": was left behind and cannot be taken up: ", error.what());
    return;
  }
  try {
    merge(episode);
  } catch (const DataError& error) {
    log_warn(left.path.string(), ": was left behind and is no episode of this file: ", error.what());
  } catch (const RunError& error) {
    log_error(error.what(), "; the episode stays in ", episode.path.string());
    finished.push_back(episode);
    tried = true;
  }
}

// Brings one finished episode into the file; its journal is then gone. Where that fails it is as before.
void EpisodeRecorder::State::merge(Finished& episode) {
  const JournalReader reader(episode.path);
  const std::vector<JournalEpisode> held = reader.episodes();
  std::error_code ignored;
  if (held.empty()) {
    fs::remove(episode.path, ignored);
    return;
  }
  const JournalEpisode& one = held.front();
  if (!episode.ended) {
    if (one.ended) episode.success = one.episode.success;  // of others nobody knows
    episode.outcome = one.episode.outcome;
  }
  open_writer(one.policy_hash);
  const int64_t demo = writer->next_number();
  const fs::path into = into_path(path, episode.number, demo);
  move(episode.path, into);
  episode.path = into;
  try {
    copy(reader, one, episode);
  } catch (const std::exception& error) {
    if (writer->next_number() == demo) {
      close_writer();
      const fs::path before = spool_path(path, episode.number);
      move(episode.path, before);
      episode.path = before;
      throw;
    }
    log_warn(error.what());  // it is in the writer's journal
  }
  fs::remove(episode.path, ignored);
  tell(episode.number, demo);
}

// Step by step: an episode of an hour is larger than the memory.
void EpisodeRecorder::State::copy(const JournalReader& reader, const JournalEpisode& one,
                                  const Finished& episode) {
  writer->begin_episode(one.episode.instruction);
  for (size_t i = 0; i < one.step_offsets.size(); ++i) {
    Step step = reader.step(one, i);
    if (i + 1 == one.step_offsets.size()) {
      step.done = true;
      if (episode.success.value_or(false)) step.reward = 1;
    }
    writer->append(step);
  }
  writer->end_episode(episode.success, episode.outcome);
}

// Whoever asks learns the episode's name.
void EpisodeRecorder::State::tell(int64_t episode, int64_t demo) {
  {
    const std::lock_guard lock(mutex);
    in_file = writer->num_episodes();
    names[episode] = demo_name(demo);
  }
  if (joined) joined(episode, demo_name(demo));
}

// The recorder's thread.
void EpisodeRecorder::State::merge_all() {
  std::unique_lock lock(mutex);
  for (;;) {
    changed.wait(lock, [this] { return !merging && (stopping || (!finished.empty() && !tried)); });
    if (finished.empty() || tried) break;
    merging = true;
    Finished episode = finished.front();
    lock.unlock();
    bool done = false;
    try {
      merge(episode);
      done = true;
    } catch (const std::exception& error) {
      log_error(error.what(), "; the episode stays in ", episode.path.string());
      close_writer();
    }
    lock.lock();
    finished.front() = episode;
    if (done) finished.pop_front();
    tried = !done;
    merging = false;
    changed.notify_all();
  }
}

EpisodeRecorder::EpisodeRecorder(const fs::path& path, const TrajectoryInfo& info, Joined joined)
    : state_(std::make_unique<State>(path, info, std::move(joined))) {
  state_->open();
  state_->thread = std::thread([state = state_.get()] { state->merge_all(); });
}

EpisodeRecorder::~EpisodeRecorder() {
  State& s = *state_;
  std::vector<int64_t> open;
  for (const auto& [number, ignored] : s.running) open.push_back(number);
  for (const int64_t number : open) {
    try {
      end(number, std::nullopt, "interrupted");
    } catch (const std::exception& error) {
      log_error(error.what());
    }
  }
  {
    const std::lock_guard lock(s.mutex);
    s.stopping = true;
    s.tried = false;
  }
  s.changed.notify_all();
  s.thread.join();
}

int64_t EpisodeRecorder::begin(const std::string& instruction) {
  State& s = *state_;
  APO_CHECK(DataError, is_utf8(instruction), s.path.string(),
            ": expected a UTF-8 instruction, found other bytes");
  int64_t number = 0;
  {
    const std::lock_guard lock(s.mutex);
    number = s.next_number++;
  }
  auto episode = std::make_shared<Running>(spool_path(s.path, number));
  try {
    episode->journal->begin_episode(number, instruction, s.info.policy_hash);
    episode->journal->flush();
  } catch (...) {
    episode->journal->remove();
    throw;
  }
  const std::lock_guard lock(s.mutex);
  s.running[number] = std::move(episode);
  return number;
}

void EpisodeRecorder::append(int64_t episode, const Step& step) {
  State& s = *state_;
  const auto running = s.find(episode);
  APO_ASSERT(running != nullptr);
  const std::string where = concat(s.path.string(), ": step ", running->steps);
  check_step(step, where);
  const StepSchema schema = schema_of(step.observation, step.action.size());
  {
    const std::lock_guard lock(s.mutex);
    if (!s.schema) s.schema = schema;
    APO_CHECK(DataError, schema == *s.schema, where, ": expected ", to_text(*s.schema),
              " as in the file's first step, found ", to_text(schema));
  }
  const int64_t before = running->journal->size();
  try {
    running->journal->append(step);
    running->journal->flush();
  } catch (...) {
    running->journal->take_back(before);
    throw;
  }
  ++running->steps;
}

void EpisodeRecorder::end(int64_t episode, std::optional<bool> success, const std::string& outcome) {
  State& s = *state_;
  APO_CHECK(DataError, is_utf8(outcome), s.path.string(), ": expected a UTF-8 outcome, found other bytes");
  const auto running = s.take(episode);
  if (running->steps == 0) {
    running->journal->remove();
    return;
  }
  try {
    running->journal->end_episode(success, outcome);
    running->journal->flush();
  } catch (const Error& error) {  // the steps are there, and how it ended is in memory
    log_warn(error.what());
  }
  running->journal.reset();
  {
    const std::lock_guard lock(s.mutex);
    s.finished.push_back({.path = running->path, .number = episode, .success = success, .outcome = outcome});
    s.tried = false;
  }
  s.changed.notify_all();
}

void EpisodeRecorder::discard(int64_t episode) { state_->take(episode)->journal->remove(); }

int64_t EpisodeRecorder::num_steps(int64_t episode) const {
  const auto running = state_->find(episode);
  return running ? running->steps : 0;
}

int64_t EpisodeRecorder::num_episodes() const {
  const std::lock_guard lock(state_->mutex);
  return state_->in_file;
}

std::optional<std::string> EpisodeRecorder::name_of(int64_t episode) const {
  const std::lock_guard lock(state_->mutex);
  const auto found = state_->names.find(episode);
  return found == state_->names.end() ? std::nullopt : std::optional(found->second);
}

void EpisodeRecorder::wait() {
  State& s = *state_;
  std::unique_lock lock(s.mutex);
  s.changed.wait(lock, [&s] { return !s.merging && (s.finished.empty() || s.tried); });
}

void EpisodeRecorder::copy_to(const fs::path& target) {
  State& s = *state_;
  std::unique_lock lock(s.mutex);
  s.changed.wait(lock, [&s] { return !s.merging && (s.finished.empty() || s.tried); });
  s.merging = true;
  lock.unlock();
  s.close_writer();
  std::exception_ptr problem;
  try {
    copy_recording(s.path, target);
  } catch (...) {
    problem = std::current_exception();
  }
  lock.lock();
  s.merging = false;
  lock.unlock();
  s.changed.notify_all();
  if (problem) std::rethrow_exception(problem);
}

}  // namespace apo::data
