// NCCL's functions for tensors in the memory of processes that fork after it was made: what Group does with
// NCCL, without a GPU.
#pragma once

#include <ATen/ATen.h>
#include <sys/mman.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <thread>

#include "distributed/nccl.h"

namespace apo::testing {

class SharedNccl {
 public:
  static constexpr int64_t kRanks = 4, kCalls = 1 << 16, kBytes = 1 << 22;
  /// What each process may say of itself.
  struct Said {
    std::atomic<int> calls, aborted, destroyed;
  };

  SharedNccl() {
    void* memory = ::mmap(nullptr, sizeof(Memory), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    memory_ = memory == MAP_FAILED ? nullptr : static_cast<Memory*>(memory);
    current() = this;
  }
  ~SharedNccl() {
    current() = nullptr;
    ::munmap(memory_, sizeof(Memory));
  }
  SharedNccl(const SharedNccl&) = delete;
  SharedNccl& operator=(const SharedNccl&) = delete;

  int refuse_on_rank = -1;  ///< joining fails there
  int fail_on_rank = -1;    ///< what is queued fails there
  const Said& said(int rank) const { return memory_->said[static_cast<size_t>(rank)]; }

  static const distributed::NcclFunctions& functions() {
    static const distributed::NcclFunctions functions = {
        .get_unique_id =
            [](distributed::NcclId* id) {
              std::memset(id->bytes, 0, sizeof id->bytes);
              std::strcpy(id->bytes, "the one");
              return 0;
            },
        .comm_init_rank =
            [](void** comm, int size, distributed::NcclId id, int rank) {
              if (rank == current()->refuse_on_rank) return 5;
              if (std::strcmp(id.bytes, "the one") != 0) return 4;
              current()->rank_ = rank;
              current()->size_ = size;
              ++current()->memory_->joined;
              while (current()->memory_->joined < size)
                std::this_thread::sleep_for(std::chrono::milliseconds(1));
              *comm = current();
              return 0;
            },
        .all_reduce = [](const void* from, void* to, size_t count, int type, int, void*,
                         void*) { return current()->all_reduce(from, to, count, type); },
        .broadcast =
            [](const void* from, void* to, size_t count, int, int root, void*, void*) {
              return current()->exchange(from, count, [&](Memory& memory) {
                std::memcpy(to, memory.bytes[static_cast<size_t>(root)].data(), count);
              });
            },
        .comm_get_async_error =
            [](void*, int* result) {
              *result = current()->rank_ == current()->fail_on_rank ? 6 : current()->stuck_ ? 7 : 0;
              return 0;
            },
        .comm_destroy = [](void*) { return current()->own().destroyed++, 0; },
        .comm_abort = [](void*) { return current()->own().aborted++, 0; },
        .get_error_string = [](int result) { return result == 5 ? "invalid usage" : "remote error"; },
        .get_last_error = [](void*) { return "two ranks on one device\nand more"; }};
    return functions;
  }

 private:
  struct Memory {
    std::atomic<int> joined;
    std::array<Said, kRanks> said;
    std::array<std::atomic<int>, kCalls> came, went;
    std::array<std::array<char, kBytes>, kRanks> bytes;
  };

  static SharedNccl*& current() {
    static SharedNccl* current = nullptr;
    return current;
  }
  Said& own() { return memory_->said[static_cast<size_t>(rank_)]; }

  // As on a device's queue: who is not there is waited for without end, and the host goes on.
  bool all(std::atomic<int>& count) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(2);
    while (count < size_ && std::chrono::steady_clock::now() < end) std::this_thread::yield();
    stuck_ = stuck_ || count < size_;
    return !stuck_;
  }

  template <class Use>
  int exchange(const void* from, size_t bytes, const Use& use) {
    if (bytes > kBytes || own().calls >= kCalls) return 4;
    const auto call = static_cast<size_t>(own().calls++);
    if (call > 0 && !all(memory_->went[call - 1])) return 0;
    std::memcpy(memory_->bytes[static_cast<size_t>(rank_)].data(), from, bytes);
    ++memory_->came[call];
    if (all(memory_->came[call])) use(*memory_);
    ++memory_->went[call];
    return 0;
  }

  int all_reduce(const void* from, void* to, size_t count, int type) {
    const at::ScalarType scalar = type == 1   ? at::kByte
                                  : type == 4 ? at::kLong
                                  : type == 7 ? at::kFloat
                                              : at::kDouble;
    return exchange(from, count * at::elementSize(scalar), [&](Memory& memory) {
      const auto size = static_cast<int64_t>(count);
      at::Tensor sum = at::zeros({size}, scalar);
      for (int rank = 0; rank < size_; ++rank)
        sum += at::from_blob(memory.bytes[static_cast<size_t>(rank)].data(), {size}, scalar);
      std::memcpy(to, sum.const_data_ptr(), sum.nbytes());
    });
  }

  Memory* memory_ = nullptr;
  int rank_ = 0, size_ = 0;
  bool stuck_ = false;
};

/// The same for a device whose memory the host cannot read.
class ThroughTheHost final : public distributed::Collectives {
 public:
  explicit ThroughTheHost(std::unique_ptr<Collectives> inner) : inner_(std::move(inner)) {}
  void sum(const at::Tensor& tensor) override {
    const at::Tensor here = tensor.cpu();
    inner_->sum(here);
    tensor.copy_(here);
  }
  void broadcast(const at::Tensor& bytes, int64_t from) override {
    const at::Tensor here = bytes.cpu();
    inner_->broadcast(here, from);
    bytes.copy_(here);
  }
  bool wait(std::chrono::milliseconds longest) override { return inner_->wait(longest); }
  void abort() noexcept override { inner_->abort(); }

 private:
  std::unique_ptr<Collectives> inner_;
};

/// Tensors of a device of that type that is connected are summed by SharedNccl from here on, as those of a
/// GPU are by NCCL.
inline void use_shared_nccl(at::DeviceType type = at::kCPU) {
  distributed::CollectivesKind kind = distributed::nccl_collectives(SharedNccl::functions);
  if (type != at::kCPU)
    kind.join = [join = kind.join](const std::string& name, int64_t rank, int64_t size, at::Device) {
      return std::make_unique<ThroughTheHost>(join(name, rank, size, at::kCPU));
    };
  distributed::set_collectives(type, std::move(kind));
}

}  // namespace apo::testing
