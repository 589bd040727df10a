// Configs that earlier releases wrote.
#include "apo/config/older_keys.h"

#include <gtest/gtest.h>

#include <array>

namespace apo::config {
namespace {

constexpr std::array<MovedKey, 3> kMoved{
    {{"policy", "width", "small"}, {"policy", "layers", "small"}, {"policy", "dtype", "openvla"}}};

TEST(OlderKeys, GoIntoTheirSections) {
  EXPECT_EQ(with_moved_keys(
                "run:\n  width: 1\npolicy:\n  type: small\n  width: 64  # wide\n  dtype: auto\n  layers: 3\n"
                "  lora:\n    width: 2\ndata:\n  layers: 7\n",
                kMoved),
            "run:\n  width: 1\npolicy:\n  type: small\n  lora:\n    width: 2\n  openvla:\n    dtype: auto\n  "
            "small:\n"
            "    width: 64  # wide\n    layers: 3\ndata:\n  layers: 7\n");
}

TEST(OlderKeys, AtTheEndAndWithoutANewLine) {
  EXPECT_EQ(with_moved_keys("policy:\n  width: 64", kMoved), "policy:\n  small:\n    width: 64");
  EXPECT_EQ(with_moved_keys("", kMoved), "");
}

TEST(OlderKeys, LeaveATextOfTodayAsItIs) {
  const std::string today = "policy:\n  type: small\n  small:\n    width: 64\n  openvla:\n    dtype: auto\n";
  EXPECT_EQ(with_moved_keys(today, kMoved), today);
}

}  // namespace
}  // namespace apo::config
