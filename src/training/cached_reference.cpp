#include "training/cached_reference.h"

#include <torch/types.h>

#include <utility>

#include "apo/base/error.h"
#include "apo/base/hash.h"
#include "apo/base/interrupt.h"
#include "apo/base/log.h"
#include "apo/models/safetensors.h"
#include "base/upload.h"
#include "training/checkpoint.h"
#include "training/learner.h"

namespace apo::training {
namespace {

std::string tokens_name(int64_t position) { return concat(position, ".tokens"); }
std::string mismatched_name(int64_t position) { return concat(position, ".mismatched"); }

}  // namespace

void CachedReference::add(const objective::ReferenceScores& batch) {
  const auto kept = [](const at::Tensor& tensor) { return tensor.defined() ? tensor.to(at::kCPU) : tensor; };
  batches_.push_back({kept(batch.tokens), kept(batch.mismatched)});
}

objective::ReferenceScores CachedReference::score(const Question& question) {
  APO_ASSERT(question.position >= 0 && question.position < num_batches());
  const objective::ReferenceScores& batch = batches_[static_cast<size_t>(question.position)];
  const auto asked = [&question](const at::Tensor& rows) {
    if (!rows.defined()) return rows;
    return upload(rows.slice(0, question.begin, question.end), question.tokens.ids.device());
  };
  return {asked(batch.tokens), asked(batch.mismatched), {}};
}

void CachedReference::look_ahead(const RunAhead& run) {
  const std::filesystem::path file = run.directory / kFile;
  std::string& hash = run.state.cached_reference_hash;
  if (run.resumed) {
    APO_CHECK(DataError, hash.empty() || file_hash(file) == hash, file.string(),
              ": damaged: expected the bytes that training wrote (hash ", hash,
              "), found others; begin anew with --overwrite");
    *this = read(file);
    APO_CHECK(DataError, num_batches() >= run.total_steps, file.string(),
              ": reference.mode cached: expected the reference's log-probabilities of ", run.total_steps,
              " steps, found ", num_batches(),
              "; a run cannot be lengthened beyond what was computed before its first update");
    return;
  }
  PolicyItself start(run.policy);
  start.set_cache(std::exchange(cache_, nullptr));
  const std::unique_ptr<data::Loader> loader = run.loader();
  std::optional<Progress> progress;
  if (run.group.is_first()) progress.emplace("reference", run.total_steps);
  for (int64_t i = 0; i < run.total_steps; ++i) {
    if (run.group.any(interrupted()))
      throw Interrupted("the reference's log-probabilities were not all computed; nothing was trained");
    data::Batch batch = loader->next();
    add(run.learner.reference_scores(batch.samples, start));
    if (progress) progress->update(i + 1);
  }
  if (!progress) return;
  progress->finish();
  start.tell_found();
  write(file);
  hash = file_hash(file);
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
