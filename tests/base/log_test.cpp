// What users see: plain lines in a file, a bar on a terminal.
#include "apo/base/log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pty.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <sstream>
#include <thread>
#include <vector>

namespace apo {
namespace {

using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;

// What `body` writes to stderr, which is a file and not a terminal.
std::string stderr_of(const std::function<void()>& body) {
  ::testing::internal::CaptureStderr();
  body();
  return ::testing::internal::GetCapturedStderr();
}

// What `body` writes to stderr in a process whose stderr is a terminal.
std::string terminal_of(const std::function<void()>& body) {
  int controller = -1;
  const pid_t child = ::forkpty(&controller, nullptr, nullptr, nullptr);
  if (child == 0) {
    ::setenv("TERM", "xterm", 1);
    body();
    ::_exit(0);
  }
  std::string output;
  char buffer[4096];
  ssize_t n = 0;
  while ((n = ::read(controller, buffer, sizeof(buffer))) > 0) output.append(buffer, static_cast<size_t>(n));
  ::waitpid(child, nullptr, 0);
  ::close(controller);
  return output;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::istringstream in(text);
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

TEST(Log, LinesHaveTimeLevelAndPieces) {
  EXPECT_THAT(stderr_of([] { log_info("loss ", 0.5, " at step ", 3); }),
              MatchesRegex("\\[[0-9][0-9]:[0-9][0-9]:[0-9][0-9]\\] info loss 0.5 at step 3\n"));
  EXPECT_THAT(stderr_of([] { log_warn("careful"); }), MatchesRegex(".* warning careful\n"));
  EXPECT_THAT(stderr_of([] { log_error("broken"); }), MatchesRegex(".* error broken\n"));
}

TEST(Log, MessagesAreNotFormats) {
  EXPECT_THAT(stderr_of([] { log_info("{} %s {0} %d {"); }), HasSubstr("info {} %s {0} %d {\n"));
}

TEST(Log, WhatAFileSaysDrawsNothing) {
  EXPECT_THAT(stderr_of([] { log_warn("instruction 'lift\n[12:00:00] info all is well\x1b[2J'"); }),
              MatchesRegex(".* warning instruction 'lift.n.12:00:00. info all is well.u001b.2J'\n"));
  const std::string bar = terminal_of([] {
    Progress progress("read \x1b[31m", 10, 0);
    progress.update(10, "demo\n\x1b[2J");
  });
  EXPECT_THAT(bar, HasSubstr("read \\u001b[31m"));
  EXPECT_THAT(bar, HasSubstr("demo\\n\\u001b[2J"));
  EXPECT_THAT(bar, Not(HasSubstr("\033[31m")));
  EXPECT_THAT(bar, Not(HasSubstr("\033[2J")));
}

TEST(Log, LevelsBelowTheLowestAreDropped) {
  EXPECT_EQ(stderr_of([] { log_debug("hidden"); }), "");
  set_log_level(LogLevel::debug);
  EXPECT_THAT(stderr_of([] { log_debug("shown"); }), HasSubstr("debug shown\n"));
  set_log_level(LogLevel::error);
  EXPECT_EQ(stderr_of([] { log_warn("hidden"); }), "");
  EXPECT_THAT(stderr_of([] { log_error("shown"); }), HasSubstr("shown"));
  set_log_level(LogLevel::info);
}

TEST(Log, ThreadsNeverTearLines) {
  const std::string output = stderr_of([] {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([t] {
        for (int i = 0; i < 200; ++i)
          log_info("thread ", t, " ", std::string(50, static_cast<char>('a' + t)));
      });
    }
  });
  const std::vector<std::string> lines = lines_of(output);
  EXPECT_EQ(lines.size(), 800u);
  for (const std::string& line : lines)
    ASSERT_THAT(line, MatchesRegex("\\[.*\\] info thread [0-3] (a+|b+|c+|d+)"));
}

TEST(Progress, IsPlainLinesInAFile) {
  const std::string output = stderr_of([] {
    Progress progress("training", 3, 0);
    for (int i = 1; i <= 3; ++i) progress.update(i, concat("loss 0.", i));
  });
  const std::vector<std::string> lines = lines_of(output);
  ASSERT_EQ(lines.size(), 4u);
  EXPECT_THAT(lines[0], MatchesRegex("\\[.*\\] info training: 1/3, .* left, loss 0.1"));
  EXPECT_THAT(lines[2], HasSubstr("training: 3/3"));
  EXPECT_THAT(lines[3], MatchesRegex("\\[.*\\] info training: 3/3 in 0 s, loss 0.3"));
  EXPECT_THAT(output, Not(HasSubstr("\033")));
  EXPECT_THAT(output, Not(HasSubstr("\r")));
}

TEST(Progress, IsQuietBetweenItsLines) {
  const std::string output = stderr_of([] {
    Progress progress("training", 1000, 3600);
    for (int i = 1; i <= 1000; ++i) progress.update(i);
  });
  EXPECT_EQ(lines_of(output).size(), 1u);
}

// Nothing tells how long it takes before anything is done.
TEST(Progress, SaysWhatIsLeftOnceItCanBeKnown) {
  const std::string output = stderr_of([] {
    Progress progress("evaluate", 4, 0);
    progress.update(0);
    progress.update(2);
  });
  const std::vector<std::string> lines = lines_of(output);
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_THAT(lines[0], MatchesRegex(".* info evaluate: 0/4"));
  EXPECT_THAT(lines[1], MatchesRegex(".* info evaluate: 2/4, [0-9]+ s left"));
  EXPECT_THAT(lines[2], MatchesRegex(".* info evaluate: 2/4 in [0-9]+ s"));
}

TEST(Progress, FinishesOnce) {
  const std::string output = stderr_of([] {
    Progress progress("training", 1, 3600);
    progress.finish();
    progress.finish();
  });
  EXPECT_EQ(lines_of(output).size(), 1u);
}

TEST(Progress, SurvivesAnUnknownTotal) {
  EXPECT_THAT(stderr_of([] {
                Progress progress("reading", 0, 0);
                progress.update(0);
                progress.update(5);
              }),
              HasSubstr("reading: 5\n"));
}

TEST(Progress, IsABarOnATerminal) {
  const std::string output = terminal_of([] {
    Progress progress("training", 10, 0);
    progress.update(10, "loss 0.5");
    log_info("a line between");
  });
  EXPECT_THAT(output, HasSubstr("\r\033[Ktraining ████████████████████████████ 10/10"));
  EXPECT_THAT(output, HasSubstr("loss 0.5\r\033[K["));  // the line clears the bar first
  EXPECT_THAT(output, HasSubstr("a line between"));
  EXPECT_THAT(output, HasSubstr("training: 10/10 in "));
}

}  // namespace
}  // namespace apo
