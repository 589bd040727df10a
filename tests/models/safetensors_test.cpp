#include "apo/models/safetensors.h"

#include <gmock/gmock.h>
#include <torch/types.h>

#include <cstdint>
#include <fstream>
#include <nlohmann/json.hpp>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/base/random.h"
#include "models/small_world.h"
#include "support/places.h"
#include "support/temp_dir.h"

namespace apo::models {
namespace {

namespace fs = std::filesystem;
using apo::testing::TempDir;
using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::message_of;

const fs::path kGoldens = apo::testing::in_source("tests/models/goldens");

// What scripts/goldens/make_models.py put into dtypes.safetensors.
NamedTensors one_of_each() {
  const at::Tensor values = torch::tensor({{0.0, -1.5, 2.25}, {3.0, 0.5, -64.0}}, at::kDouble);
  const at::Tensor counts = torch::tensor({{0, 1, 2}, {3, 100, 127}}, at::kLong);
  return {{"float.float64", values},
          {"float.float32", values.to(at::kFloat)},
          {"float.float16", values.to(at::kHalf)},
          {"float.bfloat16", values.to(at::kBFloat16)},
          {"int.int64", counts},
          {"int.int32", counts.to(at::kInt)},
          {"int.int16", counts.to(at::kShort)},
          {"int.int8", counts.to(at::kChar)},
          {"int.uint8", counts.to(at::kByte)},
          {"bool", counts > 2},
          {"scalar", at::scalar_tensor(4.5, at::kFloat)},
          {"empty", at::zeros({0, 3})}};
}

void expect_one_of_each(const SafetensorsReader& reader) {
  const NamedTensors expected = one_of_each();
  EXPECT_EQ(reader.names().size(), expected.size());
  for (const auto& [name, tensor] : expected) {
    ASSERT_TRUE(reader.has(name)) << name;
    EXPECT_EQ(reader.shape(name), tensor.sizes().vec()) << name;
    const at::Tensor found = reader.tensor(name);
    EXPECT_EQ(found.scalar_type(), tensor.scalar_type()) << name;
    EXPECT_TRUE(found.equal(tensor)) << name << found;
  }
}

// A file of the given header text and data bytes.
std::string file_of(const std::string& header, const std::string& data = "", int64_t header_bytes = -1) {
  const auto length =
      static_cast<uint64_t>(header_bytes < 0 ? static_cast<int64_t>(header.size()) : header_bytes);
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes += static_cast<char>(length >> (8 * i) & 0xff);
  return bytes + header + data;
}

std::string complaint(const std::string& bytes) {
  const TempDir directory;
  write_file_atomic(directory / "x.safetensors", bytes);
  const std::string message =
      message_of<DataError>([&] { SafetensorsReader reader(directory / "x.safetensors"); });
  if (message != "(nothing thrown)") {
    EXPECT_THAT(message, HasSubstr("x.safetensors"));
  }
  return message;
}

TEST(Safetensors, ReadsWhatThePythonPackageWrote) {
  const SafetensorsReader reader(kGoldens / "dtypes.safetensors");
  expect_one_of_each(reader);
  EXPECT_EQ(reader.metadata().at("format"), "pt");
  EXPECT_EQ(reader.metadata().at("note"), "naïve ✓");
  EXPECT_FALSE(reader.has("nobody"));
  EXPECT_THAT(message_of<DataError>([&] { reader.tensor("nobody"); }),
              AllOf(HasSubstr("dtypes.safetensors"), HasSubstr("no tensor nobody")));
}

TEST(Safetensors, ReadsShardsOfThePythonPackageThroughIndexOrDirectory) {
  expect_one_of_each(SafetensorsReader(kGoldens / "sharded"));
  expect_one_of_each(SafetensorsReader(kGoldens / "sharded" / "model.safetensors.index.json"));
}

TEST(Safetensors, ReadsBackWhatItWrote) {
  const TempDir directory;
  write_safetensors(directory / "x.safetensors", one_of_each(), {{"step", "7"}});
  const SafetensorsReader reader(directory / "x.safetensors");
  expect_one_of_each(reader);
  EXPECT_EQ(reader.metadata().at("step"), "7");
}

// {"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}} is 53 bytes, padded with spaces to 56.
TEST(Safetensors, WritesTheFormatByHand) {
  const TempDir directory;
  write_safetensors(directory / "x.safetensors", {{"a", at::tensor({5, 6}, at::kByte)}});
  const std::string header = R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})";
  EXPECT_EQ(read_file(directory / "x.safetensors"), file_of(header + "   ", "\x05\x06"));
}

TEST(Safetensors, MetadataMayBeNullOrMissing) {
  const std::string tensor = R"("a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})";
  for (const char* metadata : {"{", R"({"__metadata__":null,)", R"({"__metadata__":{},)"}) {
    const TempDir directory;
    write_file_atomic(directory / "x.safetensors", file_of(metadata + tensor, "\x05\x06"));
    const SafetensorsReader reader(directory / "x.safetensors");
    EXPECT_TRUE(reader.metadata().empty());
    EXPECT_EQ(reader.names(), std::vector<std::string>{"a"});
  }
}

constexpr const char* kLfsPointer =
    "version https://git-lfs.github.com/spec/v1\noid sha256:abababababababababababababababab\nsize 499723\n";

TEST(Safetensors, SaysWhatLiesThereInItsPlace) {
  EXPECT_THAT(complaint(kLfsPointer), AllOf(HasSubstr("Git LFS pointer"), HasSubstr("git lfs pull")));
  const TempDir directory;
  write_file_atomic(directory / "pytorch_model.bin", "PK");
  EXPECT_THAT(
      message_of<DataError>([&] { SafetensorsReader reader(directory.path()); }),
      AllOf(HasSubstr("pytorch_model.bin: pickles of PyTorch"), HasSubstr("safe_serialization=True")));
}

TEST(Safetensors, SaysWhichOfTwoSetsIsRead) {
  const TempDir directory;
  write_sharded_safetensors(directory.path(), {{"a", at::zeros({3})}, {"b", at::zeros({3})}}, 12);
  write_safetensors(directory / "model.safetensors", {{"a", at::ones({3})}, {"b", at::ones({3})}});
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(SafetensorsReader(directory.path()).tensor("a").sum().item<float>(), 3);
  SafetensorsReader second(directory.path());
  const std::string said = ::testing::internal::GetCapturedStderr();
  EXPECT_THAT(said, AllOf(HasSubstr("model.safetensors.index.json, which names other files"),
                          HasSubstr("model.safetensors is read")));
  EXPECT_EQ(said.find("is read"), said.rfind("is read")) << "said twice";
  // an index of the one file says the same
  const TempDir same;
  write_safetensors(same / "model.safetensors", {{"a", at::ones({3})}});
  write_file_atomic(same / "model.safetensors.index.json", R"({"weight_map": {"a": "model.safetensors"}})");
  ::testing::internal::CaptureStderr();
  SafetensorsReader quiet(same.path());
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
}

TEST(Safetensors, WritesViewsAsTheyLook) {
  const TempDir directory;
  const at::Tensor whole = at::arange(6, at::kFloat).view({2, 3});
  write_safetensors(directory / "x.safetensors", {{"transposed", whole.t()}, {"column", whole.select(1, 1)}});
  const SafetensorsReader reader(directory / "x.safetensors");
  EXPECT_TRUE(reader.tensor("transposed").equal(whole.t()));
  EXPECT_TRUE(reader.tensor("column").equal(at::tensor({1.0f, 4.0f})));
}

TEST(Safetensors, ShardsKeepTheirSizeAndComeBack) {
  const TempDir directory;
  const NamedTensors tensors{{"a", at::full({10}, 1.0f)},
                             {"b", at::full({10}, 2.0f)},
                             {"c", at::full({30}, 3.0f)},
                             {"d", at::full({1}, 4.0f)}};
  write_sharded_safetensors(directory.path(), tensors, 80);  // 40 + 40 | 120 alone | 4
  for (const char* name : {"model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors",
                           "model-00003-of-00003.safetensors"})
    EXPECT_TRUE(fs::exists(directory / name)) << name;
  EXPECT_EQ(SafetensorsReader(directory / "model-00001-of-00003.safetensors").names(),
            (std::vector<std::string>{"a", "b"}));
  const SafetensorsReader reader(directory.path());
  for (const auto& [name, tensor] : tensors) EXPECT_TRUE(reader.tensor(name).equal(tensor)) << name;
  EXPECT_EQ(
      nlohmann::json::parse(read_file(directory / "model.safetensors.index.json"))["metadata"]["total_size"],
      204);
}

TEST(Safetensors, TensorsOutliveTheReaderAndTheFileStaysAsItIs) {
  const TempDir directory;
  write_safetensors(directory / "x.safetensors", {{"a", at::ones({4})}});
  at::Tensor tensor = SafetensorsReader(directory / "x.safetensors").tensor("a");
  tensor.fill_(7);
  EXPECT_EQ(tensor.sum().item<float>(), 28);
  EXPECT_EQ(SafetensorsReader(directory / "x.safetensors").tensor("a").sum().item<float>(), 4);
}

TEST(Safetensors, ReadsDataThatIsNotAligned) {
  const std::string header =
      R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"F32","shape":[1],"data_offsets":[1,5]}})";
  const TempDir directory;
  write_file_atomic(directory / "x.safetensors", file_of(header, std::string("\x01\x00\x00\x80\x3f", 5)));
  EXPECT_EQ(SafetensorsReader(directory / "x.safetensors").tensor("b").item<float>(), 1.0f);
}

TEST(Safetensors, LoadsIntoParametersOrChangesNothing) {
  const TempDir directory;
  const fs::path path = directory / "x.safetensors";
  write_safetensors(path,
                    {{"a", at::full({2}, 5.0f)}, {"b", at::full({3}, 6.0f)}, {"extra", at::zeros({1})}});
  const SafetensorsReader reader(path);
  at::Tensor a = at::zeros({2}), b = at::zeros({4}), c = at::zeros({1});
  const std::string message = message_of<DataError>([&] {
    reader.load_into({{"a", a}, {"b", b}, {"c", c}});
  });
  EXPECT_THAT(message, AllOf(HasSubstr("x.safetensors"), HasSubstr("tensor b: expected [4], found [3]"),
                             HasSubstr("tensor c is missing"), HasSubstr("tensor extra is not expected")));
  EXPECT_EQ(a.sum().item<float>(), 0);
  EXPECT_THAT(message_of<DataError>([&] { reader.load_into({{"a", a}}); }), HasSubstr("b is not expected"));
  at::Tensor right = at::zeros({3}, at::kDouble).set_requires_grad(true);
  reader.load_into({{"a", a}, {"b", right}}, /*allow_unexpected=*/true);
  EXPECT_EQ(a.sum().item<float>(), 10);
  EXPECT_EQ(right.sum().item<double>(), 18);
  EXPECT_TRUE(right.requires_grad() && right.is_leaf());
}

TEST(Safetensors, ChecksWithoutMemory) {
  const SafetensorsReader reader(kGoldens / "dtypes.safetensors");
  const at::Tensor meta =
      at::empty({1'000'000'000, 1'000'000}, at::TensorOptions(at::kFloat).device(at::kMeta));
  EXPECT_THAT(message_of<DataError>([&] {
                reader.check({{"scalar", meta}}, true);
              }),
              HasSubstr("expected [1000000000, 1000000], found []"));
}

TEST(Safetensors, RefusesWhatIsNoSafetensorsFile) {
  const TempDir directory;
  EXPECT_THAT(message_of<DataError>([&] { SafetensorsReader(directory / "nowhere.safetensors"); }),
              HasSubstr("no such file"));
  EXPECT_THAT(message_of<DataError>([&] { SafetensorsReader reader(directory.path()); }),
              HasSubstr("found neither"));
  EXPECT_THAT(complaint(""), HasSubstr("found 0 bytes"));
  EXPECT_THAT(complaint("1234567"), HasSubstr("found 7 bytes"));
  EXPECT_THAT(complaint("this is just some text"), HasSubstr("not a safetensors file"));
  EXPECT_THAT(complaint(file_of("{}", "", 1'000'000)), HasSubstr("truncated"));
  EXPECT_THAT(complaint(file_of("{}", "", INT64_MAX)), HasSubstr("not a safetensors file"));
  EXPECT_THAT(complaint(file_of("no json", "")), HasSubstr("not JSON"));
  EXPECT_THAT(complaint(file_of("[1, 2]", "")), HasSubstr("expected a JSON object, found a array"));
  EXPECT_EQ(complaint(file_of("{}")), "(nothing thrown)");
}

TEST(Safetensors, RefusesHostileHeaders) {
  EXPECT_THAT(complaint(file_of(std::string(5'000'000, '['))),
              AnyOf(HasSubstr("not JSON"), HasSubstr("nested too deeply")));
  EXPECT_THAT(
      complaint(file_of(R"({"a":)" + std::string(3'000'000, '[') + std::string(3'000'000, ']') + "}")),
      HasSubstr("nested too deeply"));
  EXPECT_THAT(
      complaint(file_of(
          R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
          "x")),
      HasSubstr("the tensor a is there twice"));
  EXPECT_THAT(complaint(file_of(R"({"__metadata__":{"a":1}})")),
              HasSubstr("__metadata__: a: expected a text"));
  EXPECT_THAT(complaint(file_of(R"({"__metadata__":3})")), HasSubstr("__metadata__: expected an object"));
}

TEST(Safetensors, RefusesHostileTensors) {
  const auto one = [](const std::string& dtype, const std::string& shape, const std::string& offsets) {
    return complaint(file_of(
        concat(R"({"a":{"dtype":)", dtype, R"(,"shape":)", shape, R"(,"data_offsets":)", offsets, "}}"),
        "12345678"));
  };
  EXPECT_EQ(one(R"("F32")", "[2]", "[0,8]"), "(nothing thrown)");
  EXPECT_THAT(one(R"("F32")", "[3]", "[0,12]"),
              AllOf(HasSubstr("tensor a"), HasSubstr("truncated"), HasSubstr("8 bytes of data")));
  EXPECT_THAT(one(R"("F32")", "[2]", "[0,4]"), HasSubstr("takes 8 bytes, data_offsets give 4"));
  EXPECT_THAT(one(R"("F32")", "[2]", "[8,0]"), HasSubstr("data_offsets"));
  EXPECT_THAT(one(R"("F32")", "[2]", "[-8,0]"), HasSubstr("whole numbers from 0"));
  EXPECT_THAT(one(R"("F32")", "[2]", "[0,8.0]"), HasSubstr("whole numbers from 0"));
  EXPECT_THAT(one(R"("F32")", "[2]", "[0,18446744073709551615]"), HasSubstr("data_offsets"));
  EXPECT_THAT(one(R"("F32")", "[2]", "[0]"), HasSubstr("[begin, end]"));
  EXPECT_THAT(one(R"("F32")", "[2]", "\"0,8\""), HasSubstr("[begin, end]"));
  EXPECT_THAT(one(R"("F32")", "[4294967296,4294967296]", "[0,8]"), HasSubstr("larger than any file"));
  EXPECT_THAT(one(R"("F32")", "[9223372036854775808]", "[0,8]"), HasSubstr("larger than any file"));
  EXPECT_THAT(one(R"("F32")", "[-2]", "[0,8]"), HasSubstr("shape: expected whole numbers"));
  EXPECT_THAT(one(R"("F32")", "2", "[0,8]"), HasSubstr("shape: expected a list"));
  EXPECT_THAT(one(R"("Q4")", "[2]", "[0,8]"), AllOf(HasSubstr("\"Q4\" is unknown"), HasSubstr("BF16")));
  EXPECT_THAT(one("7", "[2]", "[0,8]"), HasSubstr("dtype: expected a text"));
  EXPECT_THAT(complaint(file_of(R"({"a":{"dtype":"F32","shape":[2]}})")),
              HasSubstr("expected the field data_offsets"));
  EXPECT_THAT(complaint(file_of(R"({"a":7})")), HasSubstr("expected the field dtype"));
  EXPECT_THAT(
      complaint(file_of(
          R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[3,7]}})",
          "1234567")),
      HasSubstr("the tensors a and b overlap"));
}

// A damaged byte anywhere is an error with a message or another tensor, never a crash.
TEST(Safetensors, SurvivesAnyDamagedByte) {
  const TempDir directory;
  const std::string whole = read_file(kGoldens / "dtypes.safetensors");
  Random random(1, "damage");
  int64_t refused = 0;
  for (size_t i = 0; i < whole.size(); ++i) {
    std::string damaged = whole;
    damaged[i] = static_cast<char>(damaged[i] ^ (1 << random.below(8)));
    std::ofstream(directory / "x.safetensors", std::ios::binary) << damaged;
    try {
      const SafetensorsReader reader(directory / "x.safetensors");
      for (const std::string& name : reader.names()) reader.tensor(name).clone();
    } catch (const DataError&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 100);
  for (size_t length = 0; length < whole.size(); length += 7) {
    std::ofstream(directory / "x.safetensors", std::ios::binary) << whole.substr(0, length);
    EXPECT_THROW(SafetensorsReader(directory / "x.safetensors"), DataError) << length;
  }
}

TEST(Safetensors, RefusesABrokenIndex) {
  const TempDir directory;
  for (const auto& entry : fs::directory_iterator(kGoldens / "sharded"))
    fs::copy(entry.path(), directory.path());
  const fs::path index = directory / "model.safetensors.index.json";
  const std::string original = read_file(index);
  const auto with = [&](const std::function<void(nlohmann::json&)>& change) {
    auto json = nlohmann::json::parse(original);
    change(json);
    write_file_atomic(index, json.dump());
    return message_of<DataError>([&] { SafetensorsReader reader(directory.path()); });
  };
  EXPECT_THAT(
      with([](auto& json) { json["weight_map"]["bool"] = "gone.safetensors"; }),
      AllOf(HasSubstr("index.json"), HasSubstr("the shard gone.safetensors of the tensor bool is missing")));
  EXPECT_THAT(with([](auto& json) { json["weight_map"]["more"] = "model-00001-of-00002.safetensors"; }),
              AllOf(HasSubstr("model-00001"), HasSubstr("no tensor more")));
  EXPECT_THAT(with([](auto& json) { json["weight_map"]["bool"] = "../../etc/passwd"; }),
              HasSubstr("expected a file beside the index"));
  EXPECT_THAT(with([](auto& json) { json["weight_map"]["bool"] = ".."; }),
              HasSubstr("expected a file beside the index"));
  EXPECT_THAT(with([](auto& json) { json["weight_map"]["bool"] = 3; }),
              HasSubstr("weight_map.bool: expected a text, found 3"));
  EXPECT_THAT(with([](auto& json) { json.erase("weight_map"); }), HasSubstr("weight_map"));
  write_file_atomic(index, "{");
  EXPECT_THAT(message_of<DataError>([&] { SafetensorsReader reader(directory.path()); }),
              HasSubstr(".index.json:1: expected JSON"));
}

TEST(Safetensors, RefusesToWriteWhatItCouldNotRead) {
  const TempDir directory;
  EXPECT_THAT(message_of<RunError>([&] {
                write_safetensors(directory / "x", {{"a", at::zeros(1)}, {"a", at::zeros(1)}});
              }),
              HasSubstr("two tensors called a"));
  EXPECT_THAT(message_of<RunError>([&] {
                write_safetensors(directory / "x", {{"a", at::zeros(1, at::kComplexFloat)}});
              }),
              HasSubstr("no name for"));
  EXPECT_THAT(message_of<RunError>([&] {
                write_safetensors(directory / "no" / "x", {{"a", at::zeros(1)}});
              }),
              HasSubstr("no/x"));
  EXPECT_FALSE(fs::exists(directory / "x"));
}

}  // namespace
}  // namespace apo::models
