// What /metrics says, in Prometheus' text format.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>

namespace apo::serving {

/// How often something took how long. Thread-safe.
class Histogram {
 public:
  void add(double seconds);
  /// Lines of a Prometheus histogram.
  std::string text(const std::string& name, const std::string& help) const;

 private:
  /// upper bounds of the buckets, seconds
  static constexpr std::array<double, 12> kBounds = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
                                                     0.1,   0.25,   0.5,   1,    2.5,   10};
  mutable std::mutex mutex_;
  std::array<uint64_t, kBounds.size() + 1> counts_ = {};
  double sum_ = 0;
};

/// A count for each value of one label. Thread-safe.
class Counter {
 public:
  void add(const std::string& label);
  uint64_t of(const std::string& label) const;
  std::string text(const std::string& name, const std::string& help, const std::string& label) const;

 private:
  mutable std::mutex mutex_;
  std::map<std::string, uint64_t> counts_;
};

struct Metrics {
  Counter requests;  ///< by protocol: openpi, act
  Counter errors;    ///< by kind: request, busy, late, gone, policy, recording, protocol, refused
  std::atomic<int64_t> connections = 0;
  Histogram inference, queue;

  std::string text() const;
};

}  // namespace apo::serving
