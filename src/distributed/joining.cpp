#include "distributed/joining.h"

#include <torch/types.h>

#include <atomic>
#include <functional>
#include <future>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "apo/base/error.h"
#include "apo/base/log.h"
#include "distributed/reason.h"

namespace apo::distributed {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kLook = std::chrono::milliseconds(100);
constexpr int64_t kTrials[] = {1, int64_t{1} << 20};  // float32 numbers

// Much is made only with the first sum, of some sizes.
void try_out(Collectives& joined, at::Device device, const std::atomic<bool>& given_up) {
  for (const int64_t size : kTrials) {
    const at::Tensor zeros = at::zeros({size}, at::TensorOptions(at::kFloat).device(device));
    joined.sum(zeros);
    joined.broadcast(zeros.view(at::kByte), 0);
    while (!joined.wait(kLook)) {
      if (!given_up) continue;
      joined.abort();
      throw RunError("another rank could not join");
    }
    APO_CHECK(RunError, zeros.count_nonzero().item<int64_t>() == 0, "a sum of zeros is not zero");
  }
}

// In a thread of its own: a rank that cannot be reached is waited for without end.
class Joining {
 public:
  Joining(std::function<std::unique_ptr<Collectives>()> join, at::Device device) {
    std::packaged_task<std::unique_ptr<Collectives>()> task(
        [join = std::move(join), device, given_up = given_up_]() -> std::unique_ptr<Collectives> {
          std::unique_ptr<Collectives> joined = join();
          try_out(*joined, device, *given_up);
          return joined;
        });
    joined_ = task.get_future();
    std::thread(std::move(task)).detach();
  }
  ~Joining() { *given_up_ = true; }
  Joining(const Joining&) = delete;
  Joining& operator=(const Joining&) = delete;

  // Once; null where they are not yet after `longest`.
  std::unique_ptr<Collectives> wait(std::chrono::milliseconds longest) {
    return joined_.wait_for(longest) == std::future_status::ready ? joined_.get() : nullptr;
  }

 private:
  std::shared_ptr<std::atomic<bool>> given_up_ = std::make_shared<std::atomic<bool>>(false);
  std::future<std::unique_ptr<Collectives>> joined_;
};

std::string why_not(const std::function<void()>& body) {
  try {
    body();
    return "";
  } catch (const std::exception& error) {
    return reason(error);
  }
}

std::string of_all_ranks(const Group& group, const std::string& problem) {
  std::string problems;
  const std::vector<std::string> all = group.gather(problem);
  for (size_t rank = 0; rank < all.size(); ++rank)
    if (!all[rank].empty()) append_item(problems, "; ", concat("rank ", rank, ": ", all[rank]));
  return problems;
}

// The joined, or what is in the way.
std::pair<std::unique_ptr<Collectives>, std::string> join_all(const Group& group, at::Device device,
                                                              const CollectivesKind& kind,
                                                              const DistributedOptions& options) {
  std::string name;
  const std::string unnamed = why_not([&] {
    kind.load();
    if (group.is_first()) name = kind.name();
  });
  if (std::string problems = of_all_ranks(group, unnamed); !problems.empty()) return {nullptr, problems};
  name = group.from_first(name);
  Joining joining([join = kind.join, name, rank = group.rank(), size = group.size(),
                   device] { return join(name, rank, size, device); },
                  device);
  const auto end = Clock::now() + std::chrono::seconds(options.timeout_seconds);
  std::unique_ptr<Collectives> joined;
  while (true) {
    std::string problem = why_not([&] {
      if (!joined) joined = joining.wait(between_looks(options));
    });
    if (!joined && problem.empty() && Clock::now() > end) problem = "the others' devices do not answer";
    const auto [waiting, failed] = group.any({!joined, !problem.empty()});
    if (failed) {
      if (joined) joined->abort();
      return {nullptr, of_all_ranks(group, problem)};
    }
    if (!waiting) return {std::move(joined), ""};
  }
}

}  // namespace

std::unique_ptr<Collectives> join_devices(const Group& group, at::Device device,
                                          const DistributedOptions& options) {
  const CollectivesKind* kind = collectives_for(device.type());
  const auto [some_without, some_with] = group.any({kind == nullptr, kind != nullptr});
  const bool asked_for = options.backend == "nccl";
  if (!some_with && !asked_for) return nullptr;
  std::unique_ptr<Collectives> joined;
  std::string problems;
  if (some_without)
    problems = of_all_ranks(group, kind == nullptr ? "has no GPU" : "");
  else
    std::tie(joined, problems) = join_all(group, device, *kind, options);
  if (problems.empty()) return joined;
  APO_CHECK(RunError, !asked_for, "distributed.backend: expected NCCL to work on all ranks, found ",
            problems);
  if (group.is_first())
    log_warn(
        "distributed.backend: gradients pass through the hosts' memory, which is slower, since NCCL does "
        "not work on all ranks: ",
        problems);
  return nullptr;
}

}  // namespace apo::distributed
