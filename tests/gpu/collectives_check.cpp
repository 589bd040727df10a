// Sums over ranks on the card: NCCL with one rank, or with as many as a launcher started,
//   torchrun --no-python --nproc-per-node=2 apo-gpu-check collectives --device cuda
#include <c10/core/DeviceGuard.h>
#include <torch/types.h>

#include "apo/base/error.h"
#include "apo/distributed/group.h"
#include "distributed/collectives.h"
#include "gpu/check.h"
#include "training/ranks.h"

namespace apo::gpu {
namespace {

using distributed::Collectives;
using distributed::Group;

// Gradients of an OpenVLA's adapter of rank 32.
constexpr int64_t kAdapter = 110'828'288, kFew = 1 << 16;

// A group of one sends nothing: this asks NCCL itself.
void check_alone(at::Device device, int64_t count, Item& item) {
  const distributed::CollectivesKind* kind = distributed::collectives_for(device.type());
  item.expect(kind != nullptr, "no collectives for this device");
  if (kind == nullptr) return;
  const std::unique_ptr<Collectives> alone = kind->join(kind->name(), 0, 1, device);
  const at::Tensor x = at::arange(count, at::TensorOptions(at::kFloat).device(device)), before = x.clone();
  alone->sum(x);
  alone->broadcast(x.view(at::kByte), 0);
  item.expect(alone->wait(std::chrono::seconds(30)), "NCCL has not finished within 30 s");
  item.at_most("error", distance(x, before), 0);
  alone->sum(x);
  alone->abort();
}

}  // namespace

void check_collectives(const Options& options, at::Device device, Item& item) {
  const Group group(distributed::place_of_process(), {.timeout_seconds = 60, .backend = "nccl"});
  device = training::device_of(options.device, group);
  item.expect(device.is_cuda(), concat("expected a CUDA device, found ", device.str()));
  item.put("ranks", group.size());
  const int64_t count = options.small || device.is_cpu() ? kFew : kAdapter;
  if (group.is_alone()) {
    check_alone(device, count, item);
    return;
  }
  const c10::DeviceGuard guard(device);
  group.connect(device);
  const int64_t rank = group.rank(), all = group.size() * (group.size() + 1) / 2;
  const at::TensorOptions on_device = at::TensorOptions(at::kFloat).device(device);
  const std::vector<at::Tensor> sums = {at::full({count}, rank + 1, on_device),
                                        at::full({7}, rank + 1, on_device.dtype(at::kDouble)),
                                        at::full({7}, rank + 1, on_device.dtype(at::kLong))};
  group.sum(sums);
  double error = 0;
  for (const at::Tensor& sum : sums)
    error = std::max(error, distance(sum, at::full_like(sum, static_cast<double>(all))));
  item.at_most("error", error, 0);
  const at::Tensor sent = at::full({count}, rank, on_device);
  group.broadcast({sent}, group.size() - 1);
  item.at_most("broadcast_error", distance(sent, at::full_like(sent, group.size() - 1.0)), 0);
  if (options.small) return;
  const std::vector<at::Tensor> gradients = {at::zeros({count}, on_device)};
  const Timing timing = measure(device, 2, 10, [&] { group.sum(gradients); });
  item.put("sum", timing.json());
  item.put("gigabytes_per_second", static_cast<double>(gradients[0].nbytes()) / timing.median / 1e9);
}

}  // namespace apo::gpu
