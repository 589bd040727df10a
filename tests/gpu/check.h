// What the items of the GPU check share: numbers with limits, the clock that waits for the device, counted
// products.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/record_function.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "support/near.h"

namespace apo::gpu {

using Json = nlohmann::ordered_json;

struct Options {
  std::string device = "cpu";  ///< cpu | cuda | cuda:N
  std::filesystem::path data;  ///< tests/gpu/data, or its copy in an archive
  bool small = false;          ///< few cases, small sizes, no timings: for tools that slow everything down
  bool checkpointing = false;  ///< openvla: recompute activations in the backward pass
};

/// The numbers of one item and what is wrong with them; printed as one JSON object a line, so that whoever
/// reads the last whole line has all that was done before a kill.
class Item {
 public:
  Item(std::string name, std::string device) : name_(std::move(name)), device_(std::move(device)) {}

  /// Puts a value under "a/b/c".
  void put(const std::string& path, const Json& value);
  /// Puts a number and complains where it is above the limit or no number.
  void at_most(const std::string& path, double value, double limit);
  void expect(bool holds, const std::string& complaint);
  void complain(const std::string& what) { complaints_.push_back(what); }
  /// Prints what there is so far.
  void progress() const;
  /// Prints the verdict; the program's exit code.
  int finish() const;

 private:
  Json line(const std::string& verdict) const;

  std::string name_, device_;
  Json numbers_ = Json::object();
  std::vector<std::string> complaints_;
};

/// Waits until the device has done all it was told.
void synchronize(at::Device device);
/// Seconds that `body` takes on the device.
double seconds(at::Device device, const std::function<void()>& body);

/// Repeated measurements of one thing.
struct Timing {
  double median = 0, fastest = 0;  ///< seconds
  int64_t repeats = 0;
  Json json() const;
};
double median(std::vector<double> values);
/// `repeats` timings after `warm_ups` runs that do not count; three or more of them where they take over
/// `most_seconds`.
Timing measure(at::Device device, int64_t warm_ups, int64_t repeats, const std::function<void()>& body,
               double most_seconds = 20);

/// Largest memory that tensors held on a CUDA device since the last reset; 0 elsewhere.
int64_t peak_bytes(at::Device device);
void reset_peak(at::Device device);
/// Gives back what the device's allocator keeps for later.
void free_cache(at::Device device);

using apo::testing::distance;
/// |a - b| / |b| of all numbers together.
double relative_distance(const at::Tensor& a, const at::Tensor& b);

/// Counts the floating-point operations of all matrix products and attentions that run on any thread while it
/// lives: from the operands' shapes, 2 m k n a product; attention 4 b h m n d forward, twice that backward
/// (without the fused kernels' own recomputation). Works on the meta device, too.
class OperationCounter {
 public:
  OperationCounter();
  ~OperationCounter();
  OperationCounter(const OperationCounter&) = delete;
  OperationCounter& operator=(const OperationCounter&) = delete;
  double operations() const;

 private:
  at::CallbackHandle handle_;
};

/// Operations a second of the largest product worth measuring: bfloat16, `size` cubed.
double matmul_peak(at::Device device, int64_t size);

/// Where a CUDA device's time goes while `body` runs: seconds by kind of kernel, the longest kernels, and the
/// share of the time in which the device worked at all. An object that says why where the profiler gives no
/// kernels. Elsewhere, how many operations the profiler saw.
Json profile(at::Device device, const std::function<void()>& body);

void check_kernels(const Options& options, at::Device device, Item& item);
void check_collectives(const Options& options, at::Device device, Item& item);
void check_tabletop(const Options& options, at::Device device, Item& item);
void check_parity(const Options& options, at::Device device, Item& item);
void check_openvla(const Options& options, at::Device device, Item& item);

}  // namespace apo::gpu
