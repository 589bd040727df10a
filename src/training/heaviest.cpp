#include "training/heaviest.h"

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <tuple>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/pictures/transforms.h"
#include "apo/pictures/webp.h"
#include "base/paths.h"
#include "results/training_record.h"

namespace apo::training {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kPictureHeight = 192;

bool is_heavier(const WeighedSample& one, const WeighedSample& other) {
  const auto rank = [](const WeighedSample& s) {
    return std::tuple(!s.desirable, -s.lambda, s.desirable ? -s.action_l1 : s.action_l1, s.step);
  };
  return rank(one) < rank(other);
}

std::optional<double> if_finite(double value) {
  return std::isfinite(value) ? std::optional(value) : std::nullopt;
}

void check_index(const data::StepIndex& at, const data::Dataset& dataset) {
  const bool exists = at.file >= 0 && at.file < dataset.num_files() && at.episode >= 0 &&
                      at.episode < dataset.num_episodes(at.file) && at.timestep >= 0 &&
                      at.timestep < dataset.record(at.file, at.episode).num_steps();
  APO_CHECK(DataError, exists, "file ", at.file, ", episode ", at.episode, ", timestep ", at.timestep,
            ": expected a recorded step, found none");
}

at::Tensor picture_of(const data::Sample& sample) {
  at::Tensor image = sample.observation.images.begin()->second;
  if (image.size(0) > kPictureHeight)
    image = pictures::resize(image, kPictureHeight,
                             std::max<int64_t>(1, image.size(1) * kPictureHeight / image.size(0)));
  return pictures::with_border(image, sample.source);
}

}  // namespace

void HeaviestSamples::add(int64_t step, int64_t total_steps, const std::vector<data::Sample>& samples,
                          const BatchOutcome& outcome) {
  if (const int64_t middle = total_steps / 2 + 1; step == middle && from_step_ < middle) {
    samples_.clear();
    from_step_ = middle;
  }
  const auto lambda = outcome.lambda.accessor<double, 1>(), weight = outcome.weight.accessor<double, 1>(),
             reward = outcome.reward.accessor<double, 1>(),
             action_l1 = outcome.action_l1.accessor<double, 1>();
  for (size_t i = 0; i < samples.size(); ++i) {
    const auto row = static_cast<int64_t>(i);
    if (!(lambda[row] > 0 && weight[row] >= 0) || !std::isfinite(action_l1[row])) continue;
    add({samples[i].index, samples[i].source, samples[i].desirable, step, lambda[row], weight[row],
         reward[row], action_l1[row]});
  }
}

void HeaviestSamples::add(const WeighedSample& sample) {
  const auto place = std::upper_bound(samples_.begin(), samples_.end(), sample, is_heavier);
  const auto same_step = [&](const WeighedSample& other) {
    return other.index == sample.index && other.desirable == sample.desirable;
  };
  if (std::any_of(samples_.begin(), place, same_step)) return;
  // those of the group behind it, of which one may have to go
  const auto end = std::find_if(
      place, samples_.end(), [&](const WeighedSample& other) { return other.desirable != sample.desirable; });
  const auto begin = std::find_if(samples_.begin(), place, [&](const WeighedSample& other) {
    return other.desirable == sample.desirable;
  });
  const auto twin = std::find_if(place, end, same_step);
  const bool full = static_cast<size_t>(end - begin) == kMost;
  if (place == end && full) return;
  const auto position = place - samples_.begin();
  if (twin != end)
    samples_.erase(twin);
  else if (full)
    samples_.erase(end - 1);
  samples_.insert(samples_.begin() + position, sample);
}

void HeaviestSamples::restore(int64_t from_step, std::vector<WeighedSample> samples) {
  from_step_ = from_step;
  samples_ = std::move(samples);
}

void write_heaviest_samples(const fs::path& run_directory, const HeaviestSamples& heaviest, int64_t last_step,
                            const data::Dataset& dataset) {
  const fs::path pictures = run_directory / "heaviest";
  std::error_code error;
  fs::remove(run_directory / results::kHeaviestFile, error);  // it names the pictures
  for (fs::directory_iterator entry(pictures, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    std::error_code ignored;
    if (name.find("desirable-") <= 2 && name.ends_with(".webp")) fs::remove(entry->path(), ignored);
  }
  make_directory(pictures);
  results::HeaviestRecord record;
  record.from_step = heaviest.from_step();
  record.to_step = last_step;
  for (const WeighedSample& entry : heaviest.samples()) {
    check_index(entry.index, dataset);
    data::Sample sample = dataset.sample(entry.index);
    sample.source = entry.source;
    std::vector<results::HeavySample>& group = entry.desirable ? record.desirable : record.undesirable;
    std::string picture;
    if (!sample.observation.images.empty()) {
      picture =
          concat("heaviest/", entry.desirable ? "desirable-" : "undesirable-", group.size() + 1, ".webp");
      pictures::write_picture(run_directory / picture, picture_of(sample));
    }
    group.push_back({.file = dataset.file_path(entry.index.file).string(),
                     .episode = dataset.episode_name(entry.index.file, entry.index.episode),
                     .timestep = entry.index.timestep,
                     .source = std::string(to_string(entry.source)),
                     .instruction = sample.observation.instruction,
                     .step = entry.step,
                     .weight = if_finite(entry.weight),
                     .lambda = if_finite(entry.lambda),
                     .reward = if_finite(entry.reward),
                     .action_l1 = if_finite(entry.action_l1),
                     .picture = picture});
  }
  results::write_heaviest(run_directory, record);
}

}  // namespace apo::training
