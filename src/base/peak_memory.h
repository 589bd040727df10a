// How much memory a piece of work takes at most:
//   const auto memory = std::make_shared<PeakMemory>(at::kCPU);
//   { const c10::DebugInfoGuard follow(c10::DebugInfoKind::PROFILER_STATE, memory); ... }
//   memory->peak_bytes();
// What is freed in the braces must be allocated there.
#pragma once

#include <c10/core/Allocator.h>

#include <algorithm>
#include <cstdint>

namespace apo {

/// Follows this thread's tensor allocations on one device.
class PeakMemory : public c10::MemoryReportingInfoBase {
 public:
  explicit PeakMemory(at::DeviceType device) : device_(device) {}
  void reportMemoryUsage(void*, int64_t alloc_size, size_t, size_t, at::Device device) override {
    if (device.type() != device_) return;
    now_ += alloc_size;
    peak_ = std::max(peak_, now_);
  }
  bool memoryProfilingEnabled() const override { return true; }
  int64_t peak_bytes() const { return peak_; }

 private:
  at::DeviceType device_;
  int64_t now_ = 0, peak_ = 0;
};

}  // namespace apo
