// Against openpi's client and json-numpy: scripts/goldens/make_wire.py builds the same values.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <numeric>

#include "base/base64.h"
#include "base/json.h"
#include "support/message_of.h"
#include "support/places.h"
#include "wire/json_numpy.h"
#include "wire/msgpack.h"
#include "wire/tensors.h"

namespace apo::wire {
namespace {

const OrderedJsonFile& goldens() {
  static const OrderedJsonFile file(apo::testing::in_source("tests/wire/goldens/wire.json"));
  return file;
}

std::string golden_bytes(const std::string& group, const std::string& name) {
  return from_base64(goldens()[group][name].get<std::string>()).value();
}

// The numbers 0, 1, 2, ... each times `factor`.
template <class T>
Array counted(Dtype dtype, std::vector<int64_t> shape, T factor) {
  Array array{dtype, shape, ""};
  for (int64_t i = 0, count = num_elements(shape, dtype); i < count; ++i) {
    const T number = static_cast<T>(static_cast<T>(i) * factor);
    array.data.append(reinterpret_cast<const char*>(&number), sizeof(T));
  }
  return array;
}

Map numbered_map(int size) {
  Map map;
  for (int i = 0; i < size; ++i) map.push_back({concat("k", i), i});
  return map;
}

List numbered_list(int size) {
  List list;
  for (int i = 0; i < size; ++i) list.push_back(i);
  return list;
}

Map all_dtypes() {
  const std::vector<int64_t> shape{2, 3};
  const std::string halves("\x00\x00\x80\x48\x80\x4c\xc0\x4e\x80\x50\xa0\x51", 12);  // 0, 9, 18, 27, 36, 45
  return {{"|b1", Array{Dtype::b1, shape, std::string("\0\1\0\1\0\1", 6)}},
          {"|i1", counted<int8_t>(Dtype::i1, shape, 9)},
          {"|u1", counted<uint8_t>(Dtype::u1, shape, 9)},
          {"<i2", counted<int16_t>(Dtype::i2, shape, 9)},
          {"<u2", counted<uint16_t>(Dtype::u2, shape, 9)},
          {"<i4", counted<int32_t>(Dtype::i4, shape, 9)},
          {"<u4", counted<uint32_t>(Dtype::u4, shape, 9)},
          {"<i8", counted<int64_t>(Dtype::i8, shape, 9)},
          {"<u8", counted<uint64_t>(Dtype::u8, shape, 9)},
          {"<f2", Array{Dtype::f2, shape, halves}},
          {"<f4", counted<float>(Dtype::f4, shape, 9)},
          {"<f8", counted<double>(Dtype::f8, shape, 9)}};
}

Value scalar(double number) {
  Array scalar = array(std::vector<double>{number});
  scalar.shape.clear();
  return scalar;
}

Map all_values() {
  constexpr int64_t kTwo31 = int64_t{1} << 31, kTwo32 = int64_t{1} << 32;
  constexpr int64_t kMin = std::numeric_limits<int64_t>::min(), kMax = std::numeric_limits<int64_t>::max();
  constexpr uint64_t kTwo63 = uint64_t{1} << 63, kMost = std::numeric_limits<uint64_t>::max();
  const Value tenths = array(std::vector<double>{0.0, 0.1, 0.2, 3 / 10.0, 0.4, 0.5, 6 / 10.0});
  return {
      {"observation", Map{{"observation/image", counted<uint8_t>(Dtype::u1, {2, 2, 3}, 1)},
                          {"observation/state", counted<float>(Dtype::f4, {8}, 0.125f)},
                          {"prompt", "lift the cube"}}},
      {"answer", Map{{"actions", counted<float>(Dtype::f4, {2, 7}, 0.25f)},
                     {"policy_timing", Map{{"infer_ms", 12.5}}},
                     {"server_timing", Map{{"infer_ms", 13.25}, {"prev_total_ms", 0.1}}}}},
      {"cameras", Map{{"images", Map{{"cam_high", counted<uint8_t>(Dtype::u1, {3, 2, 2}, 1)}}},
                      {"z", List()},
                      {"a", Map()}}},
      {"integers",
       List{0,     1,  127, 128, 255,  256,  65535,  65536,  kTwo32 - 1, kTwo32,      kMax, kTwo63,
            kMost, -1, -32, -33, -128, -129, -32768, -32769, -kTwo31,    -kTwo31 - 1, kMin}},
      {"others", List{Value(), true, false, 0.0, -1.5, 1e300, 3.0}},
      {"texts", List{"", std::string(31, 'x'), std::string(32, 'x'), std::string(255, 'x'),
                     std::string(256, 'x'), "W\u00fcrfel \u7bb1 \U0001f916", "\"\\/\n\t\x01\x7f"}},
      {"lists", List{numbered_list(15), numbered_list(16)}},
      {"maps", List{numbered_map(15), numbered_map(16)}},
      {"dtypes", all_dtypes()},
      {"shapes", List{scalar(2.5), Array{Dtype::f8, {0, 7}, ""}, counted<int32_t>(Dtype::i4, {1}, 7),
                      Array{Dtype::i1, {1, 2, 1, 1, 1}, std::string(2, '\0')}}},
      {"action", tenths},
      {"chunk", List{tenths, array(std::vector<double>(7, 1.0))}},
  };
}

Value value_of(const std::string& name) {
  Map values = all_values();
  values.push_back({"bytes", List{Bytes{""}, Bytes{std::string("\0\xff", 2)}, Bytes{std::string(255, 'x')},
                                  Bytes{std::string(256, 'x')}}});
  // 7 of the shape's is the only number of it that is not counted from 0
  Value value = *Value(values).find(name);
  if (name == "shapes") (*value.as<List>())[2].as<Array>()->data[0] = 7;
  return value;
}

TEST(WireGoldens, OpenpisClientWritesAndReadsTheSameBytes) {
  const auto all = goldens()["msgpack"].entries();
  ASSERT_EQ(all.size(), 13u);
  for (const auto& [name, field] : all) {
    const std::string bytes = golden_bytes("msgpack", name);
    EXPECT_EQ(to_msgpack(value_of(name)), bytes) << name;
    EXPECT_EQ(from_msgpack(bytes, name), value_of(name)) << name;
  }
}

TEST(WireGoldens, JsonNumpyWritesAndReadsTheSameTexts) {
  for (const auto& [name, field] : goldens()["json"].entries()) {
    const auto text = field.get<std::string>();
    EXPECT_EQ(to_json(value_of(name)), text) << name;
    EXPECT_EQ(from_json(text, name), value_of(name)) << name;
    const auto python = goldens()["python"][name].get<std::string>();
    EXPECT_EQ(to_json(value_of(name), JsonStyle::python), python) << name;
    EXPECT_EQ(from_json(python, name), value_of(name)) << name;
    const auto encoded = goldens()["encoded"][name].get<std::string>();
    EXPECT_EQ(to_encoded_json(value_of(name)), encoded) << name;
    Value message = Map{{"encoded", *from_json(encoded, name).as<std::string>()}};
    EXPECT_TRUE(unwrap_encoded(message, name));
    EXPECT_EQ(message, value_of(name)) << name;
  }
}

Array array_of(Dtype dtype, std::vector<int64_t> shape, std::string data) {
  return Array{dtype, std::move(shape), std::move(data)};
}

TEST(WireGoldens, WhatOnlyOthersWriteIsRead) {
  const auto packed = [](const std::string& name) {
    return from_msgpack(golden_bytes("lenient msgpack", name), name);
  };
  const auto text = [](const std::string& name) {
    return from_json(goldens()["lenient json"][name].get<std::string>(), name);
  };
  const uint64_t most = std::numeric_limits<uint64_t>::max();
  EXPECT_EQ(packed("scalars"), List({0.5, 0.5, -7, most, 200, true, "lift"}));
  const Value scalars = List{array_of(Dtype::f4, {}, std::string("\0\0\0\x3f", 4)),
                             0.5,
                             array_of(Dtype::i8, {}, "\xf9\xff\xff\xff\xff\xff\xff\xff"),
                             array_of(Dtype::u8, {}, std::string(8, '\xff')),
                             array_of(Dtype::u1, {}, "\xc8"),
                             array_of(Dtype::b1, {}, "\1"),
                             "lift"};
  EXPECT_EQ(text("scalars"), scalars);
  const List texts{"lift", "W\u00fcrfel \U0001f916", "lift", "", Bytes{"lift"}, Bytes{"li"}};
  EXPECT_EQ(packed("text arrays"), texts);
  EXPECT_EQ(text("text arrays"), List(texts.begin(), texts.begin() + 4));
  const Value swapped =
      List{array(std::vector<double>{1.5, -2}), array_of(Dtype::i2, {1, 2}, std::string("\1\0\2\1", 4)),
           array_of(Dtype::u4, {}, std::string("\3\0\0\0", 4))};
  EXPECT_EQ(packed("big-endian"), swapped);
  EXPECT_EQ(text("big-endian"), swapped);
  const Value transposed = array_of(Dtype::u1, {3, 2}, std::string("\0\3\1\4\2\5", 6));
  EXPECT_EQ(packed("not contiguous"), transposed);
  EXPECT_EQ(text("not contiguous"), transposed);
  EXPECT_EQ(packed("tuple"), List({1, 2}));
  EXPECT_EQ(packed("single float"), List({0.5, static_cast<double>(0.1f)}));
  EXPECT_EQ(packed("text keys"), array_of(Dtype::u1, {2}, "\1\2"));
}

// A message cut anywhere is refused; one with a byte changed is read or refused.
TEST(WireGoldens, DamageIsRefusedOrRead) {
  for (const std::string name : {"observation", "shapes", "integers"}) {
    std::string bytes = golden_bytes("msgpack", name);
    auto text = goldens()["json"][name].get<std::string>();
    for (size_t size = 0; size < bytes.size(); ++size)
      EXPECT_THAT(testing::message_of<DataError>([&] { from_msgpack(bytes.substr(0, size), "m"); }),
                  ::testing::HasSubstr("expected more bytes"));
    for (size_t size = 0; size < text.size(); ++size)
      EXPECT_EQ(testing::message_of<MalformedJson>([&] { from_json(text.substr(0, size), "m"); }),
                "m: expected JSON, found the end of the text");
    for (std::string* message : {&bytes, &text}) {
      for (char& byte : *message) {
        for (const char change : {'\1', '\x20', '\x80', '\xff'}) {
          byte = static_cast<char>(byte ^ change);
          try {
            message == &bytes ? from_msgpack(bytes, "m") : from_json(text, "m");
          } catch (const DataError& error) {
            EXPECT_THAT(error.what(), ::testing::StartsWith("m: "));
          }
          byte = static_cast<char>(byte ^ change);
        }
      }
    }
  }
}

}  // namespace
}  // namespace apo::wire
