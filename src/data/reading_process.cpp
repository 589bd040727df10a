#include "data/reading_process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <new>
#include <tuple>

#include "apo/base/interrupt.h"
#include "apo/base/log.h"
#include "data/hdf5.h"

namespace apo::data::hdf5 {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kSocket = 3;                           // of the reading process
constexpr uint64_t kMostMemory = uint64_t{8} << 30;  // more than the program had when the process began
constexpr uint64_t kLongestMessage = uint64_t{1} << 20;
constexpr int kTickMilliseconds = 100;
constexpr auto kStandsStill = std::chrono::seconds(3);  // without computing: then an interrupt ends the wait
std::atomic<int> limit_seconds = 20;
std::atomic<int64_t> num_calls = 0;
bool is_reading_process = false, is_answering = false;

struct Request {
  uint64_t function;
  uint64_t length;
  int64_t seconds;
};

enum class Outcome : uint64_t { good, config_error, data_error, run_error };
struct Reply {
  Outcome outcome;
  uint64_t length;
};

// False at the other end's end.
bool send_all(int socket, const void* data, size_t size) {
  const char* bytes = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t n = ::send(socket, bytes, size, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    bytes += n;
    size -= static_cast<size_t>(n);
  }
  return true;
}

// Nanoseconds of a processor that a process has used; -1 if it is no more.
int64_t processor_time(pid_t pid) {
  clockid_t clock = {};
  timespec time = {};
  if (::clock_getcpuclockid(pid, &clock) != 0 || ::clock_gettime(clock, &time) != 0) return -1;
  return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

// Waits for a process that works on a file. What computes without an end is ended by its limit of processor
// time; what waits without an end, for a disk that does not answer or because somebody stopped it, only
// people can judge.
class Patience {
 public:
  Patience(pid_t pid, int64_t seconds, const std::string& where)
      : pid_(pid), seconds_(seconds), where_(where) {}

  // Until there is something to receive. Interrupted.
  void wait(int socket) {
    pollfd answer{socket, POLLIN, 0};
    while (::poll(&answer, 1, kTickMilliseconds) <= 0) look();
  }

 private:
  void look() {
    const Clock::time_point now = Clock::now();
    if (const int64_t used = processor_time(pid_); used != used_) {
      used_ = used;
      since_ = now;
    }
    APO_CHECK(Interrupted, !interrupted() || now - since_ < kStandsStill, where_,
              ": interrupted while it did not answer");
    if (told_ || now - since_ < std::chrono::seconds(seconds_)) return;
    told_ = true;
    log_warn(where_, ": does not answer: process ", pid_, ", which works on it, has waited for ", seconds_,
             " seconds; is its disk there? Ctrl-C ends the wait");
  }

  const pid_t pid_;
  const int64_t seconds_;
  const std::string& where_;
  int64_t used_ = -1;
  Clock::time_point since_ = Clock::now();  // when it was first seen to have used so much
  bool told_ = false;
};

bool receive_all(int socket, void* data, size_t size, Patience* patience = nullptr) {
  char* bytes = static_cast<char*>(data);
  while (size > 0) {
    const ssize_t n = ::recv(socket, bytes, size, patience ? MSG_DONTWAIT : MSG_WAITALL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN && patience) {
      patience->wait(socket);
      continue;
    }
    if (n <= 0) return false;
    bytes += n;
    size -= static_cast<size_t>(n);
  }
  return true;
}

template <class Work>
Outcome outcome_of(const Work& work, Packer& out) {
  try {
    work();
    return Outcome::good;
  } catch (const Error& error) {
    out.bytes() = error.what();
    return error.exit_code() == ExitCode::data    ? Outcome::data_error
           : error.exit_code() == ExitCode::usage ? Outcome::config_error
                                                  : Outcome::run_error;
  } catch (const std::bad_alloc&) {
    out.bytes() = "not enough memory to read it";
    return Outcome::data_error;
  } catch (const std::exception& error) {
    out.bytes() = error.what();
    return Outcome::run_error;
  }
}

// A call that costs more processor time than this ends the process: damaged files make loops without an end.
void limit_time(int64_t seconds) {
  const itimerval limit{{0, 0}, {static_cast<time_t>(seconds), 0}};
  ::setitimer(ITIMER_PROF, &limit, nullptr);
}

// What a damaged size asks for must not take the machine's memory: beyond the limit it is not given.
void limit_memory() {
  uint64_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  rlimit limit{};
  if (pages == 0 || ::getrlimit(RLIMIT_AS, &limit) != 0) return;
  const rlim_t most = pages * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE)) + kMostMemory;
  limit.rlim_cur = std::min(limit.rlim_cur, most);  // RLIM_INFINITY is the largest
  ::setrlimit(RLIMIT_AS, &limit);
}

bool answer(const Reply& reply, const std::string& bytes) {
  return send_all(kSocket, &reply, sizeof reply) && send_all(kSocket, bytes.data(), bytes.size());
}

// What a fork does first: nothing of the other process is held, and nothing that ends it is heard of.
void stand_alone(int socket) {
  is_reading_process = true;
  // what the terminal sends to all is for the other process; this one ends with it
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE, SIGTSTP}) ::signal(signal, SIG_IGN);
  for (const int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGPROF, SIGALRM})
    ::signal(signal, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  ::pthread_sigmask(SIG_SETMASK, &none, nullptr);
  const rlimit no_core{0, 0};
  ::setrlimit(RLIMIT_CORE, &no_core);
  limit_memory();
  ::prctl(PR_SET_NAME, "apo-reading");
  // nothing stays open here that the other process closes: locks, pipes, files that it removes
  const int null = ::open("/dev/null", O_RDWR);
  for (const int standard : {0, 1, 2}) ::dup2(null, standard);
  ::dup2(socket, kSocket);
  ::close_range(kSocket + 1, ~0u, 0);
}

[[noreturn]] void serve(int socket) {
  stand_alone(socket);
  is_answering = true;
  Request request;
  std::string arguments;
  while (receive_all(kSocket, &request, sizeof request)) {
    arguments.resize(request.length);
    if (!receive_all(kSocket, arguments.data(), arguments.size())) break;
    Packer out;
    limit_time(request.seconds);
    const Outcome outcome = outcome_of(
        [&] {
          Unpacker in(arguments);
          reinterpret_cast<GuardedFile::Function>(request.function)(in, out);
        },
        out);
    limit_time(0);
    if (!answer({outcome, out.bytes().size()}, out.bytes())) break;
  }
  ::_exit(0);
}

void throw_error(Outcome outcome, const std::string& message) {
  switch (outcome) {
    case Outcome::good:
      return;
    case Outcome::config_error:
      throw ConfigError(message);
    case Outcome::data_error:
      throw DataError(message);
    case Outcome::run_error:
      throw RunError(message);
  }
}

// Why a process ended without an answer; empty if it was not for what it read.
std::string reason_of_end(int status) {
  const int signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  if (signal == SIGKILL) return "";
  if (signal == SIGPROF) return "working with it does not come to an end";
  return concat("working with it ends the process that does it (", signal ? ::strsignal(signal) : "?", ")");
}

// How a process ended; 0 if it had to be killed. A process that waits for a disk may not even hear that.
int wait_for_end(pid_t pid) {
  int status = 0;
  pid_t ended = 0;
  for (int i = 0; i < 20 && (ended = ::waitpid(pid, &status, WNOHANG)) == 0; ++i) ::usleep(100 << (i / 2));
  if (ended != 0) return status;
  ::kill(pid, SIGKILL);
  for (int i = 0; i < 100 && ::waitpid(pid, &status, WNOHANG) == 0; ++i) ::usleep(10'000);
  return 0;
}

// Where no standard stream is, should it be closed: what is written to that must not get into a socket.
int behind_standard_streams(int descriptor) {
  if (descriptor < 0 || descriptor >= kSocket) return descriptor;
  const int moved = ::fcntl(descriptor, F_DUPFD_CLOEXEC, kSocket);
  ::close(descriptor);
  return moved;
}

// A forked process that runs `work` and the socket to it.
template <class Work>
std::pair<pid_t, int> fork_with_socket(const Work& work) {
  int ends[2];
  APO_CHECK(RunError, ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0,
            "cannot start a process for HDF5 files: ", strerror(errno));
  for (int& end : ends) end = behind_standard_streams(end);
  const pid_t pid = ::fork();
  if (pid == 0) work(ends[1]);
  const std::string why = strerror(errno);
  ::close(ends[1]);
  if (pid < 0) ::close(ends[0]);
  APO_CHECK(RunError, pid > 0, "cannot start a process for HDF5 files: ", why);
  return {pid, ends[0]};
}

// The reading process, seen from the other one. All calls hold the library's lock.
class Process {
 public:
  ~Process() { end(); }

  // False if the process ended meanwhile. Interrupted, and any other error, after which the process is gone.
  bool exchange(GuardedFile::Function function, const std::string& arguments, const std::string& where,
                Reply& reply, std::string& result, std::span<uint8_t> into) {
    start();
    const Request request{reinterpret_cast<uint64_t>(function), arguments.size(), limit_seconds};
    if (!send_all(socket_, &request, sizeof request) ||
        !send_all(socket_, arguments.data(), arguments.size()))
      return false;
    try {
      return receive(where, reply, result, into);
    } catch (...) {  // half an answer may be under way
      end();
      throw;
    }
  }

  // How the process ended by itself, as waitpid says it; 0 if it did not.
  int end() {
    int status = 0;
    if (ours()) {
      ::close(socket_);
      status = wait_for_end(pid_);  // it ends by itself at the socket's end, unless it hangs
    }
    pid_ = 0;
    return status;
  }

  bool running() const { return ours(); }
  pid_t pid() const { return ours() ? pid_ : 0; }

 private:
  static constexpr uint64_t kLongestReply = uint64_t{1} << 34;

  bool receive(const std::string& where, Reply& reply, std::string& result, std::span<uint8_t> into) {
    Patience patience(pid_, limit_seconds, where);
    if (!receive_all(socket_, &reply, sizeof reply, &patience)) return false;
    if (reply.outcome == Outcome::good && !into.empty() && reply.length == into.size())
      return receive_all(socket_, into.data(), into.size(), &patience);
    if (reply.length > kLongestReply) return false;
    result.resize(reply.length);
    return receive_all(socket_, result.data(), result.size(), &patience);
  }

  // A fork of this process must not talk to what answers this one.
  bool ours() const { return pid_ > 0 && owner_ == ::getpid(); }

  void start() {
    if (ours()) return;
    if (pid_ > 0) ::close(socket_);
    std::tie(pid_, socket_) = fork_with_socket(serve);
    owner_ = ::getpid();
  }

  pid_t pid_ = 0, owner_ = 0;
  int socket_ = -1;
};

Process& process() {
  static Process process;
  return process;
}

void forget(Unpacker& in, Packer&) { forget_file(in.take<int64_t>()); }

}  // namespace

std::vector<int64_t> file_identity(const std::string& path) {
  struct stat status = {};
  if (::stat(path.c_str(), &status) != 0) return {};
  return {static_cast<int64_t>(status.st_dev), static_cast<int64_t>(status.st_ino), status.st_size,
          status.st_mtim.tv_sec, status.st_mtim.tv_nsec};
}

GuardedFile::GuardedFile(std::string file)
    : file_(std::move(file)), path_(std::filesystem::absolute(file_).string()) {
  static std::atomic<int64_t> last = 0;
  number_ = ++last;
}

GuardedFile::~GuardedFile() {
  try {
    Session session;
    Packer number;
    number.put(number_);
    Reply reply;
    std::string result;
    if (process().running() && !process().exchange(forget, number.bytes(), file_, reply, result, {}))
      process().end();
  } catch (...) {  // it forgets everything at its end
  }
}

std::string GuardedFile::run(Function function, const Packer& arguments, const std::string& where,
                             std::span<uint8_t> into) const {
  Session session;
  ++num_calls;
  APO_CHECK(DataError, broken_.empty(), where, ": damaged HDF5 file: ", broken_);
  Packer all;
  all.put(number_);
  all.put(file_);
  all.put(path_);
  all.put(identity_);
  all.bytes() += const_cast<Packer&>(arguments).bytes();
  Reply reply{};
  std::string result;
  // what ended the process may have been another file's doing: once more in a fresh one
  for (int attempt = 0; !process().exchange(function, all.bytes(), where, reply, result, into); ++attempt) {
    const int status = process().end();
    const std::string why = reason_of_end(status);
    APO_CHECK(RunError, !why.empty(), where, ": the process that reads it was killed from outside");
    if (attempt > 0 || (WIFSIGNALED(status) && WTERMSIG(status) == SIGPROF)) broken_ = why;
    APO_CHECK(DataError, broken_.empty(), where, ": damaged HDF5 file: ", broken_);
  }
  throw_error(reply.outcome, result);
  APO_CHECK(DataError, into.empty() || reply.length == into.size(), where, ": damaged HDF5 file");
  if (identity_.empty()) identity_ = file_identity(path_);
  return result;
}

void run_apart(const std::function<void()>& work, const std::string& file, int64_t seconds) {
  Session session;
  const pid_t here = ::getpid();
  const auto [pid, socket] = fork_with_socket([&](int end) {
    stand_alone(end);
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // nobody is left to put the file in its place
    if (::getppid() != here) ::_exit(0);
    limit_time(seconds);
    Packer out;
    const Outcome outcome = outcome_of(work, out);
    answer({outcome, out.bytes().size()}, out.bytes());
    ::_exit(0);
  });
  Reply reply{};
  std::string message;
  bool whole = false;
  try {
    Patience patience(pid, seconds, file);
    whole = receive_all(socket, &reply, sizeof reply, &patience) && reply.length <= kLongestMessage;
    if (whole) {
      message.resize(reply.length);
      whole = receive_all(socket, message.data(), message.size(), &patience);
    }
  } catch (...) {
    ::close(socket);
    ::kill(pid, SIGKILL);
    wait_for_end(pid);
    throw;
  }
  ::close(socket);
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  const std::string why = reason_of_end(status);
  APO_CHECK(RunError, whole || !why.empty(), file, ": the process that writes it was killed from outside");
  APO_CHECK(DataError, whole, file, ": damaged HDF5 file: ", why);
  throw_error(reply.outcome, message);
}

bool in_reading_process() { return is_reading_process; }
bool answers_another_process() { return is_answering; }
void read_here() { is_reading_process = true; }
pid_t reading_process() {
  Session session;
  return process().pid();
}
int64_t calls_made() { return num_calls; }
void set_reading_limit(int seconds) { limit_seconds = seconds; }

}  // namespace apo::data::hdf5
