#include "models/sequence/replayed.h"

#include <torch/types.h>

#include <algorithm>

#include "apo/base/error.h"

namespace apo::models {
namespace {

constexpr int64_t kCallsBefore = 2;  // that are not recorded: shapes that come once are not worth it
constexpr size_t kMostEntries = 8;   // each holds the memory of one run of the body

std::vector<int64_t> shapes_of(const Replayed::Inputs& inputs) {
  std::vector<int64_t> shapes;
  for (const at::Tensor& input : inputs) {
    shapes.push_back(input.defined() ? input.dim() : -1);
    if (!input.defined()) continue;
    shapes.push_back(static_cast<int64_t>(input.scalar_type()));
    shapes.insert(shapes.end(), input.sizes().begin(), input.sizes().end());
  }
  return shapes;
}

at::Device device_of(const Replayed::Inputs& inputs) {
  const auto found = std::ranges::find_if(inputs, [](const at::Tensor& input) { return input.defined(); });
  APO_ASSERT(found != inputs.end());
  return found->device();
}

}  // namespace

Replayed::Entry& Replayed::entry_of(const Inputs& inputs) {
  const std::vector<int64_t> shapes = shapes_of(inputs);
  auto found = std::ranges::find(entries_, shapes, &Entry::shapes);
  if (found == entries_.end()) {
    if (entries_.size() == kMostEntries)
      entries_.erase(std::ranges::min_element(entries_, {}, &Entry::last_call));
    entries_.emplace_back().shapes = shapes;
    found = std::prev(entries_.end());
  }
  ++found->calls;
  found->last_call = ++calls_;
  return *found;
}

at::Tensor Replayed::run(const Inputs& inputs, const std::vector<int64_t>& state, const Body& body) {
  const at::NoGradGuard no_grad;
  if (state != state_) clear();
  state_ = state;
  Entry& entry = entry_of(inputs);
  if (entry.graph == nullptr) {
    if (entry.calls <= kCallsBefore) return body(inputs);
    entry.inputs.clear();  // of a recording that threw
    for (const at::Tensor& input : inputs) entry.inputs.push_back(input.defined() ? input.clone() : input);
    entry.graph = record_graph(device_of(inputs), [&entry, body] { entry.result = body(entry.inputs); });
    if (entry.graph == nullptr) {
      entry.inputs.clear();
      entry.result = at::Tensor();
      return body(inputs);
    }
  }
  for (size_t i = 0; i < inputs.size(); ++i)
    if (inputs[i].defined()) entry.inputs[i].copy_(inputs[i]);
  entry.graph->replay();
  return entry.result.clone();
}

}  // namespace apo::models
