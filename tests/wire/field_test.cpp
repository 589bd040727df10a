#include "wire/field.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>

#include "support/message_of.h"
#include "wire/tensors.h"

namespace apo::wire {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

template <class F>
std::string complaint(F&& f) {
  return testing::message_of<DataError>(std::forward<F>(f));
}

Value single(const at::Tensor& number) { return array(number.reshape({})); }

TEST(Field, ReadsWhatIsThere) {
  const Value value = Map{{"a", Map{{"b", List{1, 2.5}}, {"flag", true}}},
                          {"text", "lift"},
                          {"bytes", Bytes{"w\u00fcrfel"}},
                          {"nil", Value()},
                          {"large", ~uint64_t{0}},
                          {"f4", single(torch::tensor(2.f))},
                          {"f2", single(torch::tensor(-0.5f).to(at::kHalf))},
                          {"b1", single(torch::tensor(true))},
                          {"one", array(torch::tensor({7}, at::kShort))}};
  const Field root(&value, "request");
  EXPECT_EQ(root["a"]["b"].list()[1].number(), 2.5);
  EXPECT_TRUE(root["a"]["flag"].boolean());
  EXPECT_EQ(root["text"].text(), "lift");
  EXPECT_EQ(root["bytes"].text(), "w\u00fcrfel");
  EXPECT_EQ(root["large"].unsigned_integer(), ~uint64_t{0});
  EXPECT_EQ(root["f4"].integer(2, 2), 2);
  EXPECT_EQ(root["f4"].unsigned_integer(), 2u);
  EXPECT_EQ(root["f2"].number(), -0.5);
  EXPECT_TRUE(root["b1"].boolean());
  EXPECT_EQ(root["one"].integer(), 7);
  EXPECT_EQ(root["large"].number(), 18446744073709551615.0);
  for (const char* absent : {"nil", "none"}) {
    EXPECT_FALSE(root[absent].present());
    EXPECT_FALSE(root[absent]["inner"].present());
    EXPECT_THAT(root[absent].list(), IsEmpty());
    EXPECT_THAT(root[absent].entries(), IsEmpty());
    EXPECT_TRUE(root[absent].raw().is_nil());
  }
  std::vector<std::string> keys;
  for (const auto& [key, field] : root["a"].entries()) keys.push_back(key + " " + field.place());
  EXPECT_THAT(keys, ElementsAre("b request: a.b", "flag request: a.flag"));
}

TEST(Field, NamesPlaceExpectedAndFound) {
  const Value value = Map{
      {"observation/state", List{1, "x"}}, {"n", 2.5}, {"m", Map()}, {"raw", Bytes{"\xff"}}, {"whole", 12}};
  const Field root(&value, "request");
  EXPECT_EQ(complaint([&] { root["observation/state"].floats(); }),
            "request: observation/state[1]: expected a number, found the text \"x\"");
  EXPECT_EQ(complaint([&] { root["n"].integer(); }), "request: n: expected a whole number, found 2.5");
  EXPECT_EQ(complaint([&] { root["whole"].integer(0, 9); }),
            "request: whole: expected a whole number from 0 to 9, found 12");
  EXPECT_EQ(complaint([&] { root["whole"].integer(20); }),
            "request: whole: expected a whole number, at least 20, found 12");
  EXPECT_EQ(complaint([&] { root["none"].text(); }), "request: none: expected a text, found nothing");
  EXPECT_EQ(complaint([&] { root["raw"].text(); }), "request: raw: expected a text, found 1 bytes");
  EXPECT_EQ(complaint([&] { root["n"]["x"]; }), "request: n: expected a map, found 2.5");
  EXPECT_EQ(complaint([&] { root["m"].list(); }), "request: m: expected a list, found a map of 0");
  EXPECT_EQ(complaint([&] { root["n"].entries(); }), "request: n: expected a map, found 2.5");
  EXPECT_EQ(complaint([&] { root["n"].boolean(); }), "request: n: expected true or false, found 2.5");
  EXPECT_EQ(complaint([&] { root.number(); }), "request: expected a number, found a map of 5");
  EXPECT_EQ(complaint([&] { Field(&value).number(); }), "expected a number, found a map of 5");
  EXPECT_THAT(complaint([&] { root[std::string(1000, 'k')].number(); }),
              HasSubstr("kkk...: expected a number"));
}

TEST(Field, ReadsNumbersOfListsAndArrays) {
  const auto floats = [](Value value) { return Field(&value, "r", "s").floats(); };
  EXPECT_THAT(floats(List{1, 2.5, single(torch::tensor(3))}), ElementsAre(1.f, 2.5f, 3.f));
  EXPECT_THAT(floats(0.5), ElementsAre(0.5f));
  EXPECT_THAT(floats(single(torch::tensor(0.5))), ElementsAre(0.5f));
  EXPECT_THAT(floats(List()), IsEmpty());
  EXPECT_THAT(floats(Array{Dtype::f4, {0}, ""}), IsEmpty());
  for (const auto type : {at::kChar, at::kByte, at::kShort, at::kUInt16, at::kInt, at::kUInt32, at::kLong,
                          at::kUInt64, at::kHalf, at::kFloat, at::kDouble, at::kBFloat16})
    EXPECT_THAT(floats(array(torch::tensor({0, 1, 100}).to(type))), ElementsAre(0.f, 1.f, 100.f)) << type;
  EXPECT_THAT(floats(array(torch::tensor({-1, -7}, at::kChar))), ElementsAre(-1.f, -7.f));
  const Value doubles = array(std::vector<double>{0.1, -1e300});
  EXPECT_THAT(Field(&doubles).doubles(), ElementsAre(0.1, -1e300));
  EXPECT_TRUE(std::isnan(floats(array(std::vector<float>{NAN}))[0]));  // for callers to judge
  EXPECT_EQ(complaint([&] {
              floats(array(torch::zeros({1, 7})));
            }),
            "r: s: expected a list of numbers, found an array <f4 [1, 7]");
  EXPECT_EQ(complaint([&] { floats(array(torch::ones({2}, at::kBool))); }),
            "r: s: expected a list of numbers, found an array |b1 [2]");
  EXPECT_EQ(complaint([&] { floats("0.5"); }), "r: s: expected a list of numbers, found the text \"0.5\"");
  EXPECT_EQ(complaint([&] { floats(Value()); }), "r: s: expected a list of numbers, found nil");
  EXPECT_EQ(complaint([&] { floats(List{List{1}}); }), "r: s[0]: expected a number, found a list of 1");
  EXPECT_EQ(complaint([&] { floats(List{true}); }), "r: s[0]: expected a number, found true");
}

TEST(Tensors, ComeBackEqual) {
  for (const auto type : {at::kBool, at::kChar, at::kByte, at::kShort, at::kUInt16, at::kInt, at::kUInt32,
                          at::kLong, at::kUInt64, at::kHalf, at::kFloat, at::kDouble}) {
    const at::Tensor there = torch::arange(6).to(type).reshape({2, 3});
    const at::Tensor back = tensor(array(there));
    EXPECT_EQ(back.scalar_type(), type);
    EXPECT_EQ(back.sizes(), there.sizes());
    EXPECT_TRUE(at::equal(back.to(at::kDouble), there.to(at::kDouble))) << type;
    EXPECT_EQ(array(back), array(there));
  }
  EXPECT_EQ(array(torch::arange(6).reshape({2, 3}).t().to(at::kByte)),
            (Array{Dtype::u1, {3, 2}, std::string("\0\3\1\4\2\5", 6)}));
  EXPECT_EQ(tensor(Array{Dtype::f4, {0, 7}, ""}).sizes(), at::IntArrayRef({0, 7}));
  EXPECT_THROW(array(torch::zeros({1}, at::kComplexFloat)), Bug);
  EXPECT_THROW(tensor(Array{Dtype::f4, {2}, "abc"}), Bug);
}

// [Y, X, C] with a number of its own in every place.
at::Tensor pattern(int64_t y, int64_t x, int64_t c) {
  return torch::arange(y * x * c).mul(7).remainder(256).to(at::kByte).reshape({y, x, c});
}

at::Tensor picture(const at::Tensor& pixels) {
  const Value value = array(pixels);
  at::Tensor picture = Field(&value, "r", "image").picture();
  EXPECT_TRUE(picture.is_contiguous());
  EXPECT_EQ(picture.scalar_type(), at::kByte);
  return picture;
}

TEST(Picture, TakesEveryLayout) {
  const at::Tensor rgb = pattern(4, 5, 3), rgba = pattern(4, 5, 4), grey = pattern(4, 5, 1);
  EXPECT_TRUE(at::equal(picture(rgb), rgb));
  EXPECT_TRUE(at::equal(picture(rgb.permute({2, 0, 1})), rgb));
  EXPECT_TRUE(at::equal(picture(rgba), rgba.slice(2, 0, 3)));
  EXPECT_TRUE(at::equal(picture(rgba.permute({2, 0, 1})), rgba.slice(2, 0, 3)));
  EXPECT_TRUE(at::equal(picture(grey), grey.expand({4, 5, 3})));
  EXPECT_TRUE(at::equal(picture(grey.squeeze(2)), grey.expand({4, 5, 3})));
  EXPECT_TRUE(at::equal(picture(grey.permute({2, 0, 1})), grey.expand({4, 5, 3})));
  const at::Tensor both_ways = pattern(3, 5, 3);
  EXPECT_TRUE(at::equal(picture(both_ways), both_ways));
}

TEST(Picture, RoundsFloatingPoint) {
  const at::Tensor all = torch::arange(256 * 3).div(3, "floor").to(at::kByte).reshape({16, 16, 3});
  for (const auto type : {at::kFloat, at::kDouble})
    EXPECT_TRUE(at::equal(picture(all.to(type) / 255), all)) << type;
  const at::Tensor halves = picture((all.to(at::kFloat) / 255).to(at::kHalf));
  EXPECT_LE((halves.to(at::kInt) - all.to(at::kInt)).abs().max().item<int>(), 1);
  EXPECT_TRUE(at::equal(picture((all.to(at::kFloat) / 255).permute({2, 0, 1})), all));
  const at::Tensor beyond = torch::tensor({-0.001f, 1.001f, 0.5f}).reshape({1, 1, 3});
  EXPECT_TRUE(at::equal(picture(beyond), torch::tensor({0, 255, 128}, at::kByte).reshape({1, 1, 3})));
}

TEST(Picture, RefusesWhatIsNone) {
  const auto said = [](const Value& value) {
    return complaint([&] { Field(&value, "request", "observation/image").picture(); });
  };
  const std::string place = "request: observation/image: expected ";
  EXPECT_EQ(said(Value()), place + "a picture, an array [Y, X, 3] of uint8, found nil");
  EXPECT_EQ(said("x"), place + "a picture, an array [Y, X, 3] of uint8, found the text \"x\"");
  EXPECT_EQ(said(array(pattern(6, 5, 2))),
            place + "a picture [Y, X, 3], [3, Y, X] or [Y, X], found an array |u1 [6, 5, 2]");
  EXPECT_EQ(said(array(pattern(4, 5, 3).unsqueeze(0))),
            place + "a picture [Y, X, 3], [3, Y, X] or [Y, X], found an array |u1 [1, 4, 5, 3]");
  EXPECT_EQ(said(array(torch::zeros({5}, at::kByte))),
            place + "a picture [Y, X, 3], [3, Y, X] or [Y, X], found an array |u1 [5]");
  EXPECT_EQ(said(Array{Dtype::u1, {0, 5, 3}, ""}),
            place + "a picture that is not empty, found an array |u1 [0, 5, 3]");
  EXPECT_EQ(said(array(torch::zeros({4, 5, 3}, at::kLong))),
            place + "a picture of uint8, or of floating point from 0 to 1, found an array <i8 [4, 5, 3]");
  EXPECT_EQ(said(array(torch::full({4, 5, 3}, 255.f))),
            place + "a picture of floating point from 0 to 1, found 255 to 255");
  EXPECT_EQ(said(array(torch::full({4, 5, 3}, -1.f))),
            place + "a picture of floating point from 0 to 1, found -1 to -1");
  at::Tensor hole = torch::zeros({4, 5, 3});
  hole[1][2][0] = NAN;
  EXPECT_EQ(said(array(hole)), place + "a picture without NaN, found an array <f4 [4, 5, 3]");
}

}  // namespace
}  // namespace apo::wire
