#include "training/profile.h"

#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/util/Exception.h>
#include <torch/csrc/autograd/profiler_kineto.h>
#include <torch/types.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <map>
#include <set>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "base/paths.h"
#include "base/stopwatch.h"
#include "results/table.h"

namespace apo::training {
namespace {

namespace profiler = torch::autograd::profiler;
using torch::profiler::impl::ActivityType;
using torch::profiler::impl::ProfilerConfig;
using Row = StepProfile::Row;

constexpr std::string_view kLinear = "mkldnn::_linear_pointwise";
constexpr std::string_view kPart = "apo::", kStep = "apo::step";

// Attention by its own kernel; where it is made of products, these are counted.
bool is_attention(std::string_view name) {
  return name.starts_with("aten::_scaled_dot_product_") &&
         (name.find("flash_attention") != name.npos || name.find("efficient_attention") != name.npos);
}

bool is_product(std::string_view name) {
  static constexpr std::array<std::string_view, 9> kNames = {
      kLinear,         "aten::mm",     "aten::addmm",
      "aten::addmm_",  "aten::bmm",    "aten::baddbmm",
      "aten::_int_mm", "aten::conv2d", "aten::convolution_backward"};
  return std::ranges::find(kNames, name) != kNames.end() || is_attention(name);
}

int64_t product_of(const std::vector<int64_t>& sizes) {
  int64_t product = 1;
  for (const int64_t size : sizes) product *= size;
  return product;
}

// Each event's time without that of the events within it. Sorted by begin, the enclosing ones first.
std::vector<int64_t> own_times(const std::vector<ProfiledEvent>& events) {
  std::vector<int64_t> own;
  std::vector<size_t> open;
  for (size_t i = 0; i < events.size(); ++i) {
    own.push_back(events[i].end - events[i].begin);
    while (!open.empty() && events[open.back()].end <= events[i].begin) open.pop_back();
    if (!open.empty()) own[open.back()] -= events[i].end - events[i].begin;
    open.push_back(i);
  }
  return own;
}

std::vector<Row> longest_first(const std::map<std::string, Row>& rows) {
  std::vector<Row> sorted;
  for (const auto& [name, row] : rows) sorted.push_back(row);
  std::ranges::stable_sort(sorted, std::ranges::greater{}, &Row::seconds);
  return sorted;
}

void synchronize(at::Device device) {
  if (!device.is_cpu()) c10::impl::VirtualGuardImpl(device.type()).synchronizeDevice(device.index());
}

// FLOP a second of a product that is large enough for the machine to be at its best, the fastest of a few.
double measured_peak(int64_t size, at::Device device, at::ScalarType type) {
  const at::NoGradGuard no_grad;
  const at::Tensor a = at::ones({size, size}, at::TensorOptions(type).device(device)), b = at::ones_like(a);
  at::Tensor out = at::mm(a, b);
  double best = 0;
  const Stopwatch whole;
  do {
    synchronize(device);
    const Stopwatch one;
    at::mm_out(out, a, b);
    synchronize(device);
    best = std::max(best, 2 * std::pow(static_cast<double>(size), 3) / one.seconds());
  } while (whole.seconds() < 1);
  return best;
}

// PyTorch says at length, for each operator, what it cannot count.
struct Silence : c10::WarningHandler {
  void process(const c10::Warning&) override {}
};

}  // namespace

// What the profiler does not count: linear layers of oneDNN, sums in place, the backward pass of a
// convolution (two of its size, for weights and input), and attention (two products of [.., queries, keys],
// five going back).
int64_t flop_of(std::string_view name, at::ArrayRef<std::vector<int64_t>> shapes, int64_t counted) {
  if (!is_product(name)) return 0;
  if (name == "aten::convolution_backward" && shapes.size() >= 3 && shapes[2].size() == 4)
    return 4 * product_of(shapes[0]) * product_of(shapes[2]) / std::max<int64_t>(shapes[2][0], 1);
  // [..., in] by [out, in]
  if (name == kLinear && shapes.size() >= 2 && shapes[1].size() == 2)
    return 2 * product_of(shapes[0]) * shapes[1][0];
  // [a, b] by [b, c], added to the first
  if (name == "aten::addmm_" && shapes.size() >= 3 && shapes[2].size() == 2)
    return 2 * product_of(shapes[1]) * shapes[2][1];
  if (is_attention(name)) {
    const bool backward = name.ends_with("_backward");
    const size_t first = backward ? 1 : 0;
    if (shapes.size() < first + 2 || shapes[first].size() != 4 || shapes[first + 1].size() != 4) return 0;
    return (backward ? 10 : 4) * product_of(shapes[first]) * shapes[first + 1][2];
  }
  return counted;
}

StepProfile step_profile(std::vector<ProfiledEvent> events, int64_t steps) {
  APO_ASSERT(steps > 0);
  StepProfile profile;
  profile.steps = steps;
  const auto each = [steps](int64_t ns) {
    return static_cast<double>(ns) * 1e-9 / static_cast<double>(steps);
  };
  std::map<std::string, Row> operators, kernels;
  const auto add = [&](std::map<std::string, Row>& to, const ProfiledEvent& event, int64_t ns) {
    Row& row = to[event.name];
    row.name = event.name;
    row.seconds += each(ns);
    row.calls += 1.0 / static_cast<double>(steps);
    row.flop += static_cast<double>(event.flop) / static_cast<double>(steps);
  };
  const auto kernels_begin =
      std::ranges::stable_partition(events, [](const ProfiledEvent& e) { return !e.on_device; });
  for (const ProfiledEvent& event : kernels_begin) add(kernels, event, event.end - event.begin);
  events.erase(kernels_begin.begin(), kernels_begin.end());
  std::ranges::stable_sort(events, [](const ProfiledEvent& a, const ProfiledEvent& b) {
    if (a.begin != b.begin) return a.begin < b.begin;
    if (a.end != b.end) return a.end > b.end;
    return a.name.starts_with(kPart) && !b.name.starts_with(kPart);  // a part that is one operator
  });
  const std::vector<int64_t> own = own_times(events);
  for (size_t i = 0; i < events.size(); ++i) {
    const ProfiledEvent& event = events[i];
    const int64_t duration = event.end - event.begin;
    if (event.name == kStep) {
      profile.seconds += each(duration);
    } else if (event.name.starts_with(kPart)) {
      const std::string name = event.name.substr(kPart.size());
      auto part = std::ranges::find(profile.parts, name, &Row::name);
      if (part == profile.parts.end()) part = profile.parts.insert(part, Row{.name = name});
      part->seconds += each(duration);
      part->calls += 1.0 / static_cast<double>(steps);
    } else {
      add(operators, event, own[i]);
      profile.flop += static_cast<double>(event.flop) / static_cast<double>(steps);
      // the product itself may lie within (aten::conv2d)
      if (event.flop > 0) profile.product_seconds += each(duration);
    }
  }
  double in_parts = 0;
  for (const Row& part : profile.parts) in_parts += part.seconds;
  profile.parts.push_back({.name = "everything else", .seconds = profile.seconds - in_parts, .calls = 1});
  profile.operators = longest_first(operators);
  profile.kernels = longest_first(kernels);
  return profile;
}

std::string StepProfile::markdown() const {
  using results::fixed;
  constexpr size_t kMostRows = 20;
  const auto share = [this](double part) { return fixed(seconds > 0 ? 100 * part / seconds : 0, 1) + " %"; };
  std::string out =
      concat("# Where the time of a step went\n\nMeans of ", steps, " steps of ", fixed(1e3 * seconds, 2),
             " ms; recording itself costs some microseconds an operator.\n\n");
  results::TableRows of_parts = {{"part", "ms", "share"}};
  for (const Row& part : parts)
    of_parts.push_back({part.name, fixed(1e3 * part.seconds, 2), share(part.seconds)});
  out += results::markdown_table(of_parts);
  const auto add = [&](const char* title, const std::vector<Row>& rows) {
    if (rows.empty()) return;
    results::TableRows table = {{title, "calls", "ms", "share", "GFLOP"}};
    for (size_t i = 0; i < std::min(rows.size(), kMostRows); ++i)
      table.push_back({concat('`', rows[i].name, '`'), fixed(rows[i].calls, 1),
                       fixed(1e3 * rows[i].seconds, 2), share(rows[i].seconds),
                       rows[i].flop > 0 ? fixed(rows[i].flop * 1e-9, 2) : ""});
    out += concat("\n", results::markdown_table(table));
    if (rows.size() > kMostRows) out += concat("\nand ", rows.size() - kMostRows, " more.\n");
  };
  add("operator, by itself", operators);
  add("kernel on the device", kernels);
  if (flop <= 0 || peak_flops <= 0 || seconds <= 0) return out;
  const auto of_peak = [this](double time) { return fixed(100 * flop / time / peak_flops, 1) + " %"; };
  out += concat("\nMatrix products, convolutions and attention: ", fixed(flop * 1e-9, 2), " GFLOP a step, ",
                fixed(flop / seconds * 1e-9, 1), " GFLOP/s: **", of_peak(seconds), "** of the ",
                fixed(peak_flops * 1e-9, 1), " GFLOP/s that a product of ", peak_of,
                " reached in the same process");
  if (kernels.empty() && product_seconds > 0)
    out += "; within these operators alone " + of_peak(product_seconds);
  return out + ".\n";
}

struct StepProfiler::Recording {
  std::unique_ptr<profiler::ProfilerResult> result;
  bool running = false;
};

StepProfiler::StepProfiler(int64_t steps, at::Device device, at::ScalarType type)
    : steps_(steps), device_(device), type_(type), recording_(std::make_unique<Recording>()) {}

StepProfiler::~StepProfiler() {
  if (recording_->running) profiler::disableProfiler();
}

void StepProfiler::step_begins() {
  if (++begun_ != kNotRecorded + 1) return;
  // what it finds of drivers is not for people
  ::setenv("KINETO_LOG_LEVEL", "99", /*overwrite=*/0);
  const ProfilerConfig config(torch::profiler::impl::ProfilerState::KINETO, /*report_input_shapes=*/true,
                              /*profile_memory=*/false, /*with_stack=*/false, /*with_flops=*/true);
  std::set<ActivityType> activities = {ActivityType::CPU};
  if (device_.is_cuda()) activities.insert(ActivityType::CUDA);
  profiler::prepareProfiler(config, activities);
  profiler::enableProfiler(
      config, activities,
      {at::RecordScope::FUNCTION, at::RecordScope::BACKWARD_FUNCTION, at::RecordScope::USER_SCOPE});
  recording_->running = true;
}

bool StepProfiler::step_ended() {
  if (!recording_->running || begun_ != kNotRecorded + steps_) return false;
  synchronize(device_);
  recording_->result = profiler::disableProfiler();
  recording_->running = false;
  return true;
}

std::string StepProfiler::write(const std::filesystem::path& directory) {
  APO_ASSERT(recording_->result != nullptr);
  Silence silence;
  const c10::WarningUtils::WarningHandlerGuard silent(&silence);
  std::vector<ProfiledEvent> events;
  for (const profiler::KinetoEvent& event : recording_->result->events()) {
    if (event.isAsync() || event.isHiddenEvent()) continue;
    const std::string name = event.name();
    const bool on_device = event.deviceType() != c10::DeviceType::CPU;
    events.push_back(
        {.name = name,
         .begin = static_cast<int64_t>(event.startNs()),
         .end = static_cast<int64_t>(event.endNs()),
         .flop = on_device ? 0 : flop_of(name, event.shapes(), static_cast<int64_t>(event.flops())),
         .on_device = on_device});
  }
  StepProfile profile = step_profile(std::move(events), steps_);
  const int64_t size = device_.is_cpu() ? 2048 : 8192;
  profile.peak_flops = measured_peak(size, device_, type_);
  profile.peak_of = concat(size, " x ", size, " ", type_);
  const std::filesystem::path trace = directory / kTrace, partial = trace.string() + ".partial";
  recording_->result->save(partial.string());
  recording_->result.reset();
  put_in_place(partial, trace);
  std::string table = profile.markdown();
  write_file_atomic(directory / kTable, table);
  return table;
}

}  // namespace apo::training
