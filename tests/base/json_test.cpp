#include "base/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <fstream>

#include "apo/base/error.h"
#include "support/message_of.h"
#include "support/temp_dir.h"

namespace apo {
namespace {

using apo::testing::message_of;
using apo::testing::TempDir;
using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

template <class F>
std::string complaint(F&& f) {
  return message_of<DataError>(std::forward<F>(f));
}

TEST(ParseJson, NamesTheLineThatIsNot) {
  const auto message = [](const std::string& text) { return complaint([&] { parse_json(text, "a.json"); }); };
  EXPECT_EQ(message("{\n1}"), "a.json:2: expected JSON, found something else");
  EXPECT_EQ(message("[1,\n\n2"), "a.json:3: expected JSON, found the end of the file (is it cut?)");
  EXPECT_EQ(message(""), "a.json:1: expected JSON, found the end of the file (is it cut?)");
  EXPECT_EQ(message("[1e999]"), "a.json: expected JSON with numbers that fit into a double");
  EXPECT_EQ(parse_json("[1, {\"a\": null}]", "a.json"), json({1, {{"a", nullptr}}}));
}

TEST(ParseJson, BoundsTheDepth) {
  const auto nested = [](size_t levels) { return std::string(levels, '[') + std::string(levels, ']'); };
  EXPECT_NO_THROW(parse_json(nested(kDeepestJson), "a.json"));
  for (const size_t levels : {size_t{kDeepestJson} + 2, size_t{1'000'000}}) {
    EXPECT_EQ(complaint([&] { parse_json(nested(levels), "a.json"); }),
              "a.json: JSON nested too deeply, beyond 64 levels");
    EXPECT_THAT(complaint([&] { parse_if_json(nested(levels), "a.json"); }), HasSubstr("nested too deeply"));
    EXPECT_THAT(complaint([&] { parse_json<nlohmann::ordered_json>(nested(levels), "a.json"); }),
                HasSubstr("nested too deeply"));
  }
  EXPECT_FALSE(parse_if_json("no", "a.json"));
  EXPECT_EQ(parse_if_json("3", "a.json"), json(3));
}

TEST(JsonExcerpt, IsShortAndCutsNoCharacter) {
  EXPECT_EQ(json_excerpt(json({1, 2})), "[1,2]");
  EXPECT_EQ(json_excerpt(json::parse("[[1], 2]")), "a JSON array of 2");
  EXPECT_EQ(json_excerpt(json(std::string(100, 'x'))), "\"" + std::string(56, 'x') + "...");
  std::string umlauts;
  for (int i = 0; i < 50; ++i) umlauts += "\u00fc";
  EXPECT_EQ(json_excerpt(json(umlauts)), "\"" + umlauts.substr(0, 56) + "...");
  EXPECT_EQ(json_excerpt(json("a" + umlauts)), "\"a" + umlauts.substr(0, 54) + "...");
}

TEST(JsonField, ReadsWhatIsThere) {
  const json value = json::parse(R"({"a": {"b": [1, 2.0]}, "t": "x", "n": null, "f": 2.5, "yes": true,)"
                                 R"("m": {"z": 3, "y": 4}, "long": [["p"], []]})");
  const JsonField root(&value, "f.json");
  EXPECT_THAT(root["a"]["b"].get<std::vector<int>>(), ElementsAre(1, 2));
  EXPECT_THAT(root["a"]["b"].get<std::vector<double>>(), ElementsAre(1, 2));
  EXPECT_EQ(root["t"].get<std::string>(), "x");
  EXPECT_EQ(root["f"].find<double>(), 2.5);
  EXPECT_TRUE(root["yes"].get<bool>());
  EXPECT_EQ((root["m"].get<std::map<std::string, int64_t>>()),
            (std::map<std::string, int64_t>{{"y", 4}, {"z", 3}}));
  EXPECT_THAT(root["long"].get<std::vector<std::vector<std::string>>>(),
              ElementsAre(ElementsAre("p"), ElementsAre()));
  EXPECT_EQ(root["m"]["z"].integer(3, 3), 3);
  EXPECT_EQ(root["m"]["z"].count(), 3);
  EXPECT_EQ(root["m"].counts().at("y"), 4);
  for (const char* absent : {"n", "o"}) {
    EXPECT_FALSE(root[absent].present());
    EXPECT_FALSE(root[absent]["inner"].find<int>());
    EXPECT_EQ(root[absent].get_or<std::string>(), "");
    EXPECT_EQ(root[absent].get_or(7), 7);
    EXPECT_TRUE(root[absent].list().empty());
    EXPECT_TRUE(root[absent].raw().is_null());
  }
  std::vector<std::string> order;
  const auto ordered = parse_json<nlohmann::ordered_json>(R"({"z": 1, "a": 2})", "f.json");
  for (const auto& [key, field] : OrderedJsonField(&ordered, "f.json").entries()) order.push_back(key);
  EXPECT_THAT(order, ElementsAre("z", "a"));
}

TEST(JsonField, NamesFileKeyExpectedAndFound) {
  const json value =
      json::parse(R"({"a": {"b": [1, "two", 2.5]}, "n": null, "large": 18446744073709551615, "up": "../x"})");
  const JsonField root(&value, "f.json");
  EXPECT_EQ(complaint([&] { root["a"]["b"].get<std::vector<int>>(); }),
            "f.json: a.b[1]: expected a whole number, found \"two\"");
  EXPECT_EQ(complaint([&] { root["a"]["b"].list()[2].get<int>(); }),
            "f.json: a.b[2]: expected a whole number, found 2.5");
  EXPECT_EQ(complaint([&] { root["a"]["b"]["c"]; }),
            "f.json: a.b: expected an object, found [1,\"two\",2.5]");
  EXPECT_EQ(complaint([&] { root["a"].list(); }), "f.json: a: expected a list, found a JSON object of 1");
  EXPECT_EQ(complaint([&] { root["o"]["p"].get<std::string>(); }),
            "f.json: o.p: expected a text, found nothing");
  EXPECT_EQ(complaint([&] { root["n"].get<double>(); }), "f.json: n: expected a number, found null");
  EXPECT_EQ(complaint([&] { root["n"].get<std::vector<int>>(); }), "f.json: n: expected a list, found null");
  EXPECT_EQ(complaint([&] { root["large"].get<int64_t>(); }),
            "f.json: large: expected a whole number, found 18446744073709551615");
  EXPECT_EQ(complaint([&] { root["a"]["b"].list()[0].integer(2, 5); }),
            "f.json: a.b[0]: expected an integer from 2 to 5, found 1");
  EXPECT_EQ(complaint([&] { root["up"].inner_path(); }),
            "f.json: up: expected a relative path that stays in the directory of this file, found \"../x\"");
  const json big = 70000;
  EXPECT_THAT(complaint([&] { JsonField(&big, "f.json").get<int16_t>(); }),
              HasSubstr("f.json: expected a whole number"));
}

TEST(JsonFile, HoldsAnObject) {
  const TempDir dir;
  const auto file = [&](const std::string& text) {
    std::ofstream(dir / "f.json", std::ios::trunc) << text;
    return JsonFile(dir / "f.json");
  };
  EXPECT_EQ(file("{\"a\": 3}")["a"].get<int>(), 3);
  EXPECT_EQ(complaint([&] { file("[1]"); }), (dir / "f.json").string() + ": expected an object, found [1]");
  EXPECT_THAT(complaint([&] { file("{"); }), HasSubstr("f.json:1: expected JSON"));
  EXPECT_THAT(complaint([&] { file("version https://git-lfs.github.com/spec/v1\n"); }),
              HasSubstr("git lfs pull"));
}

}  // namespace
}  // namespace apo
