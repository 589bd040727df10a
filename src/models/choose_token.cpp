#include "models/choose_token.h"

#include <ATen/CPUGeneratorImpl.h>
#include <torch/types.h>

#include <vector>

#include "apo/base/error.h"
#include "apo/base/random.h"

namespace apo::models {

std::function<at::Tensor(const at::Tensor&)> token_chooser(const DecodeOptions& options) {
  APO_CHECK(ConfigError, options.temperature >= 0, "temperature: expected at least 0, found ",
            options.temperature);
  if (options.temperature == 0) return [](const at::Tensor& logits) { return logits.argmax(-1); };
  std::vector<at::Generator> generators;
  for (const uint64_t seed : options.seeds)
    generators.push_back(at::make_generator<at::CPUGeneratorImpl>(mix_seed(seed, "decode")));
  return [generators, temperature = options.temperature](const at::Tensor& logits) {
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
}

}  // namespace apo::models
