// An environment of one's own with what the room of environments needs and nothing else; tests/CMakeLists.txt
// sees that no HDF5 is in the program.
#include <memory>

#include "apo/environments/environment.h"

namespace {

class Still : public apo::environments::Environment {
 public:
  Still() : Environment({.name = "still", .action_size = 1, .max_steps = 2, .control_hz = 10}) {}
  apo::environments::Situation reset(uint64_t) override { return {}; }
  apo::Observation observe() override { return {}; }
  apo::environments::Situation step(const apo::Action&) override { return {}; }
  at::Tensor render(int64_t) override { return {}; }
};

}  // namespace

int main() {
  using namespace apo::environments;
  register_environment("still", [](const EnvironmentOptions&) { return std::make_unique<Still>(); });
  EnvironmentOptions options;
  options.type = "still";
  const auto environment = make_environment(options);
  return environment->spec().action_size == 1 ? 0 : 1;
}
