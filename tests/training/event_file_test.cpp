#include "training/event_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <string.h>

#include <map>
#include <vector>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "support/temp_dir.h"

namespace apo::training {
namespace {

using apo::testing::TempDir;

TEST(Crc32c, HasThePublishedValues) {
  // RFC 3720, appendix B.4, and the check value of "123456789"
  EXPECT_EQ(crc32c("123456789"), 0xe3069283u);
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8a9136aau);
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62a8ab43u);
  std::string ascending;
  for (char c = 0; c < 32; ++c) ascending += c;
  EXPECT_EQ(crc32c(ascending), 0x46dd794eu);
  EXPECT_EQ(crc32c(""), 0u);
}

template <class T>
T fixed(std::string_view bytes) {
  T value;
  memcpy(&value, bytes.data(), sizeof(T));
  return value;
}

uint32_t unmasked(uint32_t masked) {
  const uint32_t rotated = masked - 0xa282ead8u;
  return (rotated >> 17) | (rotated << 15);
}

// The payloads of all records; every CRC is checked.
std::vector<std::string> records(std::string_view bytes) {
  std::vector<std::string> payloads;
  while (!bytes.empty()) {
    const auto size = fixed<uint64_t>(bytes);
    EXPECT_EQ(unmasked(fixed<uint32_t>(bytes.substr(8))), crc32c(bytes.substr(0, 8)));
    payloads.emplace_back(bytes.substr(12, size));
    EXPECT_EQ(unmasked(fixed<uint32_t>(bytes.substr(12 + size))), crc32c(payloads.back()));
    bytes.remove_prefix(16 + size);
  }
  return payloads;
}

// A Protocol Buffers message as field number -> raw values (varints as 8 bytes).
std::multimap<uint64_t, std::string> fields(std::string_view message) {
  const auto varint = [&message] {
    uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
      const auto byte = static_cast<unsigned char>(message.front());
      message.remove_prefix(1);
      value |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  };
  std::multimap<uint64_t, std::string> found;
  while (!message.empty()) {
    const uint64_t key = varint();
    uint64_t size = 0;
    switch (key & 7) {
      case 0: {
        const uint64_t value = varint();
        found.emplace(key >> 3, std::string(reinterpret_cast<const char*>(&value), 8));
        continue;
      }
      case 1:
        size = 8;
        break;
      case 2:
        size = varint();
        break;
      case 5:
        size = 4;
        break;
      default:
        ADD_FAILURE() << "wire type " << (key & 7);
        return found;
    }
    found.emplace(key >> 3, message.substr(0, size));
    message.remove_prefix(size);
  }
  return found;
}

// SummaryMetadata.summary_description, once a file and tag.
TEST(EventFile, SaysOnceWhatAMetricIs) {
  const TempDir directory;
  EventFile file(directory / "tensorboard", 0, 1);
  const std::vector<std::pair<std::string, double>> scalars = {{"z0", 0.5}, {"eval/success_rate", 1}};
  for (int64_t step : {1, 2}) file.add_scalars(step, 2, scalars);
  const std::vector<std::string> found = records(read_file(file.path()));
  ASSERT_EQ(found.size(), 3u);
  std::vector<std::string> told;
  for (size_t i = 1; i < found.size(); ++i) {
    const auto summary = fields(fields(found[i]).find(5)->second);
    const auto [first, last] = summary.equal_range(1);
    for (auto value = first; value != last; ++value) {
      const auto parts = fields(value->second);
      const auto metadata = parts.find(9);
      told.push_back(metadata == parts.end() ? "" : fields(metadata->second).find(3)->second);
    }
  }
  EXPECT_EQ(told, (std::vector<std::string>{"the KL baseline that rewards are compared with, as used (nats)",
                                            "", "", ""}));
}

TEST(EventFile, HoldsTheScalarsOfEachStep) {
  const TempDir directory;
  const std::vector<std::pair<std::string, double>> scalars = {{"loss", 0.5}, {"eval/success_rate", -0.25}};
  EventFile file(directory / "tensorboard", 0, 1700000000.5);
  file.add_scalars(300, 1700000001.25, scalars);

  const std::vector<std::string> found = records(read_file(file.path()));
  ASSERT_EQ(found.size(), 2u);
  auto version = fields(found[0]);
  EXPECT_EQ(version.find(3)->second, "brain.Event:2");
  EXPECT_EQ(fixed<double>(version.find(1)->second), 1700000000.5);

  auto event = fields(found[1]);
  EXPECT_EQ(fixed<double>(event.find(1)->second), 1700000001.25);
  EXPECT_EQ(fixed<uint64_t>(event.find(2)->second), 300u);
  std::map<std::string, float> values;
  for (const auto& [field, bytes] : fields(event.find(5)->second)) {
    EXPECT_EQ(field, 1u);
    auto value = fields(bytes);
    values[value.find(1)->second] = fixed<float>(value.find(2)->second);
  }
  EXPECT_EQ(values, (std::map<std::string, float>{{"loss", 0.5f}, {"eval/success_rate", -0.25f}}));
}

TEST(EventFile, AResumedRunPurgesWhatFollows) {
  const TempDir directory;
  EventFile first(directory.path(), 0, 1700000000);
  EventFile second(directory.path(), 4, 1700000000);
  EXPECT_NE(first.path(), second.path());
  EXPECT_LT(first.path(), second.path());
  const std::vector<std::string> found = records(read_file(second.path()));
  ASSERT_EQ(found.size(), 2u);
  auto start = fields(found[1]);
  EXPECT_EQ(fixed<uint64_t>(start.find(2)->second), 4u);
  auto session = fields(start.find(7)->second);
  EXPECT_EQ(fixed<uint64_t>(session.find(1)->second), 1u);  // SessionLog.START
}

TEST(EventFile, NamesAFileThatItCannotWrite) {
  const TempDir directory;
  write_file_atomic(directory / "tensorboard", "a file is in the way");
  try {
    EventFile file(directory / "tensorboard", 0, 0);
    FAIL();
  } catch (const RunError& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr((directory / "tensorboard").string()));
  }
}

TEST(EventFile, WithoutScalarsIsItsHead) {
  const TempDir directory;
  const EventFile file(directory.path(), 0, 1.5);
  EXPECT_EQ(std::filesystem::file_size(file.path()), EventFile::kHeadBytes);
}

}  // namespace
}  // namespace apo::training
