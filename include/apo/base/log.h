// What the programs tell their user while they run. On a terminal: colors and a progress bar; in a file:
// lines.
#pragma once

#include <cstdint>
#include <string>

#include "apo/base/error.h"

namespace apo {

enum class LogLevel { debug, info, warn, error };

/// Sends one line to stderr, with time and level. Safe from any thread.
void log_line(LogLevel level, const std::string& message);
/// Lines below `level` are dropped (default info).
void set_log_level(LogLevel level);

template <class... Pieces>
void log_debug(const Pieces&... pieces) {
  log_line(LogLevel::debug, concat(pieces...));
}
template <class... Pieces>
void log_info(const Pieces&... pieces) {
  log_line(LogLevel::info, concat(pieces...));
}
template <class... Pieces>
void log_warn(const Pieces&... pieces) {
  log_line(LogLevel::warn, concat(pieces...));
}
template <class... Pieces>
void log_error(const Pieces&... pieces) {
  log_line(LogLevel::error, concat(pieces...));
}

/// Shows how far a long piece of work is: a bar that redraws itself when stderr is a terminal, otherwise a
/// plain line at most every `seconds_between_lines`.
class Progress {
 public:
  Progress(std::string what, int64_t total, double seconds_between_lines = 10);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// `done` of `total` units are finished; `text` says how it goes ("loss 0.43").
  void update(int64_t done, const std::string& text = "");
  /// Ends the bar; the destructor does it too.
  void finish();

 private:
  struct State;
  State* state_;
};

}  // namespace apo
