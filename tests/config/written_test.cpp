#include <gtest/gtest.h>

#include "apo/base/error.h"
#include "config/value.h"

namespace apo::config {
namespace {

TEST(IsWritten, AsksForTheKeyNotForItsLetters) {
  const char* yaml =
      "# objective: {beta: 1}\n"
      "objective:\n  beta: 0.1\n  hold: null\n  note: 'gamma: 3'\n"
      "methods:\n  - {name: a, objective: {beta: 1}}\n  - {name: b}\n";
  for (const char* key :
       {"objective", "objective.beta", "objective.hold", "methods.0.objective.beta", "methods.1.name"})
    EXPECT_TRUE(is_written(yaml, key)) << key;
  for (const char* key : {"beta", "objective.gamma", "objective.beta.more", "methods.1.objective.beta",
                          "methods.2.name", "methods.name", "methods.-1.name"})
    EXPECT_FALSE(is_written(yaml, key)) << key;
  EXPECT_FALSE(is_written("", "objective"));
  EXPECT_THROW(is_written("a: [", "a"), ConfigError);
}

}  // namespace
}  // namespace apo::config
