// A policy of one's own, and the loading of anybody's, with what the room of models needs and nothing else;
// tests/CMakeLists.txt sees that no HDF5 is in the program.
#include <torch/types.h>

#include <cstdio>
#include <memory>

#include "apo/base/error.h"
#include "apo/models/registry.h"

namespace {

using namespace apo;

class Still : public models::Policy {
 public:
  Still()
      : Policy({.codec = std::make_shared<tokenizers::BinCodec>(tokenizers::ActionBins(2), 1),
                .normalizer = tokenizers::Normalizer(1),
                .vocabulary_size = 2}) {}
  models::PolicyInput encode(std::span<const Observation> seen) const override {
    models::PolicyInput input;
    input.state = at::zeros({std::ssize(seen), 1});
    return input;
  }
  models::Score score(const models::PolicyInput& input, const models::ActionTokens&,
                      const models::ActionTokens*) override {
    return {.logits = at::zeros({input.size(), 1, 2}), .mismatched_logits = {}};
  }
  at::Tensor decode(const models::PolicyInput& input, const models::DecodeOptions&) override {
    return at::zeros({input.size(), 1}, at::kLong);
  }
  models::NamedTensors named_parameters() const override { return {}; }
  std::unique_ptr<models::Policy> clone() const override { return std::make_unique<Still>(); }
  void save(const std::filesystem::path&) const override {}
};

}  // namespace

int main(int argc, char** argv) {
  models::register_policy("still", {.create = [](const auto&, const auto&, uint64_t,
                                                 at::Device) -> std::unique_ptr<models::Policy> {
                                      return std::make_unique<Still>();
                                    },
                                    .load = {}});
  models::PolicyOptions options;
  options.type = "still";
  const models::DataFacts facts;
  const auto policy = models::make_policy(options, &facts, 0, at::kCPU);
  const Observation seen;
  const bool decides = policy->act(policy->encode({&seen, 1})).actions == std::vector<ActionChunk>{{{-1}}};
  try {
    models::load_policy(argc > 1 ? argv[1] : "/nowhere", at::kCPU);
  } catch (const DataError& error) {
    std::puts(error.what());
  }
  return decides ? 0 : 1;
}
