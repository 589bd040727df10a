#include "apo/models/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "apo/base/error.h"
#include "apo/config/options.h"

namespace apo::models {
namespace {

// What a policy of one kind had for all of them in earlier releases.
TEST(PolicyOptions, NamesWhereAnOlderKeyStandsNow) {
  for (const auto& [key, value, kind] : {std::tuple("image_size", "64", "small"),
                                         {"width", "128", "small"},
                                         {"layers", "2", "small"},
                                         {"heads", "4", "small"},
                                         {"channels", "32", "small"},
                                         {"action_bins", "256", "small"},
                                         {"dtype", "float32", "openvla"},
                                         {"center_crop", "true", "openvla"},
                                         {"action_tokens_only", "true", "openvla"},
                                         {"activation_checkpointing", "true", "openvla"}}) {
    PolicyOptions options;
    const config::VisitFunction visit([&](config::Visitor& v) { v("policy", options, ""); });
    const std::string text = concat("policy: {", key, ": ", value, "}");
    try {
      config::Document::from_text(text, {}, ".", "old.yaml").read(visit);
      ADD_FAILURE() << key << " was read";
    } catch (const ConfigError& error) {
      EXPECT_THAT(error.what(), ::testing::StartsWith(concat("old.yaml:1: unknown key 'policy.", key, "'")));
      EXPECT_THAT(error.what(), ::testing::HasSubstr(concat("did you mean 'policy.", kind, ".", key, "'")));
    }
  }
}

}  // namespace
}  // namespace apo::models
