// A tiny OpenVLA whose numbers transformers and peft have computed in float32 on a CPU
// (tests/models/goldens/openvla): logits, log-probabilities, greedy ids and adapter gradients in float32 and
// bfloat16.
#include <ATen/Context.h>
#include <torch/types.h>

#include <map>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/models/linear.h"
#include "apo/models/registry.h"
#include "apo/models/safetensors.h"
#include "gpu/check.h"

namespace apo::gpu {
namespace {

namespace fs = std::filesystem;
using models::ActionTokens;
using models::Policy;
using models::PolicyInput;

constexpr const char* kAdapter = "adapter_old";

// What the network gives for the recorded pictures, prompts and answers.
struct Answers {
  at::Tensor logits, log_probs, greedy, greedy_again;
  std::map<std::string, at::Tensor> gradients;
};

class Golden {
 public:
  explicit Golden(const fs::path& directory)
      : directory_(directory),
        json_(Json::parse(read_file(directory / "golden.json"))),
        base_(directory / "golden.safetensors"),
        results_(directory / concat("golden_", kAdapter, ".safetensors")) {}

  Answers expected() const {
    Answers answers{.logits = results_.tensor("answer_logits"),
                    .log_probs = results_.tensor("token_log_probs"),
                    .greedy = results_.tensor("greedy_ids"),
                    .greedy_again = results_.tensor("greedy_ids"),
                    .gradients = {}};
    const std::string prefix = "gradient.base_model.model.";
    for (const std::string& name : results_.names())
      if (name.starts_with(prefix)) answers.gradients[name.substr(prefix.size())] = results_.tensor(name);
    return answers;
  }

  Answers computed(at::Device device, const std::string& dtype) const {
    models::PolicyOptions options;
    options.checkpoint = (directory_ / "checkpoint").string();
    options.adapter = (directory_ / kAdapter).string();
    options.lora.rank = json_["adapters"][kAdapter]["rank"];
    options.unnorm_key = json_["unnorm_key"];
    options.of<models::OpenVlaOptions>().dtype = dtype;
    options.of<models::OpenVlaOptions>().action_tokens_only = false;
    const auto policy = models::make_policy(options, nullptr, 0, device);
    const PolicyInput in = input(device, dtype == "bfloat16" ? at::kBFloat16 : at::kFloat);
    ActionTokens tokens;
    tokens.ids = base_.tensor("answer_ids").to(device);
    Answers answers;
    answers.logits = policy->score(in, tokens).logits.whole();
    answers.log_probs = answers.logits.log_softmax(-1).gather(-1, tokens.ids.unsqueeze(-1)).squeeze(-1);
    answers.log_probs.sum().neg().backward();
    for (const auto& [name, linear] : policy->adapter_slots()->layers())
      if (const models::LinearAdapter* adapter = linear->find(models::kTrainedSlot))
        for (const auto& [letter, tensor] : {std::pair("A", adapter->a), std::pair("B", adapter->b)})
          if (tensor.grad().defined())
            answers.gradients[name + ".lora_" + letter + ".weight"] = tensor.grad();
    answers.greedy = policy->decode(in);
    policy->set_training(false);
    for (int i = 0; i < 4; ++i) answers.greedy_again = policy->decode(in);  // recorded and replayed on CUDA
    return answers;
  }

 private:
  // As Python fed them; prompts end in one column, the padding stands behind the begin token.
  PolicyInput input(at::Device device, at::ScalarType type) const {
    const at::Tensor pixels = base_.tensor("pixel_values");
    const auto prompts = json_["prompt_ids"].get<std::vector<std::vector<int64_t>>>();
    size_t longest = 0;
    for (const auto& prompt : prompts) longest = std::max(longest, prompt.size());
    at::Tensor ids = at::zeros({std::ssize(prompts), static_cast<int64_t>(longest)}, at::kLong);
    at::Tensor mask = at::zeros(ids.sizes(), at::kBool);
    for (int64_t i = 0; i < std::ssize(prompts); ++i) {
      const auto& prompt = prompts[static_cast<size_t>(i)];
      const auto padding = static_cast<int64_t>(longest - prompt.size());
      for (int64_t j = 0; j < std::ssize(prompt); ++j) {
        const int64_t column = j == 0 ? 0 : padding + j;
        ids[i][column] = prompt[static_cast<size_t>(j)];
        mask[i][column] = true;
      }
    }
    PolicyInput in;
    in.images = pixels.view({pixels.size(0), 2, 3, pixels.size(2), pixels.size(3)}).to(device, type);
    in.prompt = ids.to(device);
    in.prompt_mask = mask.to(device);
    return in;
  }

  fs::path directory_;
  Json json_;
  models::SafetensorsReader base_, results_;
};

struct Differences {
  double logits = 0, log_probs = 0, ids = 0, gradients = 0;
};

double share_of_others(const at::Tensor& ids, const at::Tensor& expected) {
  return ids.to(at::kCPU).ne(expected.to(at::kCPU)).to(at::kDouble).mean().item<double>();
}

Differences difference(const Answers& ours, const Answers& theirs) {
  Differences off{.logits = distance(ours.logits, theirs.logits),
                  .log_probs = distance(ours.log_probs, theirs.log_probs),
                  .ids = std::max(share_of_others(ours.greedy, theirs.greedy),
                                  share_of_others(ours.greedy_again, theirs.greedy_again))};
  std::vector<at::Tensor> a, b;
  for (const auto& [name, gradient] : theirs.gradients) {
    const auto found = ours.gradients.find(name);
    APO_CHECK(RunError, found != ours.gradients.end(), "gradients: expected one of ", name, ", found none");
    a.push_back(found->second.to(at::kCPU, at::kDouble).flatten());
    b.push_back(gradient.to(at::kCPU, at::kDouble).flatten());
  }
  off.gradients = relative_distance(at::cat(a), at::cat(b));
  return off;
}

void record(const std::string& name, const Differences& off, const Differences& limit, Item& item) {
  item.at_most(name + "/logits", off.logits, limit.logits);
  item.at_most(name + "/token_log_probs", off.log_probs, limit.log_probs);
  item.at_most(name + "/share_of_other_greedy_ids", off.ids, limit.ids);
  item.at_most(name + "/adapter_gradients_relative", off.gradients, limit.gradients);
}

}  // namespace

void check_parity(const Options& options, at::Device device, Item& item) {
  const Golden golden(options.data / "openvla");
  const Answers expected = golden.expected();
  const std::string where = device.is_cuda() ? "cuda" : "cpu";
  record(where + "/float32_against_transformers", difference(golden.computed(device, "float32"), expected),
         {.logits = 1e-3, .log_probs = 1e-3, .ids = 0, .gradients = 1e-3}, item);
  item.progress();

  // bfloat16 has eight bits: how far it may be from float32 is what it is on the CPU
  const Answers half = golden.computed(device, "bfloat16");
  const Differences off = difference(half, expected);
  if (!device.is_cuda()) {
    record("cpu/bfloat16_against_float32", off,
           {.logits = 0.5, .log_probs = 0.5, .ids = 0.5, .gradients = 0.1}, item);
    return;
  }
  const Answers on_cpu = golden.computed(at::kCPU, "bfloat16");
  const Differences usual = difference(on_cpu, expected);
  record("cpu/bfloat16_against_float32", usual,
         {.logits = 0.5, .log_probs = 0.5, .ids = 0.5, .gradients = 0.1}, item);
  record("cuda/bfloat16_against_float32", off,
         {.logits = 3 * usual.logits,
          .log_probs = 3 * usual.log_probs,
          .ids = 0.5,
          .gradients = 3 * usual.gradients},
         item);
  record("cuda/bfloat16_against_cpu", difference(half, on_cpu),
         {.logits = 3 * usual.logits,
          .log_probs = 3 * usual.log_probs,
          .ids = 0.5,
          .gradients = 3 * usual.gradients},
         item);
}

}  // namespace apo::gpu
