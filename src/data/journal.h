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
#include <string>
#include <string_view>
#include <vector>

#include "apo/base/types.h"

namespace apo::data {

/// One episode of a journal.
struct JournalEpisode {
  int64_t number = 0;  ///< N of demo_N
  std::string policy_hash;
  /// false: the recording stopped in the middle (success false, outcome "interrupted")
  bool ended = false;
  int64_t offset = 0;  ///< bytes of the journal before it
  Episode episode;
};

/// The journal of a trajectory file.
std::filesystem::path journal_path(const std::filesystem::path& trajectory);
/// Reads what is whole; nothing if there is no journal. DataError if the file is something else.
std::vector<JournalEpisode> read_journal(const std::filesystem::path& journal);

/// The journal of this process.
class Journal {
 public:
  /// Opens or creates it and takes its lock. RunError if another process holds it.
  explicit Journal(const std::filesystem::path& path);
  ~Journal();
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;

  void begin_episode(int64_t number, const std::string& instruction, const std::string& policy_hash);
  void append(const Step& step);
  void end_episode(std::optional<bool> success, const std::string& outcome);
  void discard_episode();
  /// Hands what was appended to the operating system, where it survives this process.
  void flush();
  /// Bytes so far, buffered ones included.
  int64_t size() const { return size_ + static_cast<int64_t>(buffer_.size()); }
  /// Forgets what comes behind the first `bytes` of the file; nothing may be buffered.
  void cut(int64_t bytes);
  /// Forgets what comes behind the first `bytes`, all of which had been flushed.
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
