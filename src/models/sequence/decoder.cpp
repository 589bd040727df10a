#include "models/sequence/decoder.h"

#include <ATen/CPUGeneratorImpl.h>
#include <torch/types.h>

#include <limits>

#include "apo/base/error.h"
#include "apo/base/random.h"

namespace apo::models {

TokenChooser token_chooser(const DecodeOptions& options) {
  APO_CHECK(ConfigError, options.temperature >= 0, "temperature: expected at least 0, found ",
            options.temperature);
  if (options.temperature == 0)
    return {[](const at::Tensor& logits) { return logits.argmax(-1); }, options.token_probs};
  std::vector<at::Generator> generators;
  for (const uint64_t seed : options.seeds)
    generators.push_back(at::make_generator<at::CPUGeneratorImpl>(mix_seed(seed, "decode")));
  const auto draw = [generators, temperature = options.temperature](const at::Tensor& logits) {
    const auto rows = static_cast<int64_t>(generators.size());
    APO_CHECK(ConfigError, rows == logits.size(0), "decoding at temperature ", temperature, ": expected ",
              logits.size(0), " seeds, one a row, found ", rows);
    const at::Tensor shares = (logits.to(at::kCPU) / temperature).softmax(-1);
    const at::Tensor drawn = at::empty({rows}, at::kLong);
    for (int64_t b = 0; b < rows; ++b) {
      const auto& generator = generators[static_cast<size_t>(b)];
      drawn.narrow(0, b, 1).copy_(at::multinomial(shares[b], 1, /*replacement=*/false, generator));
    }
    return drawn.to(logits.device());
  };
  return {draw, options.token_probs};
}

at::Tensor probs_of(const at::Tensor& logits, const at::Tensor& columns) {
  return logits.softmax(-1).gather(-1, columns.unsqueeze(-1)).squeeze(-1);
}

namespace {

// How many of the first columns of [B, n] hold in every row.
int64_t leading(const at::Tensor& agreed) {
  return agreed.size(1) == 0 ? 0 : agreed.all(0).to(at::kLong).cumprod(0).sum().item<int64_t>();
}

at::Tensor decode_draft(const SequenceNetwork& network, const Decoding& decoding) {
  const int64_t prefix = decoding.prefix.size(1), steps = decoding.steps;
  const int64_t before = decoding.begin.defined();  // rows of the answer that are none of its tokens
  const SequenceLayout layout(decoding.valid, prefix, decoding.prefix.device(), decoding.attention,
                              {before + steps - 1}, decoding.position_gap);
  const at::ScalarType type = decoding.prefix.scalar_type();
  std::vector<KeyValueCache> caches = network.make_caches(decoding.prefix.size(0), layout.size());
  const auto [first, last] = decoding.ids;

  std::vector<at::Tensor> sequence{decoding.prefix};
  if (before > 0) sequence.push_back(decoding.begin);
  if (steps > 1) sequence.push_back(network.embed(decoding.draft.narrow(1, 0, steps - 1), before));
  at::Tensor rows = network.run(at::cat(sequence, 1), {layout, 0, layout.size(), layout.whole(type)},
                                prefix + before - 1, &caches);
  at::Tensor ids = decoding.draft.clone();
  for (int64_t decided = 0;;) {
    // the first of the rows saw what is decided, and each further one the draft up to it
    const at::Tensor logits = network.logits(rows, first, last + 1), columns = logits.argmax(-1);
    const at::Tensor found = columns + first;
    const int64_t looked_at = rows.size(1) - 1;
    const int64_t taken = 1 + leading(found.narrow(1, 0, looked_at).eq(ids.narrow(1, decided, looked_at)));
    ids.narrow(1, decided, taken).copy_(found.narrow(1, 0, taken));
    if (auto* probs = decoding.choose.token_probs) {
      const at::Tensor all = probs_of(logits, columns);
      for (int64_t t = 0; t < taken; ++t) probs->push_back(all.select(1, t));
    }
    decided += taken;
    if (decided == steps) return ids;
    // the cache ends behind the last token that was fed and right
    const int64_t row = before + decided - 1, rest = steps - decided;
    for (KeyValueCache& cache : caches) cache.length = prefix + row;
    rows =
        network.run(network.embed(ids.narrow(1, decided - 1, rest), row),
                    {layout, prefix + row, prefix + row + rest, layout.steps(row, rest, type)}, 0, &caches);
  }
}

}  // namespace

at::Tensor decode(const SequenceNetwork& network, const Decoding& decoding) {
  const at::NoGradGuard no_grad;
  if (decoding.draft.defined()) {
    APO_ASSERT(!decoding.stop && decoding.draft.size(1) == decoding.steps);
    return decode_draft(network, decoding);
  }
  const int64_t batch = decoding.prefix.size(0), prefix = decoding.prefix.size(1), steps = decoding.steps;
  const bool has_begin = decoding.begin.defined();
  const SequenceLayout layout(decoding.valid, prefix, decoding.prefix.device(), decoding.attention,
                              {has_begin ? steps : steps - 1}, decoding.position_gap);
  const at::ScalarType type = decoding.prefix.scalar_type();
  std::vector<KeyValueCache> caches = network.make_caches(batch, layout.size());
  const auto step = [&](const at::Tensor& x, int64_t t) {
    const int64_t column = prefix + t;
    return network.run(x, {layout, column, column + 1, layout.step(t, type)}, 0, &caches);
  };

  // whoever begins with a row of its own reads nothing of the prefix but keys and values
  at::Tensor row = network.run(decoding.prefix, {layout, 0, prefix, layout.prefill(type)},
                               has_begin ? prefix : prefix - 1, &caches);
  if (has_begin) row = step(decoding.begin, 0);

  const auto [first, last] = decoding.ids;
  const at::TensorOptions options = at::TensorOptions(at::kLong).device(decoding.prefix.device());
  at::Tensor ids = at::empty({batch, steps}, options), ended;
  for (int64_t t = 0; t < steps; ++t) {
    const at::Tensor logits = network.logits(row.squeeze(1), first, last + 1);
    const at::Tensor column = decoding.choose(logits);
    if (auto* probs = decoding.choose.token_probs) {
      const at::Tensor prob = probs_of(logits, column);
      probs->push_back(ended.defined() ? prob.masked_fill(ended, std::numeric_limits<float>::quiet_NaN())
                                       : prob);
    }
    at::Tensor chosen = column + first;
    if (decoding.stop) {
      if (t > 0) chosen = chosen.masked_fill(ended, decoding.padding);
      const at::Tensor stops = chosen.eq(*decoding.stop);
      ended = t > 0 ? ended.logical_or(stops) : stops;
    }
    ids.select(1, t).copy_(chosen);
    if (t + 1 == steps) break;
    if (decoding.stop && ended.all().item<bool>()) return ids.narrow(1, 0, t + 1);
    const int64_t next = has_begin ? t + 1 : t;
    row = step(network.embed(ids.narrow(1, t, 1), next), next);
  }
  return ids;
}

}  // namespace apo::models
