// Event files that TensorBoard reads: TFRecord frames around hand-encoded Event messages with scalar
// summaries.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace apo::training {

/// CRC-32C (Castagnoli) of the bytes.
uint32_t crc32c(std::string_view bytes);
/// The bytes as one TFRecord: length, masked CRC of the length, bytes, masked CRC of the bytes.
std::string tfrecord(std::string_view bytes);

/// Appends scalars to a new file `directory`/events.out.tfevents.*.
class EventFile {
 public:
  static constexpr size_t kHeadBytes = 42;  ///< what a file of a run's first process holds before any scalar

  /// `first_step` > 0 (a resumed run) tells TensorBoard to forget what older files say from that step on.
  /// RunError naming the file if it cannot be written. `begins` hears the name before there is such a file.
  EventFile(const std::filesystem::path& directory, int64_t first_step, double wall_time_s,
            const std::function<void(const std::filesystem::path&)>& begins = {});
  ~EventFile();
  EventFile(const EventFile&) = delete;
  EventFile& operator=(const EventFile&) = delete;

  /// The first value of a metric brings its meaning along (apo/base/metric_list.h).
  void add_scalars(int64_t step, double wall_time_s, std::span<const std::pair<std::string, double>> scalars);
  const std::filesystem::path& path() const { return path_; }

 private:
  void write(const std::string& event);

  std::filesystem::path path_;
  int descriptor_ = -1;
  std::set<std::string> described_;  // tags that this file has told the meaning of
};

}  // namespace apo::training
