// Several episodes at once into one trajectory file, for whoever serves several robots.
//
//   data::EpisodeRecorder recorder("served.hdf5", info);
//   const int64_t left = recorder.begin("pick up the cup"), right = recorder.begin("open the drawer");
//   recorder.append(left, step);                    // on its way to the disk when the call returns
//   recorder.end(left, true, "success");            // joins the file in the background
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "apo/base/types.h"
#include "apo/data/trajectory.h"

namespace apo::data {

/// Each running episode has a journal of its own beside the file (FILE.episode-N.journal), handed to the
/// operating system step by step; a thread of the recorder's own brings finished ones into the file through a
/// TrajectoryWriter, in the order in which they ended. Nobody waits for that. What a killed process leaves
/// behind is brought in by the next recorder of the file: finished episodes as they ended, running ones up to
/// their last step, with outcome "interrupted" and without a success, which nobody knows.
///
/// The calls on one episode are made one after the other; different episodes may be recorded from different
/// threads.
class EpisodeRecorder {
 public:
  /// An episode joined the file under this name ("demo_3"); called by the recorder's thread. Of those that
  /// were left behind the constructor tells, with their old numbers, which no episode of this recorder gets.
  using Joined = std::function<void(int64_t episode, const std::string& name)>;

  /// Appends where `path` exists and is ours. RunError if another process writes it, DataError if it is not
  /// ours or holds another environment's episodes.
  EpisodeRecorder(const std::filesystem::path& path, const TrajectoryInfo& info, Joined joined = {});
  /// Ends what still runs as "interrupted", without a success, and waits until all has joined the file.
  ~EpisodeRecorder();
  EpisodeRecorder(const EpisodeRecorder&) = delete;
  EpisodeRecorder& operator=(const EpisodeRecorder&) = delete;

  /// A new episode's number, for the calls below. RunError if nothing can be written, DataError for an
  /// instruction that is no UTF-8.
  int64_t begin(const std::string& instruction);
  /// Records a step; nothing of it remains where this throws. DataError naming step and field unless cameras,
  /// states and sizes are those of the file's first step and numbers finite; RunError naming the file and the
  /// reason (disk full).
  void append(int64_t episode, const Step& step);
  /// Of a successful episode the last step gets reward 1, of any the last step is done. An episode without
  /// steps leaves nothing.
  void end(int64_t episode, std::optional<bool> success, const std::string& outcome);
  /// Nothing worth keeping happened.
  void discard(int64_t episode);
  /// Steps of a running episode; 0 for others.
  int64_t num_steps(int64_t episode) const;

  /// Episodes in the file, from the start with those that were left behind.
  int64_t num_episodes() const;
  /// The name in the file of an episode that has joined it, also of one that was left behind; nothing for
  /// others.
  std::optional<std::string> name_of(int64_t episode) const;
  /// Waits until every finished episode has joined the file, or could not (disk full), which is logged; then
  /// it stays in its journal and is tried again after the next one, at the end, and by the next recorder.
  void wait();
  /// Waits as `wait`, then copies the file while nothing joins it: whole, whatever is recorded meanwhile.
  /// RunError naming both files where that cannot be done.
  void copy_to(const std::filesystem::path& target);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace apo::data
