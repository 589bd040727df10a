#include "training/ranks.h"

#include <torch/types.h>

#include <algorithm>
#include <array>

#include "apo/base/device.h"
#include "apo/base/error.h"
#include "apo/base/metric_list.h"
#include "apo/config/options.h"

namespace apo::training {
namespace {

using distributed::Group;

at::Tensor widened(const at::Tensor& rows, int64_t width, int64_t padding) {
  const at::Tensor numbers = rows.to(at::kCPU, at::kLong);
  const at::Tensor filling = at::full({rows.size(0), width - rows.size(1)}, padding, at::kLong);
  return at::cat({numbers, filling}, 1);
}

}  // namespace

const Group& nobody_else() {
  static const Group alone;
  return alone;
}

models::ActionTokens gather_tokens(const Group& group, const models::ActionTokens& own, const Share& share,
                                   int64_t size, const models::Policy& policy) {
  if (group.is_alone()) return own;
  const int64_t rows = share.size(), horizon = policy.horizon();
  // which optional parts some rank has, what is counted, and how long the answers of each are
  enum Facts { end_tokens, dimensions, validity, clipped, cut, lengths };
  const at::Tensor facts = at::zeros({lengths + group.size()}, at::kLong);
  facts[end_tokens] = own.end_token.defined() ? 1 : 0;
  facts[dimensions] = own.dimension.defined() ? 1 : 0;
  facts[validity] = own.valid.defined() ? 1 : 0;
  facts[clipped] = own.num_clipped;
  facts[cut] = own.num_cut;
  if (rows > 0) facts[lengths + group.rank()] = own.ids.size(1);
  group.sum(facts);
  const auto fact = [&facts](Facts which) { return facts[which].item<int64_t>(); };
  const int64_t width = facts.slice(0, lengths).max().item<int64_t>();

  // ids, mask, end token, dimension: width each; valid: horizon
  at::Tensor packed = at::zeros({rows, 4 * width + horizon}, at::kLong);
  const auto put = [&](int64_t part, const at::Tensor& tensor, int64_t padding) {
    if (rows > 0 && tensor.defined())
      packed.narrow(1, part * width, width).copy_(widened(tensor, width, padding));
  };
  put(0, own.ids, 0);
  put(1, own.mask, 0);
  put(2, own.end_token, 0);
  put(3, own.dimension, -1);
  const at::Tensor valid = packed.narrow(1, 4 * width, horizon);
  if (own.valid.defined())
    valid.copy_(own.valid);
  else
    valid.fill_(1);
  const at::Tensor all = group.gather_rows(packed, share.begin, size).to(policy.device());
  const auto part = [&](int64_t index) { return all.narrow(1, index * width, width).contiguous(); };
  models::ActionTokens tokens;
  tokens.ids = part(0);
  tokens.mask = part(1).to(at::kBool);
  if (fact(end_tokens) > 0) tokens.end_token = part(2).to(at::kBool);
  if (fact(dimensions) > 0) tokens.dimension = part(3);
  if (fact(validity) > 0)
    tokens.valid = all.narrow(1, 4 * width, horizon).to(at::kCPU, at::kBool).contiguous();
  tokens.num_clipped = fact(clipped);
  tokens.num_cut = fact(cut);
  return tokens;
}

void sum_gradients(const Group& group, const models::Policy& policy) {
  const models::NamedTensors parameters = models::trainable_parameters(policy);
  const at::Tensor ranks = at::zeros({std::ssize(parameters)}, at::kLong);  // that have a gradient
  for (size_t i = 0; i < parameters.size(); ++i)
    ranks.data_ptr<int64_t>()[i] = parameters[i].second.grad().defined();
  group.sum(ranks);
  std::vector<at::Tensor> gradients;
  for (size_t i = 0; i < parameters.size(); ++i) {
    if (ranks.data_ptr<int64_t>()[i] == 0) continue;
    at::Tensor parameter = parameters[i].second;
    if (!parameter.grad().defined()) parameter.mutable_grad() = at::zeros_like(parameter);
    gradients.push_back(parameter.grad());
  }
  group.sum(gradients);
}

void reduce(const Group& group, Metrics& metrics) {
  if (group.is_alone()) return;
  std::vector<std::pair<double*, AcrossRanks>> own;
  for (auto& [name, value] : metrics)
    if (const MetricInfo* metric = find_metric(name); metric && metric->across_ranks != AcrossRanks::same)
      own.emplace_back(&value, metric->across_ranks);
  const at::Tensor row = at::zeros({1, std::ssize(own)}, at::kDouble);
  for (size_t i = 0; i < own.size(); ++i) row.data_ptr<double>()[i] = *own[i].first;
  const at::Tensor all = group.gather_rows(row, group.rank(), group.size());
  for (size_t i = 0; i < own.size(); ++i) {
    const at::Tensor of_ranks = all.select(1, static_cast<int64_t>(i));
    const auto [value, how] = own[i];
    *value = (how == AcrossRanks::largest ? of_ranks.max() : of_ranks.min()).item<double>();
  }
}

void check_same_options(const Group& group, const TrainingOptions& options) {
  static constexpr std::array<std::string_view, 5> kFree = {
      "run.device:", "run.threads:", "train.micro_batch_size:", "data.loader.", "logging.level:"};
  const std::string first = group.from_first(config::print(options));
  if (group.is_first()) return;
  const auto of_first =
      config::load<TrainingOptions>(config::Document::from_text(first, {}, "", "the options of rank 0"));
  std::string conflicts;
  for (const std::string& difference : config::differences(of_first, options))
    if (std::ranges::none_of(kFree, [&](std::string_view key) { return difference.starts_with(key); }))
      append_item(conflicts, ", ", difference);
  APO_CHECK(ConfigError, conflicts.empty(), "expected the options of rank 0 on all ranks; rank ",
            group.rank(), " has others: ", conflicts);
}

void check_same_data(const Group& group, const std::string& what, const std::string& value) {
  const std::string first = group.from_first(value);
  APO_CHECK(DataError, first == value, what, ": expected on rank ", group.rank(), " what rank 0 has (hash ",
            first, "), found another (hash ", value, ")");
}

at::Device device_of(const std::string& device, const Group& group) {
  const at::Device selected = select_device(device);
  if (group.is_alone() || !selected.is_cuda()) return selected;
  APO_CHECK(ConfigError, device == "auto" || device == "cuda", "run.device: expected auto, cuda or cpu for ",
            group.size(), " ranks, found ", device, ", one device for all of them");
  const int64_t devices = cuda_state().devices;
  // a launcher may show each rank its own device alone
  APO_CHECK(ConfigError, devices == 1 || group.local_rank() < devices,
            "run.device: expected a GPU for each rank of this machine, found ", devices, " and local rank ",
            group.local_rank());
  return select_device(concat("cuda:", devices == 1 ? 0 : group.local_rank()));
}

}  // namespace apo::training
