#include <semaphore.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <map>
#include <mutex>
#include <thread>

#include "apo/base/error.h"
#include "apo/base/finishing.h"

namespace apo {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr auto kGrace = std::chrono::milliseconds(700);  // for what asks `interrupted` by itself
constexpr auto kTick = std::chrono::milliseconds(10);
constexpr int64_t kCleanUpNanoseconds = 300'000'000;

std::atomic<bool> flag = false;
std::atomic<int> num_signals = 0;
sem_t signal_arrived;

// What lives while a process works; never destroyed, since a signal may come while it exits.
struct Work {
  std::mutex mutex;
  int64_t next_id = 0;
  std::map<int64_t, std::string> finishing;
  std::map<int64_t, fs::path> unfinished;
};
Work& work() {
  static Work* const the_work = new Work;
  return *the_work;
}

void on_signal(int) {
  flag = true;
  const int before = num_signals.fetch_add(1);
  sem_post(&signal_arrived);
  if (before == 0) return;
  const timespec clean_up = {.tv_sec = 0, .tv_nsec = kCleanUpNanoseconds};
  if (before == 1) nanosleep(&clean_up, nullptr);  // the watching thread ends the process in that time
  _exit(static_cast<int>(ExitCode::interrupted));
}

void say(const std::string& text) {
  const ssize_t ignored = ::write(STDERR_FILENO, text.data(), text.size());
  static_cast<void>(ignored);
}

[[noreturn]] void end_process() {
  const std::lock_guard lock(work().mutex);
  for (int attempt = 0; attempt < 3; ++attempt)  // its writer may be adding to a directory
    for (const auto& [id, path] : work().unfinished) {
      std::error_code ignored;
      fs::remove_all(path, ignored);
    }
  _exit(static_cast<int>(ExitCode::interrupted));
}

std::string finishing_now() {
  const std::lock_guard lock(work().mutex);
  return work().finishing.empty() ? "" : work().finishing.rbegin()->second;
}

// Waits for a signal and sees to it that the process ends.
void watch(const std::string& program) {
  while (sem_wait(&signal_arrived) != 0) continue;
  std::string told;
  for (Clock::time_point idle_since = Clock::now();; std::this_thread::sleep_for(kTick)) {
    if (num_signals >= 2) end_process();
    if (Clock::now() - idle_since < kGrace) continue;
    const std::string what = finishing_now();
    if (what.empty() && told.empty()) say(program + ": interrupted\n");
    if (what.empty()) end_process();
    if (what != told)
      say(concat(program, ": stopping; finishing ", what, ". A second signal ends it at once.\n"));
    told = what;
    while (finishing_now() == what && num_signals < 2) std::this_thread::sleep_for(kTick);
    idle_since = Clock::now();
  }
}

}  // namespace

void catch_interrupts(const std::string& program) {
  static std::once_flag once;
  std::call_once(once, [&] {
    sem_init(&signal_arrived, 0, 0);
    std::thread(watch, program).detach();
  });
  struct sigaction action = {}, before = {};
  action.sa_handler = on_signal;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGHUP, nullptr, &before);
  if (before.sa_handler != SIG_IGN) sigaction(SIGHUP, &action, nullptr);
}

void catch_interrupts() { catch_interrupts("apo"); }
bool interrupted() { return flag.load(); }
void set_interrupted(bool value) { flag.store(value); }

Finishing::Finishing(const std::string& what) {
  const std::lock_guard lock(work().mutex);
  id_ = work().next_id++;
  work().finishing[id_] = what;
}
Finishing::~Finishing() {
  const std::lock_guard lock(work().mutex);
  work().finishing.erase(id_);
}

Unfinished::Unfinished(const fs::path& path) {
  std::error_code ignored;
  const fs::path whole = fs::absolute(path, ignored);
  const std::lock_guard lock(work().mutex);
  id_ = work().next_id++;
  work().unfinished[id_] = whole;
}
Unfinished::~Unfinished() {
  const std::lock_guard lock(work().mutex);
  work().unfinished.erase(id_);
}
void Unfinished::finish(const std::function<void()>& last) {
  const std::lock_guard lock(work().mutex);
  last();
  work().unfinished.erase(id_);
}

}  // namespace apo
