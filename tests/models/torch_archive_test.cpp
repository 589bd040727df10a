// Files of torch.save, read as data: scripts/goldens/make_openvla_oft.py made them.
#include "models/checkpoints/torch_archive.h"

#include <gmock/gmock.h>
#include <torch/types.h>

#include <fstream>
#include <string>
#include <utility>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "models/checkpoints/plain_pickle.h"
#include "support/message_of.h"
#include "support/places.h"
#include "support/temp_dir.h"

namespace apo::models {
namespace {

using apo::testing::message_of;
using ::testing::AllOf;
using ::testing::HasSubstr;
namespace fs = std::filesystem;

fs::path archive(const std::string& name) {
  return fs::path(apo::testing::in_source("tests/models/goldens/openvla_oft/archives")) / (name + ".pt");
}

std::string complaint(const std::string& name) {
  return message_of<DataError>([&] { read_torch_archive(archive(name)); });
}

TEST(TorchArchive, ReadsViewsOfEveryType) {
  const auto tensors = read_torch_archive(archive("views"));
  const at::Tensor numbers = at::arange(12, at::kFloat);
  ASSERT_EQ(tensors.size(), 9u);
  EXPECT_TRUE(tensors.at("whole").equal(numbers));
  EXPECT_TRUE(tensors.at("turned").equal(numbers.view({3, 4}).t()));
  EXPECT_TRUE(tensors.at("part").equal(numbers.slice(0, 5, 9)));
  EXPECT_EQ(tensors.at("empty").numel(), 0);
  EXPECT_TRUE(tensors.at("scalar").equal(numbers[7]));
  EXPECT_TRUE(tensors.at("half").equal(numbers.to(at::kHalf)));
  EXPECT_TRUE(tensors.at("coarse").equal(numbers.to(at::kBFloat16)));
  EXPECT_TRUE(tensors.at("double").equal(numbers.to(at::kDouble)));
  EXPECT_TRUE(tensors.at("parameter").equal(numbers.slice(0, 0, 2)));
}

TEST(TorchArchive, RunsNothing) {
  fs::remove("/tmp/a_pickle_was_run");
  EXPECT_THAT(complaint("program"),
              AllOf(HasSubstr("program.pt"), HasSubstr("system"), HasSubstr("safetensors")));
  EXPECT_FALSE(fs::exists("/tmp/a_pickle_was_run"));
}

TEST(TorchArchive, NamesWhatElseItFinds) {
  EXPECT_THAT(complaint("nested"), AllOf(HasSubstr("nested.pt"), HasSubstr("\"model\"")));
  EXPECT_THAT(complaint("integers"), HasSubstr("torch LongStorage"));
  EXPECT_THAT(complaint("list"), HasSubstr("dictionary of tensors"));
  EXPECT_THAT(complaint("legacy"), HasSubstr("before PyTorch 1.6"));
  EXPECT_THAT(complaint("absent"), AllOf(HasSubstr("absent.pt"), HasSubstr("no such file")));
}

// Every byte changed, and every length: refused with the file's name, or other numbers.
TEST(TorchArchive, DamageNeverCrashes) {
  const apo::testing::TempDir directory;
  const fs::path path = directory.path() / "damaged.pt";
  const std::string whole = read_file(archive("views"));
  const auto try_reading = [&](const std::string& bytes) {
    std::ofstream(path, std::ios::binary) << bytes;
    try {
      return read_torch_archive(path).size();
    } catch (const DataError& error) {
      EXPECT_THAT(error.what(), HasSubstr("damaged.pt"));
      return size_t{0};
    }
  };
  EXPECT_EQ(try_reading(whole), 9u);
  for (const auto& [change, stride] : {std::pair(0x80, 1), std::pair(0x01, 7), std::pair(0xff, 7)})
    for (size_t i = 0; i < whole.size(); i += static_cast<size_t>(stride)) {
      std::string changed = whole;
      changed[i] = static_cast<char>(changed[i] ^ change);
      try_reading(changed);
    }
  for (size_t length = 0; length < whole.size(); length += 13)
    EXPECT_EQ(try_reading(whole.substr(0, length)), 0u);
}

// Instructions that would make endless or bottomless things.
TEST(PlainPickle, RefusesWhatHasNoEnd) {
  const auto refused = [](const std::string& pickle) {
    return message_of<DataError>([&] { read_plain_pickle(pickle, "here"); });
  };
  using std::string_literals::operator""s;
  EXPECT_THAT(refused("}q\x01X\x01\0\0\0kh\x01s."s), HasSubstr("nested"));  // a dictionary within itself
  std::string deep = ")";
  for (int i = 0; i < 100000; ++i) deep += '\x85';
  EXPECT_THAT(refused(deep + "."), HasSubstr("nested"));
  EXPECT_THAT(refused("X\xff\xff\xff\x7f."), HasSubstr("truncated"));
  EXPECT_THAT(refused("."), HasSubstr("lacks its value"));
  EXPECT_THAT(refused("h\x05."), HasSubstr("nothing was kept"));
  EXPECT_THAT(refused(""), HasSubstr("truncated"));
}

}  // namespace
}  // namespace apo::models
