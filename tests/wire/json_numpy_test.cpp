#include "wire/json_numpy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "support/message_of.h"

namespace apo::wire {
namespace {

using ::testing::HasSubstr;
using testing::message_of;

std::string complaint(std::string_view text, const Limits& limits = {}) {
  return message_of<DataError>([&] { from_json(text, "body", limits); });
}

Value read(std::string_view text) { return from_json(text, "body"); }

// An action of two zeros.
const Value& action() {
  static const Value value = Array{Dtype::f8, {2}, std::string(16, '\0')};
  return value;
}

TEST(JsonNumpy, WritesAnActionAsJsonNumpyDoes) {
  EXPECT_EQ(to_json(action()), R"({"__numpy__":"AAAAAAAAAAAAAAAAAAAAAA==","dtype":"<f8","shape":[2]})");
  EXPECT_EQ(to_encoded_json(action()),
            R"("{\"__numpy__\": \"AAAAAAAAAAAAAAAAAAAAAA==\", \"dtype\": \"<f8\", \"shape\": [2]}")");
  EXPECT_EQ(to_json(List{action()}),
            R"([{"__numpy__":"AAAAAAAAAAAAAAAAAAAAAA==","dtype":"<f8","shape":[2]}])");
  EXPECT_EQ(to_json(Bytes{"foo"}), R"("Zm9v")");
}

TEST(JsonNumpy, KeepsTheOrderOfKeys) {
  const std::string text = R"({"wrist_b":1,"full_image":2,"wrist_a":{"z":null,"b":true}})";
  EXPECT_EQ(to_json(read(text)), text);
  EXPECT_EQ(to_json(read(text), JsonStyle::python),
            R"({"wrist_b": 1, "full_image": 2, "wrist_a": {"z": null, "b": true}})");
}

TEST(JsonNumpy, ReadsNumbersAsTheyAre) {
  EXPECT_EQ(
      read("[0, -0, 1.0, 18446744073709551615, 18446744073709551616, -9223372036854775808, 1e-400]"),
      Value(List{0, 0, 1.0, ~uint64_t{0}, 18446744073709551616.0, std::numeric_limits<int64_t>::min(), 0.0}));
  EXPECT_EQ(complaint("{\"a\": [1, 1e400]}"),
            "body: a[1]: expected numbers that fit into a double, found a larger one");
}

TEST(JsonNumpy, TellsTextThatIsNoJsonFromBadValues) {
  const auto malformed = [](std::string_view text) {
    return message_of<MalformedJson>([&] { from_json(text, "body"); });
  };
  EXPECT_EQ(malformed(""), "body: expected JSON, found the end of the text");
  EXPECT_EQ(malformed("{\"a\": [1"), "body: expected JSON, found the end of the text");
  EXPECT_EQ(malformed("[1,]"), "body: expected JSON, found something else at byte 4");
  EXPECT_EQ(malformed("{} {}"), "body: expected JSON, found something else at byte 4");
  EXPECT_EQ(malformed("[NaN]"), "body: expected JSON, found something else at byte 2");
  EXPECT_EQ(malformed("hello"), "body: expected JSON, found something else at byte 1");
  const std::string broken = "{\"a\": \"\xff\"}";
  EXPECT_EQ(malformed(broken), "(another exception: " + complaint(broken) + ")");
  EXPECT_EQ(complaint(broken), "body: expected text in UTF-8, found other bytes after 7");
}

TEST(JsonNumpy, BoundsDepthAndValues) {
  const auto nested = [](size_t levels) { return std::string(levels, '[') + std::string(levels, ']'); };
  EXPECT_NO_THROW(read(nested(32)));
  EXPECT_THAT(complaint(nested(33)), HasSubstr("expected at most 32 lists and maps within each other"));
  EXPECT_THAT(complaint(nested(1'000'000)),
              HasSubstr("expected at most 32 lists and maps within each other"));
  EXPECT_THAT(complaint(std::string(1'000'000, '[')), HasSubstr("expected at most 32 lists"));
  EXPECT_EQ(complaint("[1, 2, 3]", {.values = 3}),
            "body: [2]: expected at most 3 values in a message, found more");
  EXPECT_EQ(complaint(R"({"a": {"b": 1}})", {.values = 4}),
            "body: a.b: expected at most 4 values in a message, found more");
  // many keys take no time that grows with their square
  std::string wide = "{";
  for (int i = 0; i < 100'000; ++i) wide += concat("\"", i, "\":0,");
  EXPECT_EQ(read(wide + "\"last\":1}").find("last")->data(), Value(1).data());
  EXPECT_EQ(complaint(wide + "\"5\":1}"), "body: expected each key once, found \"5\" twice");
}

TEST(JsonNumpy, RefusesArraysThatLie) {
  const auto said = [](const std::string& numpy, const std::string& dtype, const std::string& shape) {
    const std::string message = complaint(
        concat(R"({"image": {"__numpy__": )", numpy, R"(, "dtype": )", dtype, R"(, "shape": )", shape, "}}"));
    EXPECT_TRUE(message.starts_with("body: image: expected ")) << message;
    return message.substr(message.find("expected"));
  };
  EXPECT_EQ(said("\"AAA=\"", "\"|u1\"", "[3]"), "expected 3 bytes for an array |u1 [3], found 2");
  EXPECT_EQ(said("\"AAA=\"", "\"|u1\"", "[-1]"), "expected sizes of 0 or more, found the shape [-1]");
  EXPECT_EQ(said("\"AAA=\"", "\"|u1\"", "null"), "expected a list of sizes as the shape, found nil");
  EXPECT_EQ(said("\"AAA\"", "\"|u1\"", "[2]"), "expected the data of an array in base64, found another text");
  EXPECT_EQ(said("\"A-A=\"", "\"|u1\"", "[2]"),
            "expected the data of an array in base64, found another text");
  EXPECT_EQ(said("[0, 0]", "\"|u1\"", "[2]"), "expected the data of an array in base64, found a list of 2");
  EXPECT_EQ(said("\"AAA=\"", "[[\"x\", \"<f4\"]]", "[2]"),
            "expected a dtype of plain numbers, such as |u1 or <f4, found a list of 1");
  EXPECT_EQ(complaint(R"({"__numpy__": "AAA=", "dtype": "|u1"})"),
            "body: expected shape beside __numpy__, found none");
  EXPECT_EQ(complaint(R"({"__numpy__": "AAA=", "shape": [2]})"),
            "body: expected dtype beside __numpy__, found none");
  EXPECT_EQ(read(R"({"shape": [2], "more": 1, "dtype": "|u1", "__numpy__": "AQI="})"),
            Value(Array{Dtype::u1, {2}, "\1\2"}));
  EXPECT_EQ(read(R"({"__ndarray__": true})"), Value(Map{{"__ndarray__", true}}));  // msgpack's marker
}

TEST(JsonNumpy, UnwrapsWhatIsEncodedTwice) {
  Value message = Map{{"encoded", to_json(Map{{"a", action()}}, JsonStyle::python)}};
  EXPECT_TRUE(unwrap_encoded(message, "body"));
  EXPECT_EQ(message, Value(Map{{"a", action()}}));
  Value plain = Map{{"instruction", "lift"}};
  EXPECT_FALSE(unwrap_encoded(plain, "body"));
  EXPECT_EQ(plain, Value(Map{{"instruction", "lift"}}));
  Value list = List{"encoded"};
  EXPECT_FALSE(unwrap_encoded(list, "body"));

  const auto said = [](Value wrapped) {
    return message_of<DataError>([&] { unwrap_encoded(wrapped, "body"); });
  };
  EXPECT_EQ(said(Map{{"encoded", "{}"}, {"a", 1}}),
            "body: expected encoded alone, found other keys beside it");
  EXPECT_EQ(said(Map{{"encoded", 1}}), "body: encoded: expected a text that holds JSON, found 1");
  EXPECT_EQ(said(Map{{"encoded", "{\"a\""}}), "body: encoded: expected JSON, found the end of the text");
  EXPECT_EQ(said(Map{{"encoded", R"({"a": {"__numpy__": 1}})"}}),
            "body: encoded: a: expected the data of an array in base64, found 1");
}

TEST(JsonNumpy, RefusesToWriteNumbersThatJsonHasNot) {
  for (const double number : {std::nan(""), HUGE_VAL, -HUGE_VAL})
    EXPECT_THAT(message_of<DataError>([&] { to_json(List{number}); }),
                HasSubstr("expected a number that JSON has, found "));
  EXPECT_EQ(to_json(Value("a\xff")), R"("a\\xff")");
}

}  // namespace
}  // namespace apo::wire
