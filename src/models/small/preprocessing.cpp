#include "models/small/preprocessing.h"

#include <torch/types.h>

#include <algorithm>
#include <cmath>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/base/text.h"
#include "apo/config/gripper.h"
#include "apo/pictures/transforms.h"
#include "base/json.h"
#include "base/upload.h"
#include "models/observed.h"

namespace apo::models {
namespace {

constexpr double kSmallestDeviation = 1e-6;  // a state that never changes is only centred

const tokenizers::VectorStatistics& state_statistics(const Preprocessing& preprocessing,
                                                     const std::string& key) {
  const auto found = preprocessing.statistics.state.find(key);
  APO_ASSERT(found != preprocessing.statistics.state.end());
  return found->second;
}

}  // namespace

int64_t Preprocessing::state_size() const {
  int64_t size = 0;
  for (const std::string& key : state_keys) size += state_statistics(*this, key).size();
  return size;
}

void Preprocessing::prepare(Observation& observation) const {
  for (const std::string& key : state_keys) state_of(observation, key);
  for (const std::string& camera : cameras)
    observation.images[camera] = pictures::resize(picture_of(observation, camera), image_size, image_size);
}

at::Tensor Preprocessing::images(std::span<const Observation> observations, at::Device device) const {
  std::vector<at::Tensor> pictures;
  pictures.reserve(observations.size() * cameras.size());
  for (const Observation& observation : observations)
    for (const std::string& camera : cameras)
      pictures.push_back(pictures::resize(picture_of(observation, camera), image_size, image_size));
  const auto batch = static_cast<int64_t>(observations.size()), count = static_cast<int64_t>(cameras.size());
  // bytes travel, channels last in memory; the device makes numbers of them
  const at::Tensor stacked = upload(at::stack(pictures), device).permute({0, 3, 1, 2});
  return stacked.to(at::kFloat).div_(255).sub_(0.5).view({batch, count, 3, image_size, image_size});
}

at::Tensor Preprocessing::state(std::span<const Observation> observations) const {
  if (state_keys.empty()) return {};
  const auto batch = static_cast<int64_t>(observations.size());
  at::Tensor result = at::empty({batch, state_size()}, at::kFloat);
  float* out = result.data_ptr<float>();
  for (const Observation& observation : observations) {
    for (const std::string& key : state_keys) {
      const std::vector<float>& numbers = state_of(observation, key);
      const tokenizers::VectorStatistics& spread = state_statistics(*this, key);
      APO_CHECK(DataError, static_cast<int64_t>(numbers.size()) == spread.size(), "observation: state \"",
                key, "\": expected ", spread.size(), " numbers, found ", numbers.size());
      for (size_t i = 0; i < numbers.size(); ++i) {
        const double value = numbers[i];
        APO_CHECK(DataError, std::isfinite(value), "observation: state \"", key, "\"[", i, "]: found ",
                  value);
        const double deviation = spread.std[i] < kSmallestDeviation ? 1.0 : spread.std[i];
        *out++ = static_cast<float>((value - spread.mean[i]) / deviation);
      }
    }
  }
  return result;
}

void Preprocessing::save(const std::filesystem::path& directory) const {
  nlohmann::ordered_json json;
  json["cameras"] = cameras;
  json["image_size"] = image_size;
  json["interpolation"] = "bilinear";
  json["pixel_scale"] = 1.0 / 255;
  json["pixel_offset"] = -0.5;
  json["state_keys"] = state_keys;
  write_json(directory / "preprocessor_config.json", json);
  write_file_atomic(directory / "dataset_statistics.json", tokenizers::to_json(statistics, dataset));
}

Preprocessing Preprocessing::load(const std::filesystem::path& directory, const std::string& unnorm_key) {
  const JsonFile file(directory / "preprocessor_config.json");
  Preprocessing preprocessing;
  preprocessing.cameras = file["cameras"].get<std::vector<std::string>>();
  file["cameras"].expect(!preprocessing.cameras.empty(), "at least one camera");
  preprocessing.image_size = file["image_size"].integer(16, 4096);
  preprocessing.state_keys = file["state_keys"].get<std::vector<std::string>>();
  file["interpolation"].expect(file["interpolation"].raw() == "bilinear", "\"bilinear\"");
  const auto path = directory / "dataset_statistics.json";
  preprocessing.statistics = tokenizers::statistics_from_json(read_file(path), unnorm_key, path.string());
  preprocessing.dataset = unnorm_key.empty() ? JsonFile(path).root().entries().at(0).first : unnorm_key;
  // older statistics left what never changes as it is, which sent a robot a token next to its number
  tokenizers::VectorStatistics& action = preprocessing.statistics.action;
  const auto grippers = config::gripper_dimensions(preprocessing.statistics.gripper, action.size(), "policy");
  for (size_t j = 0; j < action.mask.size(); ++j)
    if (action.min[j] == action.max[j] &&
        std::find(grippers.begin(), grippers.end(), static_cast<int64_t>(j)) == grippers.end())
      action.mask[j] = true;
  for (const std::string& key : preprocessing.state_keys)
    APO_CHECK(DataError, preprocessing.statistics.state.contains(key), path.string(),
              ": no statistics of the state \"", key,
              "\"; there are: ", names_of(preprocessing.statistics.state));
  return preprocessing;
}

}  // namespace apo::models
