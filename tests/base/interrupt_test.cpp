// Ctrl-C and SIGTERM: the first one asks, the second one ends.
#include "apo/base/interrupt.h"

#include <gtest/gtest.h>
#include <signal.h>

#include "support/child_process.h"

namespace apo {
namespace {

using apo::testing::exit_code_of_child;

TEST(Interrupt, TheFirstSignalIsAFlag) {
  for (const int signal : {SIGINT, SIGTERM}) {
    EXPECT_EQ(exit_code_of_child([signal] {
                catch_interrupts();
                if (interrupted()) return 1;
                ::raise(signal);
                return interrupted() ? 0 : 2;
              }),
              0);
  }
}

TEST(Interrupt, TheSecondSignalEndsTheProcess) {
  EXPECT_EQ(exit_code_of_child([] {
              catch_interrupts();
              ::raise(SIGINT);
              ::raise(SIGTERM);
              return 0;
            }),
            130);
}

TEST(Interrupt, WithoutCatchingTheProcessDies) {
  EXPECT_EQ(exit_code_of_child([] {
              ::raise(SIGTERM);
              return 0;
            }),
            -1);
}

TEST(Interrupt, TestsCanSetTheFlag) {
  EXPECT_FALSE(interrupted());
  set_interrupted(true);
  EXPECT_TRUE(interrupted());
  set_interrupted(false);
  EXPECT_FALSE(interrupted());
}

}  // namespace
}  // namespace apo
