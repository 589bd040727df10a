#include "apo/data/loader.h"

#include <torch/types.h>

#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>
#include <unordered_map>

#include "apo/base/error.h"
#include "base/stopwatch.h"

namespace apo::data {
namespace {

struct IndexHash {
  size_t operator()(const StepIndex& index) const {
    const auto part = [](int32_t x) { return static_cast<size_t>(static_cast<uint32_t>(x)); };
    return ((part(index.file) * 1000003 + part(index.episode)) * 1000003) ^ part(index.timestep);
  }
};

}  // namespace

struct Loader::State {
  State(const Dataset& dataset, const PoolSampler& sampler, const DataOptions& options, uint64_t seed,
        std::function<void(Observation&)> prepare, Wanted wanted)
      : dataset(dataset),
        sampler(sampler),
        options(options),
        seed(seed),
        prepare(std::move(prepare)),
        wanted(std::move(wanted)) {}

  const Dataset dataset;
  const PoolSampler sampler;
  DataOptions options;
  const uint64_t seed;
  const std::function<void(Observation&)> prepare;
  const Wanted wanted;

  std::mutex mutex;
  std::condition_variable work, done;
  int64_t next_wanted = 0;   // the batch that the caller asks for next
  int64_t next_claimed = 0;  // the batch that the next free worker takes
  bool stop = false;
  std::map<int64_t, Batch> ready;
  std::map<int64_t, std::exception_ptr> failed;
  std::vector<std::thread> threads;

  std::mutex cache_mutex;
  std::unordered_map<StepIndex, std::shared_ptr<const Observation>, IndexHash> cache;

  Observation prepared(const StepIndex& index);
  Random source_of_change(const StepIndex& index, uint64_t batch_seed, size_t slot) const;
  Batch make(int64_t position);
  void work_loop();
};

// Prepared but not augmented.
Observation Loader::State::prepared(const StepIndex& index) {
  if (options.loader.cache) {
    const std::lock_guard lock(cache_mutex);
    const auto found = cache.find(index);
    if (found != cache.end()) return *found->second;
  }
  Observation observation = dataset.observation(index);
  try {
    if (prepare) prepare(observation);
  } catch (const DataError& error) {
    const EpisodeRecord& record = dataset.record(index.file, index.episode);
    throw DataError(concat(dataset.file_path(index.file).string(), ": ", record.name, " timestep ",
                           index.timestep, ": ", error.what(), unused_observations(record)));
  }
  if (options.loader.cache) {
    const std::lock_guard lock(cache_mutex);
    cache.emplace(index, std::make_shared<const Observation>(observation));
  }
  return observation;
}

// With `draws` what decides is the sample itself and which of its draws this slot takes, not the run.
Random Loader::State::source_of_change(const StepIndex& index, uint64_t batch_seed, size_t slot) const {
  const auto draws = static_cast<uint64_t>(options.augmentation.draws);
  if (draws == 0) return Random(batch_seed, "slot", slot);
  const uint64_t draw = mix_seed(batch_seed, "draw", slot) % draws;
  const std::string name = concat(dataset.file_path(index.file).filename().string(), ": ",
                                  dataset.record(index.file, index.episode).name);
  return Random(mix_seed(draw, name, static_cast<uint64_t>(index.timestep)), "draw of a sample");
}

Batch Loader::State::make(int64_t position) {
  Batch batch;
  batch.position = position;
  const uint64_t batch_seed = mix_seed(seed, "augmentation", static_cast<uint64_t>(position));
  for (const StepIndex& index : sampler.batch(position))
    batch.samples.push_back(dataset.sample_without_observation(index));
  const std::vector<bool> reads =
      wanted ? wanted(batch.samples) : std::vector<bool>(batch.samples.size(), true);
  APO_ASSERT(reads.size() == batch.samples.size());
  for (size_t slot = 0; slot < reads.size(); ++slot) {
    if (!reads[slot]) continue;
    Sample& sample = batch.samples[slot];
    sample.observation = prepared(sample.index);
    if (!options.augmentation.enabled) continue;
    Random random = source_of_change(sample.index, batch_seed, slot);
    for (auto& [camera, image] : sample.observation.images)
      image = augment(image, options.augmentation, random);
  }
  return batch;
}

void Loader::State::work_loop() {
  std::unique_lock lock(mutex);
  for (;;) {
    work.wait(lock, [this] { return stop || next_claimed < next_wanted + options.loader.prefetch; });
    if (stop) return;
    const int64_t position = next_claimed++;
    lock.unlock();
    Batch batch;
    std::exception_ptr error;
    try {
      batch = make(position);
    } catch (...) {
      error = std::current_exception();
    }
    lock.lock();
    if (error) {
      failed[position] = error;
    } else {
      ready[position] = std::move(batch);
    }
    done.notify_all();
  }
}

Loader::Loader(const Dataset& dataset, const PoolSampler& sampler, const DataOptions& options, uint64_t seed,
               int64_t first_position, std::function<void(Observation&)> prepare, Wanted wanted)
    : state_(
          std::make_unique<State>(dataset, sampler, options, seed, std::move(prepare), std::move(wanted))) {
  APO_ASSERT(first_position >= 0);
  state_->next_wanted = state_->next_claimed = first_position;
  state_->options.loader.prefetch = std::max<int64_t>(1, options.loader.prefetch);
  for (int64_t i = 0; i < options.loader.workers; ++i)
    state_->threads.emplace_back([s = state_.get()] { s->work_loop(); });
}

Loader::~Loader() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stop = true;
  }
  state_->work.notify_all();
  for (std::thread& thread : state_->threads) thread.join();
}

Batch Loader::next() {
  State& s = *state_;
  const Stopwatch stopwatch;
  Batch batch;
  if (s.threads.empty()) {
    batch = s.make(s.next_wanted++);
  } else {
    std::unique_lock lock(s.mutex);
    const int64_t position = s.next_wanted;
    s.done.wait(lock, [&s, position] { return s.ready.count(position) > 0 || s.failed.count(position) > 0; });
    ++s.next_wanted;
    s.work.notify_all();
    if (const auto found = s.failed.find(position); found != s.failed.end()) {
      const std::exception_ptr error = found->second;
      s.failed.erase(found);
      std::rethrow_exception(error);
    }
    batch = std::move(s.ready.at(position));
    s.ready.erase(position);
  }
  batch.data_seconds = stopwatch.seconds();
  return batch;
}

}  // namespace apo::data
