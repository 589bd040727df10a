// spdlog lives here and nowhere else: this file never sees torch's headers (both carry their own libfmt).
#include "apo/base/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>
#include <stdio.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <mutex>

#include "apo/base/text.h"

namespace apo {
namespace {

using Clock = std::chrono::steady_clock;

// One lock for lines and bars, so that they never tear each other.
std::mutex& output_mutex() {
  static std::mutex mutex;
  return mutex;
}
bool bar_is_open = false;

spdlog::logger& logger() {
  static const std::shared_ptr<spdlog::logger> instance = [] {
    auto made =
        std::make_shared<spdlog::logger>("apo", std::make_shared<spdlog::sinks::stderr_color_sink_mt>());
    made->set_pattern("[%H:%M:%S] %^%l%$ %v");
    made->flush_on(spdlog::level::trace);
    made->set_level(spdlog::level::debug);
    return made;
  }();
  return *instance;
}

std::string duration(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0) return "-";
  const auto whole = static_cast<int64_t>(std::llround(seconds));
  if (whole < 60) return concat(whole, " s");
  if (whole < 3600) return concat(whole / 60, " min ", whole % 60, " s");
  return concat(whole / 3600, " h ", (whole % 3600) / 60, " min");
}

LogLevel lowest_level = LogLevel::info;

}  // namespace

void log_line(LogLevel level, const std::string& message) {
  const std::lock_guard lock(output_mutex());
  if (level < lowest_level) return;
  if (bar_is_open) fputs("\r\033[K", stderr);
  const std::string shown = printable(message);
  switch (level) {
    case LogLevel::debug:
      logger().debug("{}", shown);
      break;
    case LogLevel::info:
      logger().info("{}", shown);
      break;
    case LogLevel::warn:
      logger().warn("{}", shown);
      break;
    case LogLevel::error:
      logger().error("{}", shown);
      break;
  }
}

void set_log_level(LogLevel level) {
  const std::lock_guard lock(output_mutex());
  lowest_level = level;
}

struct Progress::State {
  std::string what;
  int64_t total;
  double seconds_between_lines;
  bool terminal = isatty(STDERR_FILENO) != 0;
  Clock::time_point begin = Clock::now();
  Clock::time_point shown = begin;
  int64_t done = 0;
  std::string text;
  bool open = true;

  double elapsed() const { return std::chrono::duration<double>(Clock::now() - begin).count(); }
  // "2 min 5 s left", once something is done that tells how fast it goes and what is to come
  std::string remaining() const {
    if (done <= 0 || total < done) return "";
    return duration(elapsed() / static_cast<double>(done) * static_cast<double>(total - done)) + " left";
  }
  std::string count() const { return total > 0 ? concat(done, "/", total) : concat(done); }
  void draw() {
    constexpr int kWidth = 28;
    const double share =
        total > 0 ? std::clamp(static_cast<double>(done) / static_cast<double>(total), 0.0, 1.0) : 0;
    const int filled = static_cast<int>(std::lround(share * kWidth));
    std::string bar;
    for (int i = 0; i < kWidth; ++i) bar += i < filled ? "█" : "░";
    const std::lock_guard lock(output_mutex());
    const std::string left = remaining();
    fprintf(stderr, "\r\033[K%s %s %s%s%s  %s", printable(what).c_str(), bar.c_str(), count().c_str(),
            left.empty() ? "" : "  ", left.c_str(), printable(text).c_str());
    fflush(stderr);
    bar_is_open = true;
  }
};

Progress::Progress(std::string what, int64_t total, double seconds_between_lines)
    : state_(new State{.what = std::move(what),
                       .total = total,
                       .seconds_between_lines = seconds_between_lines,
                       .text = {}}) {}

Progress::~Progress() {
  finish();
  delete state_;
}

void Progress::update(int64_t done, const std::string& text) {
  State& s = *state_;
  s.done = done;
  s.text = text;
  const double since = std::chrono::duration<double>(Clock::now() - s.shown).count();
  if (s.terminal) {
    if (since > 0.1 || done >= s.total) {
      s.shown = Clock::now();
      s.draw();
    }
  } else if (since > s.seconds_between_lines) {
    s.shown = Clock::now();
    const std::string left = s.remaining();
    log_line(LogLevel::info,
             concat(s.what, ": ", s.count(), left.empty() ? "" : ", ", left, text.empty() ? "" : ", ", text));
  }
}

void Progress::finish() {
  State& s = *state_;
  if (!s.open) return;
  s.open = false;
  if (s.terminal) {
    const std::lock_guard lock(output_mutex());
    if (bar_is_open) fputs("\r\033[K", stderr);
    bar_is_open = false;
  }
  log_line(LogLevel::info, concat(s.what, ": ", s.count(), " in ", duration(s.elapsed()),
                                  s.text.empty() ? "" : ", ", s.text));
}

}  // namespace apo
