#include "apo/base/interrupt.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>

#include "apo/base/error.h"

namespace apo {
namespace {

std::atomic<bool> arrived = false;

void on_signal(int) {
  if (arrived.exchange(true)) _exit(static_cast<int>(ExitCode::interrupted));
}

}  // namespace

void catch_interrupts() {
  struct sigaction action = {};
  action.sa_handler = on_signal;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

bool interrupted() { return arrived.load(); }
void set_interrupted(bool value) { arrived.store(value); }

}  // namespace apo
