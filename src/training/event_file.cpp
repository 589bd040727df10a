#include "training/event_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <array>
#include <bit>

#include "apo/base/error.h"
#include "apo/base/metric_list.h"
#include "apo/base/text.h"
#include "base/open_file.h"
#include "base/paths.h"

namespace apo::training {
namespace {

constexpr std::array<uint32_t, 256> kCrcTable = [] {
  std::array<uint32_t, 256> table{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) ? 0x82f63b78u : 0);
    table[byte] = crc;
  }
  return table;
}();

// little-endian, whatever the machine
template <class T>
void put_fixed(std::string& out, T value) {
  for (size_t i = 0; i < sizeof(T); ++i) out += static_cast<char>((value >> (8 * i)) & 0xff);
}

// Protocol Buffers wire format: varints, and fields as (number << 3 | wire type)
void put_varint(std::string& out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>((value & 0x7f) | 0x80);
  out += static_cast<char>(value);
}
void put_varint_field(std::string& out, uint32_t field, uint64_t value) {
  put_varint(out, field << 3 | 0);
  put_varint(out, value);
}
void put_double_field(std::string& out, uint32_t field, double value) {
  put_varint(out, field << 3 | 1);
  put_fixed(out, std::bit_cast<uint64_t>(value));
}
void put_bytes_field(std::string& out, uint32_t field, std::string_view bytes) {
  put_varint(out, field << 3 | 2);
  put_varint(out, bytes.size());
  out += bytes;
}
void put_float_field(std::string& out, uint32_t field, float value) {
  put_varint(out, field << 3 | 5);
  put_fixed(out, std::bit_cast<uint32_t>(value));
}

// message Event { double wall_time = 1; int64 step = 2; string file_version = 3; Summary summary = 5;
//                 SessionLog session_log = 7; }
std::string event(int64_t step, double wall_time_s) {
  std::string out;
  put_double_field(out, 1, wall_time_s);
  put_varint_field(out, 2, static_cast<uint64_t>(step));
  return out;
}

uint32_t masked_crc(std::string_view bytes) {
  const uint32_t crc = crc32c(bytes);
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

}  // namespace

uint32_t crc32c(std::string_view bytes) {
  uint32_t crc = ~0u;
  for (const char c : bytes) crc = (crc >> 8) ^ kCrcTable[(crc ^ static_cast<unsigned char>(c)) & 0xff];
  return ~crc;
}

std::string tfrecord(std::string_view bytes) {
  std::string length;
  put_fixed(length, static_cast<uint64_t>(bytes.size()));
  std::string out = length;
  put_fixed(out, masked_crc(length));
  out += bytes;
  put_fixed(out, masked_crc(bytes));
  return out;
}

EventFile::EventFile(const std::filesystem::path& directory, int64_t first_step, double wall_time_s,
                     const std::function<void(const std::filesystem::path&)>& begins) {
  make_directory(directory);
  std::array<char, 256> host{};
  ::gethostname(host.data(), host.size() - 1);
  // TensorBoard reads files in the order of their names; a second run within the same second comes after the
  // first
  for (int64_t attempt = 0; descriptor_ < 0; ++attempt) {
    path_ = directory /
            concat("events.out.tfevents.", static_cast<int64_t>(wall_time_s), ".", host.data(), ".", attempt);
    if (lies_there(path_)) continue;
    if (begins) begins(path_);
    descriptor_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    APO_CHECK(RunError, descriptor_ >= 0 || errno == EEXIST, path_.string(),
              ": cannot create: ", strerror(errno));
  }
  std::string version = event(0, wall_time_s);
  put_bytes_field(version, 3, "brain.Event:2");
  write(version);
  if (first_step > 0) {
    // message SessionLog { SessionStatus status = 1; }, START = 1: purge what follows in older files
    std::string start = event(first_step, wall_time_s), session;
    put_varint_field(session, 1, 1);
    put_bytes_field(start, 7, session);
    write(start);
  }
}

EventFile::~EventFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void EventFile::add_scalars(int64_t step, double wall_time_s,
                            std::span<const std::pair<std::string, double>> scalars) {
  // message Summary { repeated Value value = 1; }, Value { string tag = 1; float simple_value = 2;
  // SummaryMetadata metadata = 9; }, SummaryMetadata { string summary_description = 3; }
  std::string summary;
  for (const auto& [tag, number] : scalars) {
    std::string value;
    put_bytes_field(value, 1, tag);
    put_float_field(value, 2, static_cast<float>(number));
    if (const MetricInfo* metric = find_metric(tag); metric != nullptr && described_.insert(tag).second) {
      std::string metadata;
      put_bytes_field(metadata, 3,
                      metric->unit.empty() ? std::string(metric->meaning)
                                           : concat(metric->meaning, " (", metric->unit, ")"));
      put_bytes_field(value, 9, metadata);
    }
    put_bytes_field(summary, 1, value);
  }
  std::string out = event(step, wall_time_s);
  put_bytes_field(out, 5, summary);
  write(out);
}

void EventFile::write(const std::string& event) {
  const std::string record = tfrecord(event);
  std::string_view rest = record;
  write_all(descriptor_, rest, path_);
}

}  // namespace apo::training
