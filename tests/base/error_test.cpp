// Errors: what a message is made of, and what a program returns for each kind.
#include "apo/base/error.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace apo {
namespace {

using ::testing::ContainsRegex;

TEST(Error, EachKindHasItsExitCode) {
  EXPECT_EQ(static_cast<int>(ConfigError("x").exit_code()), 2);
  EXPECT_EQ(static_cast<int>(DataError("x").exit_code()), 3);
  EXPECT_EQ(static_cast<int>(RunError("x").exit_code()), 4);
  EXPECT_EQ(static_cast<int>(Interrupted("x").exit_code()), 130);
  EXPECT_EQ(static_cast<int>(ExitCode::done), 0);
}

TEST(Error, CheckStreamsItsPieces) {
  try {
    APO_CHECK(DataError, 1 > 2, "a.hdf5", ": expected ", 7, " dimensions, found ", 6.5);
    FAIL() << "expected an error";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "a.hdf5: expected 7 dimensions, found 6.5");
    EXPECT_EQ(error.exit_code(), ExitCode::data);
  }
}

TEST(Error, CheckEvaluatesItsPiecesOnlyWhenItFails) {
  int evaluated = 0;
  const auto piece = [&] { return ++evaluated; };
  APO_CHECK(RunError, true, piece());
  EXPECT_EQ(evaluated, 0);
  EXPECT_THROW(APO_CHECK(RunError, false, piece()), RunError);
  EXPECT_EQ(evaluated, 1);
}

TEST(Error, CheckIsOneStatement) {
  bool reached = false;
  if (false)
    APO_CHECK(RunError, false, "never");
  else
    reached = true;
  EXPECT_TRUE(reached);
}

TEST(Error, AssertIsOurMistakeNotTheUsers) {
  EXPECT_NO_THROW(APO_ASSERT(2 > 1));
  try {
    APO_ASSERT(1 > 2);
    FAIL() << "expected an error";
  } catch (const Bug& bug) {
    EXPECT_THAT(bug.what(), ContainsRegex("error_test.cpp:[0-9]+: broken: 1 > 2$"));
    EXPECT_EQ(dynamic_cast<const Error*>(static_cast<const std::exception*>(&bug)), nullptr);
  }
}

TEST(Error, ConcatJoinsWhateverCanBeStreamed) { EXPECT_EQ(concat("a", 1, 'c', std::string("d")), "a1cd"); }

}  // namespace
}  // namespace apo
