// Numbers with limits, clocks, counted products and the profiler; only what a build without CUDA offers, so
// that one program serves both.
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/csrc/autograd/profiler_kineto.h>
#include <torch/types.h>

#include <algorithm>
#include <chrono>
#include <iostream>
#include <limits>
#include <map>

#include "apo/base/error.h"
#include "gpu/check.h"

namespace apo::gpu {
namespace {

using Clock = std::chrono::steady_clock;

std::atomic<double> counted_operations{0};

double product(at::IntArrayRef a, at::IntArrayRef b) {  // [.., m, k] x [.., k, n]
  if (a.size() < 2 || b.size() < 2) return 0;
  double operations = 2;
  for (const int64_t extent : a) operations *= static_cast<double>(extent);
  return operations * static_cast<double>(b.back());
}

double attention(at::IntArrayRef query, at::IntArrayRef key) {  // [b, h, m, d], [b, h, n, d]
  if (query.size() != 4 || key.size() != 4) return 0;
  double operations = 4 * static_cast<double>(key[2]);
  for (const int64_t extent : query) operations *= static_cast<double>(extent);
  return operations;
}

std::unique_ptr<at::ObserverContext> count(const at::RecordFunction& function) {
  const std::string_view name = function.name();
  const auto inputs = function.inputs();
  const auto shape = [&](size_t i) {
    return i < inputs.size() && inputs[i].isTensor() ? inputs[i].toTensor().sizes() : at::IntArrayRef();
  };
  if (name == "aten::mm" || name == "aten::bmm") {
    counted_operations += product(shape(0), shape(1));
  } else if (name == "aten::addmm" || name == "aten::addmm_" || name == "aten::baddbmm") {
    counted_operations += product(shape(1), shape(2));
  } else if (name == "mkldnn::_linear_pointwise") {  // the weight is [n, k]
    if (shape(1).size() == 2) counted_operations += product(shape(0), {shape(1)[1], shape(1)[0]});
  } else if (name.starts_with("aten::_scaled_dot_product_") && !name.ends_with("_math")) {
    const bool backward =
        name.find("_backward") != std::string_view::npos;  // its first input is the gradient
    counted_operations += backward ? 2 * attention(shape(1), shape(2)) : attention(shape(0), shape(1));
  }
  return nullptr;
}

// Kernels by what they are for, told by the names that cuBLAS, CUTLASS, cuDNN and ATen give them.
std::string kind_of(const std::string& name) {
  const auto has = [&name](const char* part) { return name.find(part) != std::string::npos; };
  if (has("Memcpy") || has("Memset")) return "copies between host and device";
  if (has("fmha") || has("flash") || has("attention")) return "attention";
  if (has("gemm") || has("gemv") || has("cutlass") || has("nvjet") || has("splitK") || has("xmma"))
    return has("sgemm") || has("f32f32") || has("fp32") ? "products in float32"
                                                        : "products in half precision";
  if (has("multi_tensor_apply") || has("FusedAdam")) return "optimizer and norms";
  if (has("apo::models")) return "elementwise";
  if (has("apo::")) return "objective";
  if (has("softmax") || has("reduce")) return "reductions";
  if (has("elementwise") || has("CatArray") || has("copy")) return "elementwise";
  return "other kernels";
}

}  // namespace

void Item::put(const std::string& path, const Json& value) {
  numbers_[Json::json_pointer("/" + path)] = value;
}

void Item::at_most(const std::string& path, double value, double limit) {
  put(path, value);
  if (!(value <= limit)) complain(concat(path, ": expected at most ", limit, ", found ", value));
}

void Item::expect(bool holds, const std::string& complaint) {
  if (!holds) complain(complaint);
}

Json Item::line(const std::string& verdict) const {
  std::string message;
  for (const std::string& complaint : complaints_) message += (message.empty() ? "" : "; ") + complaint;
  return {{"item", name_},
          {"device", device_},
          {"verdict", verdict},
          {"numbers", numbers_},
          {"message", message}};
}

void Item::progress() const {
  std::cout << line("unfinished").dump(-1, ' ', false, Json::error_handler_t::replace) << std::endl;
}

int Item::finish() const {
  std::cout
      << line(complaints_.empty() ? "passed" : "failed").dump(-1, ' ', false, Json::error_handler_t::replace)
      << std::endl;
  return complaints_.empty() ? 0 : 1;
}

void synchronize(at::Device device) {
  if (!device.is_cuda()) return;
  c10::impl::VirtualGuardImpl(device.type()).synchronizeDevice(device.index());
}

double seconds(at::Device device, const std::function<void()>& body) {
  synchronize(device);
  const Clock::time_point begin = Clock::now();
  body();
  synchronize(device);
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

double median(std::vector<double> values) {
  if (values.empty()) return std::numeric_limits<double>::quiet_NaN();
  std::ranges::sort(values);
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

Json Timing::json() const {
  return {{"median_ms", 1e3 * median}, {"fastest_ms", 1e3 * fastest}, {"repeats", repeats}};
}

Timing measure(at::Device device, int64_t warm_ups, int64_t repeats, const std::function<void()>& body,
               double most_seconds) {
  constexpr size_t kFewest = 3;
  for (int64_t i = 0; i < warm_ups; ++i) body();
  std::vector<double> all;
  double total = 0;
  for (int64_t i = 0; i < repeats && (all.size() < kFewest || total < most_seconds); ++i) {
    all.push_back(seconds(device, body));
    total += all.back();
  }
  return {.median = median(all), .fastest = *std::ranges::min_element(all), .repeats = std::ssize(all)};
}

int64_t peak_bytes(at::Device device) {
  if (!device.is_cuda()) return 0;
  const auto stats = c10::getDeviceAllocator(device.type())->getDeviceStats(device.index());
  return stats.allocated_bytes[static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE)].peak;
}

void reset_peak(at::Device device) {
  if (device.is_cuda()) c10::getDeviceAllocator(device.type())->resetPeakStats(device.index());
}

void free_cache(at::Device device) {
  if (device.is_cuda()) c10::getDeviceAllocator(device.type())->emptyCache();
}

double relative_distance(const at::Tensor& a, const at::Tensor& b) {
  if (a.sizes() != b.sizes()) return std::numeric_limits<double>::infinity();
  const at::Tensor x = a.detach().to(at::kCPU, at::kDouble), y = b.detach().to(at::kCPU, at::kDouble);
  const double size = y.norm().item<double>(), off = (x - y).norm().item<double>();
  return size > 0 ? off / size : off;
}

OperationCounter::OperationCounter() {
  counted_operations = 0;
  handle_ = at::addGlobalCallback(
      at::RecordFunctionCallback(count).needsInputs(true).scopes({at::RecordScope::FUNCTION}));
}

OperationCounter::~OperationCounter() { at::removeCallback(handle_); }

double OperationCounter::operations() const { return counted_operations; }

double matmul_peak(at::Device device, int64_t size) {
  const at::TensorOptions type = at::TensorOptions(at::kBFloat16).device(device);
  const at::Tensor a = at::randn({size, size}, type), b = at::randn({size, size}, type);
  at::Tensor out = at::empty({size, size}, type);
  // several products between two looks at the clock, so that starting them does not count
  constexpr int64_t kTogether = 5;
  const Timing timing = measure(device, 2, 7, [&] {
    for (int64_t i = 0; i < kTogether; ++i) at::mm_out(out, a, b);
  });
  const auto n = static_cast<double>(size);
  return 2 * n * n * n * kTogether / timing.median;
}

Json profile(at::Device device, const std::function<void()>& body) {
  using namespace torch::autograd::profiler;
  using torch::profiler::impl::ActivityType;
  const torch::profiler::impl::ProfilerConfig config(torch::profiler::impl::ProfilerState::KINETO);
  std::set<ActivityType> activities{ActivityType::CPU};
  if (device.is_cuda()) activities.insert(ActivityType::CUDA);
  prepareProfiler(config, activities);
  enableProfiler(config, activities);
  const double wall = seconds(device, body);
  const auto result = disableProfiler();
  if (!device.is_cuda())  // nested operations, whose times do not add up
    return {{"wall_ms", 1e3 * wall}, {"operations_started", result->events().size()}};
  struct Sum {
    double seconds = 0;
    int64_t count = 0;
  };
  std::map<std::string, Sum> kinds, kernels;
  double busy = 0;
  int64_t launched = 0;
  for (const KinetoEvent& event : result->events()) {
    if (event.deviceType() != at::kCUDA) continue;
    const double took = 1e-9 * static_cast<double>(event.durationNs());
    busy += took;
    ++launched;
    for (Sum* sum : {&kinds[kind_of(event.name())], &kernels[event.name().substr(0, 120)]}) {
      sum->seconds += took;
      ++sum->count;
    }
  }
  if (launched == 0) return {{"message", "the profiler gave no kernels (CUPTI is missing or not permitted)"}};
  const auto longest = [](const std::map<std::string, Sum>& sums, size_t most) {
    std::vector<std::pair<std::string, Sum>> sorted(sums.begin(), sums.end());
    std::ranges::stable_sort(sorted, std::greater(), [](const auto& entry) { return entry.second.seconds; });
    Json json = Json::object();
    for (size_t i = 0; i < std::min(most, sorted.size()); ++i)
      json[sorted[i].first] = {{"ms", 1e3 * sorted[i].second.seconds}, {"count", sorted[i].second.count}};
    return json;
  };
  return {{"wall_ms", 1e3 * wall},       {"device_busy_ms", 1e3 * busy}, {"device_busy_share", busy / wall},
          {"kernels_started", launched}, {"kinds", longest(kinds, 20)},  {"longest", longest(kernels, 12)}};
}

}  // namespace apo::gpu
