// Ctrl-C, SIGTERM and SIGHUP: the first one asks, the second one ends, and what does not ask is ended.
#include "apo/base/interrupt.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <fstream>

#include "apo/base/atomic_file.h"
#include "apo/base/finishing.h"
#include "support/child_process.h"
#include "support/temp_dir.h"

namespace apo {
namespace {

using apo::testing::exit_code_of_child;
using apo::testing::TempDir;

TEST(Interrupt, TheFirstSignalIsAFlag) {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
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

TEST(Interrupt, WhatDoesNotAskIsEndedAndLeavesNothingHalfWritten) {
  const TempDir dir;
  EXPECT_EQ(exit_code_of_child([&] {
              catch_interrupts();
              const AtomicFile file(dir / "scores.jsonl");
              const Unfinished directory(dir / "step-4.partial");
              std::filesystem::create_directories(dir / "step-4.partial/policy");
              std::ofstream(dir / "step-4.partial/policy/weights") << "half";
              ::raise(SIGTERM);
              for (;;) ::pause();
              return 0;
            }),
            130);
  EXPECT_TRUE(std::filesystem::is_empty(dir.path()));
}

TEST(Interrupt, WhatIsFinishingIsWaitedFor) {
  EXPECT_EQ(exit_code_of_child([] {
              catch_interrupts();
              const Finishing finishing("a step");
              ::raise(SIGINT);
              ::usleep(1'500'000);  // more than other work is given
              return interrupted() ? 7 : 0;
            }),
            7);
  EXPECT_EQ(exit_code_of_child([] {
              catch_interrupts();
              { const Finishing finished("a step"); }
              ::raise(SIGINT);
              for (;;) ::pause();
              return 7;
            }),
            130);
}

TEST(Interrupt, ASecondSignalEndsWhatIsFinishing) {
  const TempDir dir;
  EXPECT_EQ(exit_code_of_child([&] {
              catch_interrupts();
              const Finishing finishing("a step");
              const AtomicFile file(dir / "scores.jsonl");
              ::raise(SIGINT);
              ::raise(SIGINT);
              return 7;
            }),
            130);
  EXPECT_TRUE(std::filesystem::is_empty(dir.path()));
}

// The process ends while the directory gets its name: it is not emptied on the way.
TEST(Interrupt, WhatIsBeingRenamedStays) {
  const TempDir dir;
  EXPECT_EQ(exit_code_of_child([&] {
              catch_interrupts();
              std::filesystem::create_directories(dir / "step-4.partial");
              std::ofstream(dir / "step-4.partial/weights") << "whole";
              Unfinished directory(dir / "step-4.partial");
              directory.finish([] {
                ::raise(SIGINT);
                ::raise(SIGINT);
              });
              return 7;
            }),
            130);
  EXPECT_TRUE(std::filesystem::exists(dir / "step-4.partial/weights"));
}

TEST(Interrupt, NohupIsRespected) {
  EXPECT_EQ(exit_code_of_child([] {
              ::signal(SIGHUP, SIG_IGN);
              catch_interrupts();
              ::raise(SIGHUP);
              return interrupted() ? 1 : 7;
            }),
            7);
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
