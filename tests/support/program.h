// Runs the built programs as a user would: arguments in, exit code and output back.
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "support/places.h"
#include "support/temp_dir.h"

namespace apo::testing {

struct ProgramResult {
  int exit_code = -1;  ///< 128 + signal when a signal ended it
  std::string out, err;
};

inline std::string slurp(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(in), {});
}

inline void spit(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

/// A program that runs beside the test, output to files in `dir`.
class RunningProgram {
 public:
  RunningProgram(const std::string& name, const std::vector<std::string>& arguments,
                 const std::filesystem::path& dir)
      : out_(dir / (name + ".stdout")), err_(dir / (name + ".stderr")) {
    const std::string binary = apo::testing::in_build("bin/") + name;
    pid_ = ::fork();
    if (pid_ == 0) {
      redirect(out_, STDOUT_FILENO);
      redirect(err_, STDERR_FILENO);
      std::vector<char*> argv{const_cast<char*>(binary.c_str())};
      for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
      argv.push_back(nullptr);
      ::execv(binary.c_str(), argv.data());
      ::_exit(127);
    }
  }
  ~RunningProgram() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      wait();
    }
  }
  pid_t pid() const { return pid_; }
  /// Nothing if the program has ended: kill(-1) would end every process of the machine.
  void send(int signal) const {
    if (pid_ > 0) ::kill(pid_, signal);
  }
  bool running() {
    if (pid_ <= 0) return false;
    int status = 0;
    if (::waitpid(pid_, &status, WNOHANG) != pid_) return true;
    finish(status);
    return false;
  }
  ProgramResult wait() {
    int status = 0;
    if (pid_ > 0 && ::waitpid(pid_, &status, 0) == pid_) finish(status);
    return {code_, slurp(out_), slurp(err_)};
  }

 private:
  static void redirect(const std::filesystem::path& path, int descriptor) {
    const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    ::dup2(file, descriptor);
    ::close(file);
  }
  void finish(int status) {
    code_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    pid_ = -1;
  }
  std::filesystem::path out_, err_;
  pid_t pid_ = -1;
  int code_ = -1;
};

inline ProgramResult run_program(const std::string& name, const std::vector<std::string>& arguments) {
  const TempDir dir;
  return RunningProgram(name, arguments, dir.path()).wait();
}

}  // namespace apo::testing
