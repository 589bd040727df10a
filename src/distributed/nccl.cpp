#include "distributed/nccl.h"

#include <c10/core/DeviceGuard.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <cstring>
#include <map>
#include <optional>
#include <string_view>
#include <thread>
#include <utility>

#include "apo/base/error.h"
#include "base/shared_library.h"

namespace apo::distributed {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kSuccess = 0, kInProgress = 7, kSum = 0;
constexpr int kUint8 = 1, kInt64 = 4, kFloat32 = 7, kFloat64 = 8;
constexpr auto kSpin = std::chrono::milliseconds(2), kNap = std::chrono::milliseconds(1);
constexpr auto kSettle = std::chrono::minutes(1);

int type_of(const at::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kByte:
      return kUint8;
    case at::kLong:
      return kInt64;
    case at::kFloat:
      return kFloat32;
    case at::kDouble:
      return kFloat64;
    default:
      APO_ASSERT(false);
  }
  return -1;
}

// Throws unless the call worked, or still does.
void check(const NcclFunctions& functions, int result, void* comm) {
  if (result == kSuccess || result == kInProgress) return;
  std::string why = functions.get_error_string(result);
  if (const char* detail = functions.get_last_error(comm); detail != nullptr && *detail != '\0')
    why += concat(" (", std::string_view(detail).substr(0, std::string_view(detail).find('\n')), ")");
  throw RunError("NCCL: " + why);
}

class Nccl final : public Collectives {
 public:
  Nccl(const NcclFunctions& functions, const std::string& name, int64_t rank, int64_t size, at::Device device)
      : functions_(functions), device_(device) {
    NcclId id = {};
    APO_ASSERT(name.size() == sizeof id.bytes);
    std::memcpy(id.bytes, name.data(), sizeof id.bytes);
    const c10::DeviceGuard guard(device);
    settle(functions_.comm_init_rank(&comm_, static_cast<int>(size), id, static_cast<int>(rank)));
  }
  ~Nccl() override {
    if (comm_ != nullptr) functions_.comm_destroy(comm_);
  }
  Nccl(const Nccl&) = delete;
  Nccl& operator=(const Nccl&) = delete;

  void sum(const at::Tensor& tensor) override {
    queue(tensor, [&](void* data, void* stream) {
      return functions_.all_reduce(data, data, static_cast<size_t>(tensor.numel()), type_of(tensor), kSum,
                                   comm_, stream);
    });
  }

  void broadcast(const at::Tensor& bytes, int64_t from) override {
    queue(bytes, [&](void* data, void* stream) {
      return functions_.broadcast(data, data, bytes.nbytes(), kUint8, static_cast<int>(from), comm_, stream);
    });
  }

  bool wait(std::chrono::milliseconds longest) override {
    const auto begin = Clock::now();
    while (!is_done()) {
      const auto waited = Clock::now() - begin;
      if (waited >= longest) return false;
      if (waited < kSpin)
        std::this_thread::yield();
      else
        std::this_thread::sleep_for(kNap);
    }
    return true;
  }

  void abort() noexcept override {
    if (comm_ != nullptr) functions_.comm_abort(std::exchange(comm_, nullptr));
  }

 private:
  void check(int result) const { distributed::check(functions_, result, comm_); }

  // With NCCL_COMM_BLOCKING=0 a call returns before it has queued anything.
  void settle(int result) const {
    const auto end = Clock::now() + kSettle;
    while (result == kInProgress && Clock::now() < end) {
      std::this_thread::sleep_for(kNap);
      check(functions_.comm_get_async_error(comm_, &result));
    }
    check(result);
    APO_CHECK(RunError, result == kSuccess, "NCCL: a call was not queued within a minute");
  }

  template <class Call>
  void queue(const at::Tensor& tensor, const Call& call) {
    APO_ASSERT(comm_ != nullptr && tensor.device() == device_ && tensor.is_contiguous());
    const c10::DeviceGuard guard(device_);
    if (!device_.is_cuda()) {
      settle(call(tensor.mutable_data_ptr(), nullptr));
      return;
    }
    const c10::impl::VirtualGuardImpl cuda(at::kCUDA);
    const c10::Stream stream = cuda.getStream(device_);
    settle(call(tensor.mutable_data_ptr(), cuda.getStreamNativeHandle(stream)));
    queued_.emplace(at::kCUDA);
    queued_->record(stream);
  }

  bool is_done() const {
    int result = kSuccess;
    check(functions_.comm_get_async_error(comm_, &result));
    check(result);
    return result != kInProgress && (!queued_ || queued_->query());
  }

  const NcclFunctions& functions_;
  at::Device device_;
  void* comm_ = nullptr;
  std::optional<c10::Event> queued_;
};

std::map<at::DeviceType, CollectivesKind>& kinds() {
  static std::map<at::DeviceType, CollectivesKind> kinds = {{at::kCUDA, nccl_collectives(nccl_functions)}};
  return kinds;
}

}  // namespace

const NcclFunctions& nccl_functions() {
  static const NcclFunctions functions = [] {
    SharedLibrary library("libnccl.so.2");
    NcclFunctions found = {};
    library.find(found.get_unique_id, "ncclGetUniqueId");
    library.find(found.comm_init_rank, "ncclCommInitRank");
    library.find(found.all_reduce, "ncclAllReduce");
    library.find(found.broadcast, "ncclBroadcast");
    library.find(found.comm_get_async_error, "ncclCommGetAsyncError");
    library.find(found.comm_destroy, "ncclCommDestroy");
    library.find(found.comm_abort, "ncclCommAbort");
    library.find(found.get_error_string, "ncclGetErrorString");
    library.find(found.get_last_error, "ncclGetLastError");
    library.keep();
    return found;
  }();
  return functions;
}

CollectivesKind nccl_collectives(const std::function<const NcclFunctions&()>& functions) {
  return {.load = [functions] { functions(); },
          .name =
              [functions] {
                NcclId id = {};
                check(functions(), functions().get_unique_id(&id), /*comm=*/nullptr);
                return std::string(id.bytes, sizeof id.bytes);
              },
          .join = [functions](const std::string& name, int64_t rank, int64_t size,
                              at::Device device) -> std::unique_ptr<Collectives> {
            return std::make_unique<Nccl>(functions(), name, rank, size, device);
          }};
}

const CollectivesKind* collectives_for(at::DeviceType type) {
  const auto found = kinds().find(type);
  return found == kinds().end() ? nullptr : &found->second;
}

void set_collectives(at::DeviceType type, CollectivesKind kind) {
  kinds().insert_or_assign(type, std::move(kind));
}

}  // namespace apo::distributed
