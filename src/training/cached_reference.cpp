#include "training/cached_reference.h"

#include <torch/types.h>

#include "apo/base/error.h"
#include "apo/models/safetensors.h"

namespace apo::training {
namespace {

std::string tokens_name(int64_t position) { return concat(position, ".tokens"); }
std::string mismatched_name(int64_t position) { return concat(position, ".mismatched"); }

}  // namespace

void CachedReference::add(const objective::ReferenceScores& batch) {
  const auto kept = [](const at::Tensor& tensor) { return tensor.defined() ? tensor.to(at::kCPU) : tensor; };
  batches_.push_back({kept(batch.tokens), kept(batch.mismatched)});
}

objective::ReferenceScores CachedReference::batch(int64_t position, at::Device device) const {
  APO_ASSERT(position >= 0 && position < num_batches());
  const objective::ReferenceScores& batch = batches_[static_cast<size_t>(position)];
  return {batch.tokens.to(device), batch.mismatched.defined() ? batch.mismatched.to(device) : at::Tensor()};
}

void CachedReference::write(const std::filesystem::path& file) const {
  models::NamedTensors tensors;
  for (int64_t i = 0; i < num_batches(); ++i) {
    const objective::ReferenceScores& batch = batches_[static_cast<size_t>(i)];
    tensors.emplace_back(tokens_name(i), batch.tokens);
    if (batch.mismatched.defined()) tensors.emplace_back(mismatched_name(i), batch.mismatched);
  }
  models::write_safetensors(file, tensors);
}

CachedReference CachedReference::read(const std::filesystem::path& file) {
  const models::SafetensorsReader reader(file);
  CachedReference cached;
  const auto read = [&](const std::string& name) {
    const at::Tensor found = reader.tensor(name).clone();
    APO_CHECK(DataError,
              found.dim() == 2 && found.scalar_type() == at::kFloat && at::isfinite(found).all().item<bool>(),
              file.string(), ": ", name, ": expected finite float32 numbers [samples, tokens], found ",
              found.scalar_type(), " ", found.sizes(), found.dim() == 2 ? ", some of them not finite" : "");
    return found;
  };
  for (int64_t i = 0; reader.has(tokens_name(i)); ++i)
    cached.batches_.push_back(
        {read(tokens_name(i)), reader.has(mismatched_name(i)) ? read(mismatched_name(i)) : at::Tensor()});
  APO_CHECK(DataError, cached.num_batches() > 0, file.string(),
            ": expected tensors 0.tokens, 1.tokens ..., found none of them");
  return cached;
}

}  // namespace apo::training
