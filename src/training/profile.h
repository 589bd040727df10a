// Where the time of training steps goes: what apo-train --profile tells. Recorded by PyTorch's own profiler.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/record_function.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

// What follows, to the end of the block, is a part of a step in the profile; parts do not nest. Costs nothing
// where nothing records.
#define APO_PART_OF_STEP(name) RECORD_USER_SCOPE("apo::" name)

namespace apo::training {

/// One thing that happened on the thread that trains, as the profiler has it.
struct ProfiledEvent {
  std::string name;
  int64_t begin = 0, end = 0;  ///< ns
  int64_t flop = 0;            ///< of matrix products and convolutions, as far as known; else 0
  bool on_device = false;      ///< a kernel of an accelerator
};

/// FLOP of an operator from the shapes of its inputs, or `counted`, what the profiler itself says of those
/// that it knows; 0 for what is no matrix product, convolution or attention.
int64_t flop_of(std::string_view name, at::ArrayRef<std::vector<int64_t>> shapes, int64_t counted);

/// What is shown of recorded steps; times are means of a step.
struct StepProfile {
  struct Row {
    std::string name;
    double seconds = 0, calls = 0;
    double flop = 0;
  };
  int64_t steps = 0;
  double seconds = 0;          ///< of a whole step
  std::vector<Row> parts;      ///< in the order of a step; what is in no part last
  std::vector<Row> operators;  ///< time in themselves alone, the longest first
  std::vector<Row> kernels;    ///< of an accelerator, the longest first
  double flop = 0;             ///< of a step
  double product_seconds = 0;  ///< within operators (with an accelerator: kernels) that are such
  double peak_flops = 0;       ///< a second, of a large product measured beside the steps
  std::string peak_of;         ///< "2,048 x 2,048 float32"

  std::string markdown() const;
};
/// Of the events of `steps` steps, each of which is "apo::step" from its first to its last moment. Events of
/// one thread lie within each other or apart.
StepProfile step_profile(std::vector<ProfiledEvent> events, int64_t steps);

/// Records steps while it lives: the first three are not, for what is made once.
class StepProfiler {
 public:
  static constexpr int64_t kNotRecorded = 3;
  static constexpr const char *kTable = "profile.md", *kTrace = "profile.trace.json";

  StepProfiler(int64_t steps, at::Device device, at::ScalarType type);
  ~StepProfiler();
  StepProfiler(const StepProfiler&) = delete;
  StepProfiler& operator=(const StepProfiler&) = delete;

  /// Before each step.
  void step_begins();
  /// After each; true after the last of those that are recorded.
  bool step_ended();
  /// Into the directory: the table, and what Chrome's about:tracing and Perfetto open. Once; returns the
  /// table.
  std::string write(const std::filesystem::path& directory);

 private:
  struct Recording;
  int64_t steps_, begun_ = 0;
  at::Device device_;
  at::ScalarType type_;
  std::unique_ptr<Recording> recording_;
};

}  // namespace apo::training
