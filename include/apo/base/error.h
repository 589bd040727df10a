// How things fail: three kinds of error for users, one for our own mistakes.
//
//   APO_CHECK(DataError, file.good(), path, ": expected a readable HDF5 file");
//
// A message names the file, key, dataset path or tensor, what was expected and what was found.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>

namespace apo {

/// What the programs return to the shell.
enum class ExitCode : int { done = 0, usage = 2, data = 3, run = 4, interrupted = 130 };

/// The caller or the world is wrong; `exit_code()` is what a program that stops for it returns.
class Error : public std::runtime_error {
 public:
  Error(ExitCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ExitCode exit_code() const { return code_; }

 private:
  ExitCode code_;
};

/// Wrong usage or configuration (exit code 2).
struct ConfigError : Error {
  explicit ConfigError(const std::string& message) : Error(ExitCode::usage, message) {}
};
/// A wrong file: trajectories, checkpoint, results (exit code 3).
struct DataError : Error {
  explicit DataError(const std::string& message) : Error(ExitCode::data, message) {}
};
/// A failure while running: non-finite loss, disk full, simulator (exit code 4).
struct RunError : Error {
  explicit RunError(const std::string& message) : Error(ExitCode::run, message) {}
};
/// SIGINT or SIGTERM arrived and the state was saved (exit code 130).
struct Interrupted : Error {
  explicit Interrupted(const std::string& message) : Error(ExitCode::interrupted, message) {}
};

/// A broken invariant of ours; never thrown for what a user passed in.
struct Bug : std::logic_error {
  using std::logic_error::logic_error;
};

/// The pieces, streamed one after the other.
template <class... Pieces>
std::string concat(const Pieces&... pieces) {
  std::ostringstream out;
  (out << ... << pieces);
  return out.str();
}
/// Adds one item, made of the pieces, to a list in a text, `separator` before it unless it is the first.
template <class... Pieces>
void append_item(std::string& list, std::string_view separator, const Pieces&... pieces) {
  if (!list.empty()) list += separator;
  list += concat(pieces...);
}

}  // namespace apo

/// Throws `apo::Kind` with the streamed pieces unless `condition` holds.
#define APO_CHECK(Kind, condition, ...)                              \
  do {                                                               \
    if (!(condition)) throw ::apo::Kind(::apo::concat(__VA_ARGS__)); \
  } while (false)

/// Throws `apo::Bug` unless `condition` holds; always on.
#define APO_ASSERT(condition)                                                                            \
  do {                                                                                                   \
    if (!(condition)) throw ::apo::Bug(::apo::concat(__FILE__, ":", __LINE__, ": broken: " #condition)); \
  } while (false)
