// Files written tensor by tensor: whole or absent, and shards as transformers makes them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/models/safetensors.h"
#include "models/small_world.h"
#include "support/no_room.h"
#include "support/temp_dir.h"

namespace apo::models {
namespace {

namespace fs = std::filesystem;
using apo::testing::TempDir;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::message_of;

std::vector<std::string> files_in(const fs::path& directory) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(directory)) names.push_back(entry.path().filename());
  std::ranges::sort(names);
  return names;
}

TEST(SafetensorsWriter, WritesWhatTheOneCallWrites) {
  const TempDir directory;
  const NamedTensors tensors{{"b", at::arange(6, at::kFloat).view({2, 3})},
                             {"a", at::tensor({1, 2, 3}, at::kShort)},
                             {"none", at::empty({0, 4})}};
  write_safetensors(directory / "one", tensors, {{"step", "7"}});
  SafetensorsWriter writer(directory / "streamed",
                           {{"b", at::kFloat, {2, 3}}, {"a", at::kShort, {3}}, {"none", at::kFloat, {0, 4}}},
                           {{"step", "7"}});
  for (const auto& [name, tensor] : tensors) writer.write(tensor);
  EXPECT_FALSE(fs::exists(directory / "streamed"));
  writer.finish();
  EXPECT_EQ(read_file(directory / "streamed"), read_file(directory / "one"));
  EXPECT_EQ(SafetensorsReader(directory / "streamed").names_in_order(),
            (std::vector<std::string>{"b", "a", "none"}));
}

TEST(SafetensorsWriter, LeavesNothingWhenItStopsHalfWay) {
  const TempDir directory;
  {
    SafetensorsWriter writer(directory / "x", {{"a", at::kFloat, {2}}, {"b", at::kFloat, {2}}});
    writer.write(at::ones({2}));
  }
  EXPECT_THAT(files_in(directory.path()), ElementsAre());
}

TEST(SafetensorsWriter, HoldsTensorsAgainstTheirDeclaration) {
  const TempDir directory;
  SafetensorsWriter writer(directory / "x", {{"a", at::kFloat, {2}}});
  EXPECT_THROW(writer.finish(), Bug);
  EXPECT_THROW(writer.write(at::ones({3})), Bug);
  SafetensorsWriter other(directory / "y", {{"a", at::kFloat, {2}}});
  EXPECT_THROW(other.write(at::ones({2}, at::kDouble)), Bug);
  EXPECT_THAT(message_of<RunError>([&] {
                SafetensorsWriter(directory / "z", {{"a", at::kFloat, {}}, {"a", at::kFloat, {}}});
              }),
              AllOf(HasSubstr("/z"), HasSubstr("two tensors called a")));
  EXPECT_THAT(message_of<RunError>([&] {
                SafetensorsWriter(directory / "z", {{"c", at::kComplexFloat, {}}});
              }),
              AllOf(HasSubstr("tensor c"), HasSubstr("no name")));
}

TEST(SafetensorsWriter, ReportsAFullDisk) {
  const TempDir directory;
  EXPECT_THAT(message_of<RunError>([&] {
                const apo::testing::NoRoom no_room;
                write_safetensors(directory / "x.safetensors", {{"a", at::ones({2})}});
              }),
              AllOf(HasSubstr("x.safetensors"), HasSubstr("File too large")));
}

// Sizes 40, 40, 120, 4 bytes; at most 80, 120, 160, all in a file.
TEST(ShardedSafetensorsWriter, FillsShardsInOrder) {
  const std::vector<TensorDeclaration> tensors{
      {"a", at::kFloat, {10}}, {"b", at::kFloat, {10}}, {"c", at::kFloat, {30}}, {"d", at::kFloat, {1}}};
  const auto shard_of = [&](int64_t bytes, bool alone) {
    const TempDir directory;
    ShardedSafetensorsWriter writer(directory.path(), tensors, bytes, alone);
    for (const TensorDeclaration& tensor : tensors)
      writer.write(at::full(tensor.shape, static_cast<double>(tensor.name[0])));
    const std::vector<std::string> files = writer.finish();
    std::vector<std::string> all = files_in(directory.path());
    std::erase_if(all, [&](const std::string& name) { return std::ranges::count(files, name) > 0; });
    EXPECT_EQ(all, alone && files.size() == 1 ? std::vector<std::string>{}
                                              : std::vector<std::string>{"model.safetensors.index.json"});
    const SafetensorsReader reader(directory.path());
    std::string shards;
    for (const std::string& file : files) {
      if (!shards.empty()) shards += "|";
      for (const std::string& name : SafetensorsReader(directory / file).names_in_order()) shards += name;
    }
    for (const TensorDeclaration& tensor : tensors)
      EXPECT_EQ(reader.tensor(tensor.name)[0].item<double>(), static_cast<double>(tensor.name[0]));
    return shards;
  };
  EXPECT_EQ(shard_of(1, false), "a|b|c|d");
  EXPECT_EQ(shard_of(79, false), "a|b|c|d");
  EXPECT_EQ(shard_of(80, false), "ab|c|d");
  EXPECT_EQ(shard_of(124, false), "ab|cd");
  EXPECT_EQ(shard_of(160, true), "ab|cd");
  EXPECT_EQ(shard_of(204, false), "abcd");
  EXPECT_EQ(shard_of(204, true), "abcd");
}

TEST(ShardedSafetensorsWriter, IndexSaysWhatTransformersReads) {
  const TempDir directory;
  write_sharded_safetensors(directory.path(), {{"z", at::ones({10})}, {"a", at::ones({3}, at::kHalf)}}, 40);
  const auto index = nlohmann::ordered_json::parse(read_file(directory / "model.safetensors.index.json"));
  EXPECT_EQ(index.dump(),
            R"({"metadata":{"total_size":46},"weight_map":{"z":"model-00001-of-00002.safetensors",)"
            R"("a":"model-00002-of-00002.safetensors"}})");
  EXPECT_EQ(SafetensorsReader(directory / "model-00001-of-00002.safetensors").metadata().at("format"), "pt");
}

TEST(ShardedSafetensorsWriter, RefusesTwoTensorsOfOneNameInDifferentShards) {
  const TempDir directory;
  EXPECT_THAT(
      message_of<RunError>([&] {
        write_sharded_safetensors(directory.path(), {{"a", at::ones({10})}, {"a", at::ones({10})}}, 40);
      }),
      HasSubstr("two tensors called a"));
  EXPECT_THAT(message_of<ConfigError>([&] {
                write_sharded_safetensors(directory.path(), {{"a", at::ones({1})}}, 0);
              }),
              HasSubstr("max_shard_bytes: expected at least 1, found 0"));
}

TEST(SafetensorsReader, ReadsAgainWhatItReleased) {
  const TempDir directory;
  const at::Tensor big = at::arange(100000, at::kFloat);
  write_safetensors(directory / "x.safetensors",
                    {{"tiny", at::ones({1})}, {"big", big}, {"none", at::empty({0})}});
  const SafetensorsReader reader(directory / "x.safetensors");
  const at::Tensor tensor = reader.tensor("big");
  at::Tensor tiny = reader.tensor("tiny");
  tiny.fill_(3);  // its page is shared with big, and stays
  for (const char* name : {"big", "none"}) reader.release(name);
  EXPECT_TRUE(tensor.equal(big));
  EXPECT_EQ(tiny.item<float>(), 3);
}

}  // namespace
}  // namespace apo::models
