#include "wire/msgpack.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/message_of.h"

namespace apo::wire {
namespace {

using ::testing::HasSubstr;
using namespace std::string_literals;

std::string complaint(std::string_view bytes, const Limits& limits = {}) {
  return testing::message_of<DataError>([&] { from_msgpack(bytes, "m", limits); });
}

Value read(std::string_view bytes) { return from_msgpack(bytes, "m"); }

// A map of the four parts of an array, each given as msgpack.
std::string array_bytes(const std::string& data, const std::string& dtype, const std::string& shape) {
  return "\x84\xc4\x0b__ndarray__\xc3\xc4\x04"s + "data" + data + "\xc4\x05" + "dtype" + dtype + "\xc4\x05" +
         "shape" + shape;
}

TEST(Msgpack, WritesAnObservationAsOpenpiDoes) {
  const Value observation = Map{{"observation/image", Array{Dtype::u1, {2, 2, 3}, "abcdefghijkl"}}};
  const std::string bytes =
      "\x81\xb1observation/image\x84\xc4\x0b__ndarray__\xc3\xc4\x04"
      "data\xc4\x0c"
      "abcdefghijkl\xc4\x05"
      "dtype\xa3|u1\xc4\x05shape\x93\x02\x02\x03";
  EXPECT_EQ(to_msgpack(observation), bytes);
  EXPECT_EQ(read(bytes), observation);
  EXPECT_EQ(to_msgpack(Map()), "\x80");
}

TEST(Msgpack, TakesEveryWidth) {
  EXPECT_EQ(read("\xce\0\0\0\5"s), Value(5));
  EXPECT_EQ(read("\xd3\0\0\0\0\0\0\0\5"s), Value(5));
  EXPECT_EQ(read("\xcf\xff\xff\xff\xff\xff\xff\xff\xff"), Value(~uint64_t{0}));
  EXPECT_EQ(read("\xca\x3f\0\0\0"s), Value(0.5));
  EXPECT_EQ(read("\xd9\1x"), Value("x"));
  EXPECT_EQ(read("\xda\0\1x"s), Value("x"));
  EXPECT_EQ(read("\xdb\0\0\0\1x"s), Value("x"));
  EXPECT_EQ(read("\xa0"), Value(""));
  EXPECT_EQ(read("\xc5\0\1x"s), Value(Bytes{"x"}));
  EXPECT_EQ(read("\xc6\0\0\0\0"s), Value(Bytes{""}));
  EXPECT_EQ(read("\xdc\0\1\1"s), Value(List{1}));
  EXPECT_EQ(read("\xdd\0\0\0\0"s), Value(List()));
  EXPECT_EQ(read("\xde\0\1\xa1k\1"s), Value(Map{{"k", 1}}));
  EXPECT_EQ(read("\xdf\0\0\0\1\xd9\1k\1"s), Value(Map{{"k", 1}}));
  EXPECT_EQ(read("\x81\xc4\1k\1"), Value(Map{{"k", 1}}));  // a key of bytes
}

TEST(Msgpack, RefusesWhatIsNoMessage) {
  EXPECT_EQ(complaint(""), "m: expected more bytes, found the end of the message after 0");
  EXPECT_EQ(complaint("\xc1"), "m: expected msgpack, found something else at byte 1");
  EXPECT_EQ(complaint("\1\2"), "m: expected the end of the message after 1 bytes, found 1 more");
  EXPECT_EQ(complaint("\x80\x80\x80"), "m: expected the end of the message after 1 bytes, found 2 more");
  EXPECT_EQ(complaint("\x81\1\2"), "m: expected text as a key, found 1");
  EXPECT_EQ(complaint("\x81\x80\2"), "m: expected text as a key, found a map");
  EXPECT_EQ(complaint("\x81\x90\2"), "m: expected text as a key, found a list");
  EXPECT_EQ(complaint("\x81\xc0\2"), "m: expected text as a key, found nil");
  EXPECT_EQ(complaint("\x82\xa1k\1\xc4\1k\2"), "m: expected each key once, found \"k\" twice");
  EXPECT_EQ(complaint("\xa1\xff"), "m: expected text in UTF-8, found other bytes");
  EXPECT_EQ(complaint("\x81\xa1k\x92\1\xa1\xff"), "m: k[1]: expected text in UTF-8, found other bytes");
  EXPECT_EQ(complaint("\x81\xc4\1\xff\1"), "m: expected text in UTF-8, found other bytes");
  EXPECT_EQ(complaint("\xd6\xff\0\0\0\0"s), "m: expected no extension types, found number -1");
  EXPECT_EQ(complaint("\x81\xa1t\xc7\0\5"s), "m: t: expected no extension types, found number 5");
}

TEST(Msgpack, BoundsWhatIsAnnounced) {
  EXPECT_EQ(complaint("\xdd\xff\xff\xff\xff"), "m: expected at most 262144 values in a message, found more");
  EXPECT_EQ(complaint("\x81\xa1k\xdf\xff\xff\xff\xff"),
            "m: k: expected at most 262144 values in a message, found more");
  EXPECT_EQ(complaint("\xdd\0\3\0\0"s), "m: [0]: expected more bytes, found the end of the message after 5");
  for (const char* start : {"\xc6\xff\xff\xff\xff", "\xdb\xff\xff\xff\xff", "\xc9\xff\xff\xff\xff\1"})
    EXPECT_THAT(complaint(start), HasSubstr("expected more bytes"));
}

TEST(Msgpack, BoundsDepthAndValues) {
  const auto nested = [](size_t levels) {
    std::string text(levels, '\x91');
    text += '\1';
    return text;
  };
  EXPECT_NO_THROW(read(nested(32)));
  const std::string place = [] {
    std::string path = "m: ";
    for (int i = 0; i < 32; ++i) path += "[0]";
    return path;
  }();
  EXPECT_EQ(complaint(nested(33)),
            place + ": expected at most 32 lists and maps within each other, found more");
  EXPECT_THAT(complaint(nested(10'000'000)), HasSubstr("expected at most 32 lists"));
  EXPECT_EQ(complaint("\x93\1\2\3", {.values = 3}), "m: expected at most 3 values in a message, found more");
  EXPECT_NO_THROW(from_msgpack("\x93\1\2\3", "m", {.values = 4}));
  EXPECT_EQ(complaint("\x93\x90\x91\1\3", {.values = 4}),
            "m: [2]: expected at most 4 values in a message, found more");
  EXPECT_EQ(complaint("\x82\xa1k\1\xa1l\2", {.values = 4}),
            "m: expected at most 4 values in a message, found more");
}

TEST(Msgpack, RefusesArraysThatLie) {
  const auto said = [](const std::string& data, const std::string& dtype, const std::string& shape) {
    const std::string message = complaint("\x81\xa1p" + array_bytes(data, dtype, shape));
    EXPECT_TRUE(message.starts_with("m: p: expected ")) << message;
    return message.substr(message.find("expected"));
  };
  const std::string two = "\xc4\x02\1\2", u1 = "\xa3|u1", shape = "\x91\2";
  EXPECT_EQ(read(array_bytes(two, u1, shape)), Value(Array{Dtype::u1, {2}, "\1\2"}));
  EXPECT_EQ(read(array_bytes(two, "\xc4\3|u1", shape)), Value(Array{Dtype::u1, {2}, "\1\2"}));
  EXPECT_EQ(said(two, u1, "\x91\1"), "expected 1 bytes for an array |u1 [1], found 2");
  EXPECT_EQ(said(two, u1, "\x91\3"), "expected 3 bytes for an array |u1 [3], found 2");
  EXPECT_EQ(said(two, "\xa3<f4", "\x90"), "expected 4 bytes for an array <f4 [], found 2");
  EXPECT_EQ(said(two, u1, "\x92\1\xfe"), "expected sizes of 0 or more, found the shape [1, -2]");
  EXPECT_EQ(said(two, u1, "\xc0"), "expected a list of sizes as the shape, found nil");
  EXPECT_EQ(said(two, u1, "\2"), "expected a list of sizes as the shape, found 2");
  EXPECT_EQ(said(two, u1, "\x91\xcb\x40\0\0\0\0\0\0\0"s), "expected whole numbers in the shape, found 2");
  EXPECT_EQ(said(two, u1, "\x91\xcf\xff\xff\xff\xff\xff\xff\xff\xff"),
            "expected whole numbers in the shape, found 18446744073709551615");
  const std::string two32 = "\xcf\0\0\0\1\0\0\0\0"s;
  EXPECT_EQ(said(two, u1, "\x92" + two32 + two32),
            "expected an array that fits into memory, found the shape [4294967296, 4294967296]");
  EXPECT_EQ(said("\xc4\0"s, u1, "\x93\0"s + two32 + two32),
            "expected an array that fits into memory, found the shape [0, 4294967296, 4294967296]");
  EXPECT_EQ(said(two, u1, "\xdc\0\x21"s + std::string(33, '\1')), "expected at most 32 dimensions, found 33");
  EXPECT_EQ(said("\xa2xx", u1, shape), "expected the data of an array as bytes, found the text \"xx\"");
  EXPECT_EQ(said("\x92\1\2", u1, shape), "expected the data of an array as bytes, found a list of 2");
}

TEST(Msgpack, RefusesDtypesWithoutPlainNumbers) {
  for (const char* dtype : {"|O", "<c8", "<c16", "|V8", "<M8[ns]", "<f16", "<f3", "<i16", "", "<", "u", "<U",
                            "<Ux", "<U-1", "<U99999999999", "b2", "|u1 "}) {
    const std::string text = std::string(1, static_cast<char>(0xa0 + std::string(dtype).size())) + dtype;
    EXPECT_EQ(complaint(array_bytes("\xc4\x02\1\2", text, "\x91\2")),
              "m: expected a dtype of plain numbers, such as |u1 or <f4, found "s + dtype);
  }
  EXPECT_EQ(complaint(array_bytes("\xc4\x02\1\2", "\x91\x92\xa1x\xa3<f4", "\x91\2")),
            "m: expected a dtype of plain numbers, such as |u1 or <f4, found a list of 1");
  EXPECT_EQ(complaint(array_bytes("\xc4\x08xxxxxxxx", "\xa3<U1", "\x91\2")),
            "m: expected an array of numbers, or of one text, found <U1 [2]");
  EXPECT_EQ(complaint(array_bytes("\xc4\x04\0\xd8\0\0"s, "\xa3<U1", "\x90")),
            "m: expected characters of Unicode, found the code 55296");
  EXPECT_EQ(complaint(array_bytes("\xc4\x04\0\0\x11\0"s, "\xa3<U1", "\x90")),
            "m: expected characters of Unicode, found the code 1114112");
  EXPECT_EQ(read(array_bytes("\xc4\x02\1\2", "\xa5uint8", "\x91\2")), Value(Array{Dtype::u1, {2}, "\1\2"}));
  EXPECT_EQ(read(array_bytes("\xc4\x02\1\2", "\xa3>i2", "\x90")), Value(Array{Dtype::i2, {}, "\2\1"}));
  EXPECT_EQ(read(array_bytes("\xc4\x02\5\0"s, "\xa3|b1", "\x91\2")), Value(Array{Dtype::b1, {2}, "\1\0"s}));
}

TEST(Msgpack, NamesThePartOfAnArrayThatIsMissing) {
  EXPECT_EQ(complaint("\x81\xc4\x0b__ndarray__\xc3"), "m: expected dtype beside __ndarray__, found none");
  EXPECT_EQ(complaint("\x81\xc4\x0b__ndarray__\xc2"), "m: expected __ndarray__ to be true, found false");
  EXPECT_EQ(complaint("\x83\xa9__ndarray\xc3\xc4\x0b__ndarray__\xc3\xa5"
                      "dtype\xa3|u1"),
            "m: expected data beside __ndarray__, found none");
  EXPECT_EQ(complaint("\x82\xad__npgeneric__\xc3\xa5"
                      "dtype\xa3|u1"),
            "m: expected data beside __npgeneric__, found none");
}

TEST(Msgpack, HoldsSingleNumbersToTheirDtype) {
  const auto single = [](const std::string& dtype, const std::string& data) {
    return "\x83\xc4\x0d__npgeneric__\xc3\xc4\x04"
           "data" +
           data +
           "\xc4\x05"
           "dtype\xa3" +
           dtype;
  };
  EXPECT_EQ(read(single("<f4", "\1")), Value(1.0));
  EXPECT_EQ(read(single("|u1", "\xcc\xff")), Value(255));
  EXPECT_EQ(read(single("|i1", "\xd0\x80")), Value(-128));
  EXPECT_EQ(read(single("<u8", "\xcf\xff\xff\xff\xff\xff\xff\xff\xff")), Value(~uint64_t{0}));
  EXPECT_EQ(read(single("<i8", "\xd3\x80\0\0\0\0\0\0\0"s)), Value(std::numeric_limits<int64_t>::min()));
  EXPECT_EQ(read(single("<U4", "\xa1x")), Value("x"));
  EXPECT_EQ(complaint(single("|u1", "\xcd\1\0"s)), "m: expected a single |u1, found 256");
  EXPECT_EQ(complaint(single("|u1", "\xff")), "m: expected a single |u1, found -1");
  EXPECT_EQ(complaint(single("|i1", "\xcc\x80")), "m: expected a single |i1, found 128");
  EXPECT_EQ(complaint(single("<i8", "\xcf\xff\xff\xff\xff\xff\xff\xff\xff")),
            "m: expected a single <i8, found 18446744073709551615");
  EXPECT_EQ(complaint(single("<i4", "\xca\x3f\0\0\0"s)), "m: expected a single <i4, found 0.5");
  EXPECT_EQ(complaint(single("|b1", "\1")), "m: expected a single |b1, found 1");
  EXPECT_EQ(complaint(single("<f8", "\xa1x")), "m: expected a single <f8, found the text \"x\"");
  EXPECT_EQ(complaint(single("<c8", "\1")),
            "m: expected a dtype of plain numbers, such as |u1 or <f4, found <c8");
}

TEST(Msgpack, WritesTextThatIsNoUtf8Printably) {
  EXPECT_EQ(to_msgpack(Value("a\xff")),
            "\xa5"
            "a\\xff");
  EXPECT_EQ(to_msgpack(Map{{"\xff", 1}}), "\x81\xa4\\xff\1");
}

}  // namespace
}  // namespace apo::wire
