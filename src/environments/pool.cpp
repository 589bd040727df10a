#include "environments/pool.h"

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <numeric>
#include <thread>
#include <vector>

#include "apo/base/error.h"
#include "apo/base/log.h"

namespace apo::environments {

// A generation is one call of `each`: the caller raises it, every worker does its share and reports back.
struct EnvironmentPool::State {
  std::vector<std::unique_ptr<Environment>> environments;
  std::vector<std::thread> workers;
  std::mutex mutex;
  std::condition_variable wake, finished;
  uint64_t generation = 0;
  size_t working = 0;
  bool stop = false;
  std::vector<char> chosen;
  std::vector<std::exception_ptr> errors;
  const std::function<void(int64_t)>* job = nullptr;

  // job(i) for the chosen environments of worker `worker`: i = worker, worker + n, ...
  void do_share(size_t worker) {
    for (size_t i = worker; i < environments.size(); i += workers.size()) {
      if (!chosen[i]) continue;
      try {
        (*job)(static_cast<int64_t>(i));
      } catch (...) {
        errors[i] = std::current_exception();
      }
    }
  }

  // `seen`: the calls that were before it.
  void live(size_t worker, uint64_t seen) {
    std::unique_lock lock(mutex);
    while (true) {
      wake.wait(lock, [&] { return stop || generation != seen; });
      if (generation == seen) return;  // stop, and nothing left to do
      seen = generation;
      lock.unlock();
      do_share(worker);
      lock.lock();
      if (--working == 0) finished.notify_one();
    }
  }

  void each(std::span<const int64_t> which, const std::function<void(int64_t)>& work) {
    std::unique_lock lock(mutex);
    std::fill(chosen.begin(), chosen.end(), 0);
    std::fill(errors.begin(), errors.end(), nullptr);
    for (const int64_t i : which) chosen.at(static_cast<size_t>(i)) = 1;
    job = &work;
    working = workers.size();
    ++generation;
    wake.notify_all();
    finished.wait(lock, [&] { return working == 0; });
    for (const std::exception_ptr& error : errors)
      if (error) std::rethrow_exception(error);
  }

  void every(const std::function<void(int64_t)>& work) {
    std::vector<int64_t> all(environments.size());
    std::iota(all.begin(), all.end(), 0);
    each(all, work);
  }

  void resize(size_t size) {
    environments.resize(size);
    chosen.resize(size);
    errors.resize(size);
  }

  // From so many as there are to `threads`.
  void start(size_t threads) {
    std::lock_guard lock(mutex);
    for (size_t worker = workers.size(); worker < threads; ++worker)
      workers.emplace_back([this, worker, seen = generation] { live(worker, seen); });
  }

  ~State() {
    try {
      every([&](int64_t i) { environments[static_cast<size_t>(i)].reset(); });
    } catch (...) {
    }
    {
      std::lock_guard lock(mutex);
      stop = true;
    }
    wake.notify_all();
    for (std::thread& worker : workers) worker.join();
  }
};

EnvironmentPool::EnvironmentPool(const EnvironmentOptions& options, int64_t size, int64_t threads)
    : state_(std::make_unique<State>()) {
  APO_CHECK(ConfigError, size >= 1 && threads >= 0,
            "environments: expected at least one and threads >= 0, found ", size, " and ", threads);
  const auto make = [&](int64_t i) {
    state_->environments[static_cast<size_t>(i)] = make_environment(options);
  };
  state_->resize(1);
  state_->start(1);
  state_->every(make);
  const int64_t most = state_->environments[0]->spec().instances;
  if (most > 0 && most < size)
    log_info("environments: ", most, " instead of ", size, ", as many as ", options.type, " has");
  if (most > 0) size = std::min(size, most);
  if (threads == 0) threads = most > 0 ? size : std::max(1u, std::thread::hardware_concurrency());
  // the first one belongs to the first thread, as its place in the turn says
  state_->resize(static_cast<size_t>(size));
  state_->start(static_cast<size_t>(std::min(threads, size)));
  std::vector<int64_t> others(static_cast<size_t>(size) - 1);
  std::iota(others.begin(), others.end(), 1);
  state_->each(others, make);
}

EnvironmentPool::~EnvironmentPool() = default;

int64_t EnvironmentPool::size() const { return static_cast<int64_t>(state_->environments.size()); }

void EnvironmentPool::run(std::span<const int64_t> which,
                          const std::function<void(int64_t, Environment&)>& work) {
  state_->each(which, [&](int64_t i) { work(i, *state_->environments[static_cast<size_t>(i)]); });
}

}  // namespace apo::environments
