// Evaluation and collection as a program beside a robot links them, without training; tests/CMakeLists.txt
// sees that nothing of it is in the program.
#include <cstdio>

#include "apo/base/error.h"
#include "apo/deploy/collector.h"
#include "apo/deploy/evaluator.h"
#include "apo/models/registry.h"

int main(int argc, char** argv) {
  using namespace apo;
  try {
    const auto policy = models::load_policy(argc > 1 ? argv[1] : "/nowhere", at::kCPU);
    const auto environment = environments::make_environment({});
    const auto human = deploy::make_no_human();
    deploy::collect(*environment, *policy, *human, {}, "episodes.hdf5");
    deploy::evaluate(*policy, {}, {.trials = 1});
  } catch (const DataError& error) {
    std::puts(error.what());
    return 0;
  }
  return 1;
}
