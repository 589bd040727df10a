#include "models/choose_token.h"

#include <ATen/CPUGeneratorImpl.h>
#include <torch/types.h>

#include "apo/base/error.h"
#include "apo/base/random.h"

namespace apo::models {

std::function<at::Tensor(const at::Tensor&)> token_chooser(const DecodeOptions& options) {
  APO_CHECK(ConfigError, options.temperature >= 0, "temperature: expected at least 0, found ",
            options.temperature);
  if (options.temperature == 0) return [](const at::Tensor& logits) { return logits.argmax(-1); };
  auto generator = at::make_generator<at::CPUGeneratorImpl>(mix_seed(options.seed, "decode"));
  return [generator, temperature = options.temperature](const at::Tensor& logits) {
    const at::Tensor shares = (logits.to(at::kCPU) / temperature).softmax(-1);
    return at::multinomial(shares, 1, /*replacement=*/false, generator).squeeze(1).to(logits.device());
  };
}

}  // namespace apo::models
