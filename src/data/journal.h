// The append-only file beside a trajectory file that makes recording survive a kill at any moment.
//
// `X.hdf5` is only ever replaced whole (copied, extended, renamed), so it is valid at every moment. What it
// does not hold yet is in `X.hdf5.journal`: a magic word, then records {type, length, payload, checksum}. A
// record that a kill cut short ends the journal. A process holds the journal's lock as long as it writes; a
// journal without a holder was left behind by a crash, and the next writer takes it over. Episodes carry
// their number: one that `X.hdf5` already has (the kill came between the rename and the new journal) is left
// out.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "apo/base/types.h"
#include "apo/data/trajectory.h"

namespace apo::data {

/// One episode of a journal. `episode` has its instruction, success and outcome; its steps, and `playback`,
/// only once they are read.
struct JournalEpisode {
  int64_t number = 0;  ///< N of demo_N
  std::string policy_hash;
  /// false: the recording stopped in the middle (success false, outcome "interrupted")
  bool ended = false;
  int64_t offset = 0;                 ///< bytes of the journal before it
  std::vector<int64_t> step_offsets;  ///< of each step
  Episode episode;
  Playback playback;
};

/// The journal of a trajectory file.
std::filesystem::path journal_path(const std::filesystem::path& trajectory);
/// Reads what is whole; nothing if there is no journal. DataError if the file is something else. Takes memory
/// for all pictures.
std::vector<JournalEpisode> read_journal(const std::filesystem::path& journal);

/// Goes through a journal record by record, in memory for a number a step however many episodes there are.
class JournalReader {
 public:
  /// Without such a file it holds nothing. DataError if it cannot be read.
  explicit JournalReader(const std::filesystem::path& journal);
  ~JournalReader();
  JournalReader(const JournalReader&) = delete;
  JournalReader& operator=(const JournalReader&) = delete;

  /// What is whole, without its steps.
  std::vector<JournalEpisode> episodes() const;
  /// Reads the steps of one of its episodes, and what plays them back. DataError naming the journal if they
  /// are not there any more.
  void read_steps(JournalEpisode& episode, bool with_pictures = false) const;
  /// Step `index` of one of its episodes with its pictures. Errors as `read_steps`.
  Step step(const JournalEpisode& episode, size_t index) const;

 private:
  struct Record;
  int64_t size() const;
  size_t read_bytes(int64_t offset, char* to, size_t length) const;
  bool read_record(int64_t offset, int64_t size, Record& record) const;
  Step read_step(const JournalEpisode& episode, size_t index, bool with_pictures, Record& record,
                 std::vector<double>& simulator_state) const;

  std::filesystem::path path_;
  int descriptor_ = -1;
};

/// The journal of this process.
class Journal {
 public:
  /// Opens or creates it and takes its lock. RunError if another process holds it.
  explicit Journal(const std::filesystem::path& path);
  ~Journal();
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;

  void begin_episode(int64_t number, const std::string& instruction, const std::string& policy_hash,
                     const std::string& model = "");
  void append(const Step& step, std::span<const double> simulator_state = {});
  void end_episode(std::optional<bool> success, const std::string& outcome);
  /// Hands what was appended to the operating system, where it survives this process.
  void flush();
  /// Bytes so far, buffered ones included.
  int64_t size() const { return size_ + static_cast<int64_t>(buffer_.size()); }
  /// Forgets what comes behind the first `bytes` of the file; nothing may be buffered.
  void cut(int64_t bytes);
  /// Forgets what comes behind the first `bytes`, whether it was flushed or not. Needs no room on the disk.
  void take_back(int64_t bytes);
  /// Starts an empty journal in place of this one. Readers that have the old one open keep it.
  void restart();
  /// Removes the file; the object is then only good for destruction.
  void remove();

 private:
  void add_record(uint32_t type, std::string_view payload);

  std::filesystem::path path_;
  int descriptor_ = -1;
  int64_t size_ = 0;
  std::string buffer_;
};

}  // namespace apo::data
