#include "serving/metrics.h"

#include <algorithm>

#include "apo/base/error.h"

namespace apo::serving {
namespace {

std::string heading(const std::string& name, const std::string& help, const char* type) {
  return concat("# HELP ", name, " ", help, "\n# TYPE ", name, " ", type, "\n");
}

}  // namespace

void Histogram::add(double seconds) {
  const auto bucket = std::ranges::lower_bound(kBounds, seconds) - kBounds.begin();
  const std::lock_guard lock(mutex_);
  ++counts_[static_cast<size_t>(bucket)];
  sum_ += seconds;
}

std::string Histogram::text(const std::string& name, const std::string& help) const {
  const std::lock_guard lock(mutex_);
  std::string text = heading(name, help, "histogram");
  uint64_t count = 0;
  for (size_t i = 0; i < counts_.size(); ++i) {
    count += counts_[i];
    text +=
        concat(name, "_bucket{le=\"", i < kBounds.size() ? concat(kBounds[i]) : "+Inf", "\"} ", count, "\n");
  }
  return text + concat(name, "_sum ", sum_, "\n", name, "_count ", count, "\n");
}

void Counter::add(const std::string& label) {
  const std::lock_guard lock(mutex_);
  ++counts_[label];
}

uint64_t Counter::of(const std::string& label) const {
  const std::lock_guard lock(mutex_);
  const auto found = counts_.find(label);
  return found == counts_.end() ? 0 : found->second;
}

std::string Counter::text(const std::string& name, const std::string& help, const std::string& label) const {
  const std::lock_guard lock(mutex_);
  std::string text = heading(name, help, "counter");
  for (const auto& [value, count] : counts_)
    text += concat(name, "{", label, "=\"", value, "\"} ", count, "\n");
  return text;
}

std::string Metrics::text() const {
  return requests.text("apo_serve_requests_total", "requests for an action, by protocol", "protocol") +
         errors.text("apo_serve_errors_total", "requests and connections that failed, by kind", "kind") +
         heading("apo_serve_connections", "open connections", "gauge") +
         concat("apo_serve_connections ", connections.load(), "\n") +
         inference.text("apo_serve_inference_seconds", "of one batch of requests") +
         queue.text("apo_serve_queue_seconds", "that a request waited for the policy");
}

}  // namespace apo::serving
