#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <torch/types.h>
#include <unistd.h>

#include <cmath>
#include <exception>
#include <map>
#include <set>

#include "apo/base/error.h"
#include "apo/base/finishing.h"
#include "apo/base/log.h"
#include "apo/base/text.h"
#include "apo/data/trajectory.h"
#include "base/paths.h"
#include "data/journal.h"
#include "data/layouts.h"
#include "data/reading_process.h"
#include "data/step_schema.h"

namespace apo::data {
namespace {

namespace fs = std::filesystem;

// The file is copied whole to grow, so it does so after every episode only while it is small; a large one
// waits until the journal holds an eighth of it. All copying together then stays below nine times the final
// size.
constexpr int64_t kSmallFileBytes = int64_t{8} << 20;
constexpr int64_t kJournalShare = 8;
// What bringing a journal in may cost of a processor before it counts as endless.
constexpr int64_t kMergeSeconds = 20;
constexpr int64_t kMergedASecond = int64_t{4} << 20;

// Copies the file to `to` with room for `more_bytes`, so that a full disk is found before HDF5 writes into
// it: HDF5 can neither finish nor close a file that does not fit. `to` is removed if that fails.
void copy_with_room(const fs::path& from, const fs::path& to, int64_t more_bytes) {
  constexpr int64_t kOverheadBytes = int64_t{1} << 20;  // of HDF5's own bookkeeping
  std::error_code error, ignored;
  // of a killed process, which may still be writing it, or a link that would lead elsewhere
  fs::remove(to, ignored);
  fs::copy_file(from, to, error);
  std::string why = error.message();
  if (!error) {
    const int descriptor = ::open(to.c_str(), O_RDWR | O_CLOEXEC);
    const auto size = static_cast<int64_t>(fs::file_size(to, ignored)) + more_bytes + kOverheadBytes;
    const int result = descriptor < 0 ? errno : ::posix_fallocate(descriptor, 0, size);
    if (descriptor >= 0) ::close(descriptor);
    if (result == 0) return;
    why = strerror(result);
  }
  fs::remove(to, ignored);
  const auto space = fs::space(parent_of(from), ignored);
  throw RunError(concat(from.string(), ": cannot grow (its recorded episodes stay in ",
                        journal_path(from).filename().string(), "): ", why, "; ", space.available >> 20,
                        " MiB are free"));
}

}  // namespace

struct TrajectoryWriter::State {
  explicit State(const fs::path& path)
      : path(path), finishing(concat("an episode of ", path.string())), unfinished(partial()) {}

  fs::path path;
  Finishing finishing;  // a signal waits until all is in the file
  Unfinished unfinished;
  TrajectoryInfo info;
  int64_t flush_every = 16;
  std::unique_ptr<Journal> journal;
  std::set<std::string> in_file;  // episodes that the HDF5 file holds
  int64_t in_journal = 0;         // finished episodes that only the journal holds
  int64_t next_number = 0;
  std::optional<StepSchema> schema;  // of the file's first step
  bool in_episode = false;
  std::string instruction;
  int64_t begin = 0;                 // bytes of the journal before the episode being written
  int64_t steps = 0, unflushed = 0;  // of it
  size_t state_size = 0;             // of its first step's simulator state

  fs::path partial() const { return path.string() + ".partial"; }
  void create();
  void inspect();
  void merge(bool sync);
  void maybe_merge();
};

// An empty file of ours.
void TrajectoryWriter::State::create() {
  std::error_code error;
  fs::remove(partial(), error);
  {
    hdf5::Group root = hdf5::Group::create(partial());
    hdf5::Group data = root.create_group("data");
    write_info(data, info);
    data.flush();
  }
  put_in_place(partial(), path, Sync::no);
}

// Reads what an existing file holds, without its journal.
void TrajectoryWriter::State::inspect() {
  hdf5::Group root = hdf5::Group::open(path);
  APO_CHECK(DataError, root.has("data") && root.group("data").integer_attribute(kSchemaAttribute),
            path.string(), ": expected a trajectory file of ours to append to (attribute ", kSchemaAttribute,
            " of /data), found none");
  const auto file = open_demos(std::move(root), path, {.format = TrajectoryFormat::apo});
  for (const auto& [key, value] : file->attributes())
    APO_CHECK(DataError, key != "environment_name" || value == info.environment_name, path.string(),
              ": holds episodes of environment '", value, "', expected '", info.environment_name, "'");
  for (int64_t i = 0; i < file->num_episodes(); ++i) {
    const EpisodeRecord record = file->episode(i);
    in_file.insert(record.name);
    next_number = episode_number(record.name).value() + 1;
    if (!schema) schema = schema_of(file->observation(i, 0), record.actions[0].size());
  }
}

// Brings every whole episode of the journal into the HDF5 file and starts an empty journal.
void TrajectoryWriter::State::merge(bool sync) {
  journal->flush();
  const JournalReader reader(journal_path(path));
  std::vector<JournalEpisode> episodes = reader.episodes();
  std::erase_if(episodes, [this](const auto& e) { return in_file.count(concat("demo_", e.number)) > 0; });
  if (!episodes.empty()) {
    copy_with_room(path, partial(), journal->size());
    hdf5::run_apart(
        [&] {
          const JournalReader again(journal_path(path));  // what was open is closed here
          hdf5::Group root = hdf5::Group::open_for_writing(partial());
          hdf5::Group data = root.group("data");
          int64_t total = data.integer_attribute("total").value_or(0);
          for (JournalEpisode e : episodes) {
            again.read_steps(e);
            write_episode(
                data, e.number, e.episode, e.policy_hash, {}, {},
                [&](size_t i) { return again.step(e, i).observation.images; }, e.playback);
            total += std::ssize(e.step_offsets);
          }
          data.set_attribute("total", total);
          data.flush();
        },
        path.string(), kMergeSeconds + journal->size() / kMergedASecond);
    put_in_place(partial(), path, sync ? Sync::yes : Sync::no);
    for (const JournalEpisode& e : episodes) {
      in_file.insert(concat("demo_", e.number));
      next_number = std::max(next_number, e.number + 1);
      if (!schema) {
        const Step first = reader.step(e, 0);
        schema = schema_of(first.observation, first.action.size());
      }
    }
  }
  in_journal = 0;
  journal->restart();
}

void TrajectoryWriter::State::maybe_merge() {
  std::error_code error;
  const auto bytes = static_cast<int64_t>(fs::file_size(path, error));
  APO_CHECK(RunError, !error, path.string(), ": the file that is being written is gone: ", error.message());
  if (bytes <= kSmallFileBytes || journal->size() >= bytes / kJournalShare) merge(false);
}

TrajectoryWriter::TrajectoryWriter(const fs::path& path, const TrajectoryInfo& info, int64_t flush_every)
    : state_(std::make_unique<State>(path)) {
  State& s = *state_;
  s.info = info;
  s.flush_every = std::max<int64_t>(1, flush_every);
  std::error_code error;
  make_directory(parent_of(path));
  s.journal = std::make_unique<Journal>(journal_path(path));
  const bool left_behind = s.journal->size() > 0 && fs::file_size(journal_path(path), error) > 0;
  try {
    const bool exists = fs::exists(path);
    if (exists) {
      s.inspect();
    } else {
      if (left_behind) log_warn(journal_path(path).string(), ": its trajectory file is gone, starting anew");
      s.create();
      s.journal->restart();
    }
    if (exists && left_behind) {
      const size_t before = s.in_file.size();
      const auto episodes = JournalReader(journal_path(path)).episodes();
      s.merge(true);
      const size_t recovered = s.in_file.size() - before;
      const bool interrupted = !episodes.empty() && !episodes.back().ended;
      if (recovered > 0)
        log_info(path.string(), ": recovered ", recovered, " episodes that a stopped recording left",
                 interrupted
                     ? concat(", the last with its first ", episodes.back().step_offsets.size(), " steps")
                     : "");
    }
    s.journal->flush();
  } catch (...) {
    if (!left_behind) s.journal->remove();
    throw;
  }
}

TrajectoryWriter::~TrajectoryWriter() {
  try {
    state_->merge(true);
    state_->journal->remove();
  } catch (const std::exception& error) {  // the journal stays, so nothing is lost
    if (std::uncaught_exceptions() == 0)   // otherwise what is being thrown says it
      log_error(state_->path.string(), ": not closed cleanly (the next opening recovers it): ", error.what());
  }
}

void TrajectoryWriter::begin_episode(const std::string& instruction, const std::string& model) {
  State& s = *state_;
  APO_ASSERT(!s.in_episode);
  APO_CHECK(DataError, is_utf8(instruction), s.path.string(),
            ": expected a UTF-8 instruction, found other bytes");
  APO_CHECK(DataError, is_utf8(model) && model.find('\0') == model.npos, s.path.string(),
            ": expected the simulator's model as UTF-8 text without NUL, found other bytes");
  s.begin = s.journal->size();
  s.journal->begin_episode(s.next_number, instruction, s.info.policy_hash, model);
  s.in_episode = true;
  s.instruction = instruction;
  s.steps = s.unflushed = 0;
}

void TrajectoryWriter::append(const Step& step, std::span<const double> simulator_state) {
  State& s = *state_;
  APO_ASSERT(s.in_episode);
  const std::string where = concat(s.path.string(), ": /data/demo_", s.next_number, " step ", s.steps);
  check_step(step, where);
  const StepSchema schema = schema_of(step.observation, step.action.size());
  if (!s.schema) s.schema = schema;
  APO_CHECK(DataError, schema == *s.schema, where, ": expected ", to_text(*s.schema),
            " as in the file's first step, found ", to_text(schema));
  if (s.steps == 0) s.state_size = simulator_state.size();
  APO_CHECK(DataError, simulator_state.size() == s.state_size, where, ": expected a simulator state of ",
            s.state_size, " numbers as in the episode's first step, found ", simulator_state.size());
  for (const double x : simulator_state)
    APO_CHECK(DataError, std::isfinite(x), where, ": expected a finite simulator state, found ", x);
  s.journal->append(step, simulator_state);
  ++s.steps;
  if (++s.unflushed >= s.flush_every) {
    s.journal->flush();
    s.unflushed = 0;
  }
}

void TrajectoryWriter::end_episode(std::optional<bool> success, const std::string& outcome) {
  State& s = *state_;
  APO_ASSERT(s.in_episode);
  APO_CHECK(DataError, s.steps > 0, s.path.string(), ": /data/demo_", s.next_number,
            ": an episode without steps");
  APO_CHECK(DataError, is_utf8(outcome), s.path.string(), ": expected a UTF-8 outcome, found other bytes");
  s.journal->end_episode(success, outcome);
  s.journal->flush();
  s.in_episode = false;
  ++s.in_journal;
  ++s.next_number;
  s.maybe_merge();
}

void TrajectoryWriter::discard_episode() {
  State& s = *state_;
  APO_ASSERT(s.in_episode);
  s.journal->take_back(s.begin);
  s.in_episode = false;
}

bool TrajectoryWriter::in_episode() const { return state_->in_episode; }

int64_t TrajectoryWriter::next_number() const { return state_->next_number; }

int64_t TrajectoryWriter::num_episodes() const {
  return static_cast<int64_t>(state_->in_file.size()) + state_->in_journal;
}

}  // namespace apo::data
