// A made-up options struct that uses every kind of field, and what the tests ask of it.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "apo/base/error.h"
#include "apo/config/options.h"

namespace apo::config {

enum class Reduction { mean, sum };
inline std::span<const std::pair<Reduction, std::string_view>> enum_names(Reduction) {
  static constexpr std::array<std::pair<Reduction, std::string_view>, 2> kNames = {
      {{Reduction::mean, "mean"}, {Reduction::sum, "sum"}}};
  return kNames;
}

struct SourceOptions {
  std::string path;
  int64_t limit = 0;
  std::optional<double> share;
  void visit(Visitor& v) {
    v.path("path", path, "trajectory file");
    v("limit", limit, "episodes to use, 0 is all", at_least(0));
    v("share", share, "share of the samples", between(0, 1));
  }
  bool operator==(const SourceOptions&) const = default;
};

struct WeightOptions {
  double desirable = 1;
  bool normalize = true;
  void visit(Visitor& v) {
    v("desirable", desirable, "eta_D", positive());
    v("normalize", normalize, "divide by the group's sum");
  }
  bool operator==(const WeightOptions&) const = default;
};

struct ObjectiveOptions {
  double beta = 0.1;
  double kl_max = std::numeric_limits<double>::infinity();
  Reduction reduction = Reduction::mean;
  std::string type = "apo";
  WeightOptions weights;
  void visit(Visitor& v) {
    static constexpr std::array<std::string_view, 3> kTypes = {"apo", "kto", "dpo"};
    v("beta", beta, "temperature; higher stays nearer to the reference", positive());
    v("kl_max", kl_max, "upper clamp of z0", or_infinite(any()));
    v("reduction", reduction, "how the batch is reduced");
    v.choice("type", type, kTypes, "the objective");
    v("weights", weights, "sample weights");
  }
  bool operator==(const ObjectiveOptions&) const = default;
};

struct RobotOptions {
  std::string instruction = "pick up the cube";
  std::string checkpoint;
  int64_t seed = 0;
  std::optional<int64_t> max_steps = 100;
  std::vector<double> pools = {0.5, 0.25, 0.25};
  std::vector<int64_t> sizes;
  std::vector<std::string> cameras = {"front"};
  std::vector<SourceOptions> expert;
  ObjectiveOptions objective;
  void visit(Visitor& v) {
    v("instruction", instruction, "what the robot shall do");
    v.path("checkpoint", checkpoint, "the policy");
    v("seed", seed, "seed of all random streams", at_least(0));
    v("max_steps", max_steps, "steps, null is no limit", at_least(1));
    v("pools", pools, "ratios of the pools", between(0, 1));
    v("sizes", sizes, "layer sizes", at_least(1));
    v("cameras", cameras, "camera names");
    v("expert", expert, "demonstrations");
    v("objective", objective, "what is minimised");
  }
  bool operator==(const RobotOptions&) const = default;
};

inline RobotOptions read(std::string_view text, const std::vector<std::string>& overrides = {}) {
  return load<RobotOptions>(Document::from_text(text, overrides, "/configs", "x.yaml"));
}

// The message of the ConfigError that reading raises, "" if it does not.
inline std::string error_of(std::string_view text, const std::vector<std::string>& overrides = {}) {
  try {
    read(text, overrides);
  } catch (const ConfigError& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::usage);
    EXPECT_EQ(static_cast<int>(error.exit_code()), 2);
    return error.what();
  }
  return "";
}

}  // namespace apo::config
