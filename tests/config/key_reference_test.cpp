// The two descriptions of the options: JSON schema for editors, Markdown for people.
#include "apo/config/key_reference.h"

#include <nlohmann/json.hpp>

#include "config/robot_options.h"

namespace apo::config {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::json;

TEST(JsonSchema, DescribesEveryKindOfField) {
  RobotOptions options;
  options.expert = {{.path = "/a", .limit = 3, .share = {}}};
  options.instruction = "1e3";
  const Json schema = Json::parse(json_schema(options));
  EXPECT_EQ(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
  EXPECT_EQ(schema["type"], "object");
  EXPECT_EQ(schema["additionalProperties"], false);
  const Json& properties = schema["properties"];
  EXPECT_EQ(properties.size(), 9u + 1) << "and extends";
  EXPECT_EQ(properties["instruction"], Json::parse(R"({"type": "string", "default": "1e3",
      "description": "what the robot shall do"})"));
  EXPECT_EQ(properties["max_steps"],
            Json::parse(R"({"type": ["integer", "null"], "minimum": 1, "default": 100,
      "description": "steps, null is no limit"})"));
  EXPECT_EQ(properties["pools"], Json::parse(R"({"type": "array", "default": [0.5, 0.25, 0.25],
      "description": "ratios of the pools", "items": {"type": "number", "minimum": 0, "maximum": 1}})"));
  EXPECT_EQ(properties["expert"]["default"], Json::parse(R"([{"path": "/a", "limit": 3, "share": null}])"));
  EXPECT_EQ(properties["expert"]["items"]["properties"]["limit"]["default"], 0);  // a fresh element's
  const Json& objective = properties["objective"];
  EXPECT_EQ(objective["additionalProperties"], false);
  EXPECT_EQ(objective["properties"]["beta"]["exclusiveMinimum"], 0);
  EXPECT_EQ(objective["properties"]["reduction"]["enum"], Json::parse(R"(["mean", "sum"])"));
  EXPECT_EQ(objective["properties"]["kl_max"]["default"], nullptr);  // JSON has no infinity
  EXPECT_EQ(objective["properties"]["weights"]["properties"]["normalize"]["default"], true);
}

TEST(MarkdownReference, HasOneRowAKey) {
  const std::string text = markdown_reference<RobotOptions>();
  EXPECT_THAT(text, HasSubstr("| key | type | default | accepted | meaning |"));
  EXPECT_THAT(text, HasSubstr("| `seed` | integer | `0` | >= 0 | seed of all random streams |\n"));
  EXPECT_THAT(text,
              HasSubstr("| `max_steps` | integer or null | `100` | >= 1 | steps, null is no limit |\n"));
  EXPECT_THAT(text, HasSubstr("| `expert` | list of sections | `[]` |  | demonstrations |\n"));
  EXPECT_THAT(text, HasSubstr("| `expert.N.limit` | integer | `0` | >= 0 | episodes to use, 0 is all |\n"));
  EXPECT_THAT(text, HasSubstr("## `objective`\n\nwhat is minimised\n\n| key"));
  EXPECT_THAT(text, HasSubstr("| `objective.type` | choice | `apo` | apo, kto, dpo | the objective |\n"));
  EXPECT_THAT(text, HasSubstr("| `objective.weights` | section |  |  | sample weights |\n"));
  EXPECT_THAT(text, HasSubstr("| `objective.weights.normalize` | boolean | `true` |  |"));
}

TEST(MarkdownReference, CellsSurviveBarsAndLineBreaks) {
  std::string value = "a|b";
  const std::string text =
      markdown_reference(VisitFunction([&](Visitor& v) { v("value", value, "one | two\nthree"); }));
  EXPECT_THAT(text, HasSubstr("| `value` | text | `\"a\\|b\"` |  | one \\| two three |\n"));
}

}  // namespace
}  // namespace apo::config
