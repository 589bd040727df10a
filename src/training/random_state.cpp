#include "training/random_state.h"

#include <torch/types.h>

#include <mutex>
#include <string>

namespace apo::training {
namespace {

// Calls `use` with each generator and its name, under the generator's lock.
template <class Use>
void for_each_generator(at::Device device, Use use) {
  const auto call = [&use](const std::string& name, at::Device where) {
    at::Generator generator = at::globalContext().defaultGenerator(where);
    const std::lock_guard lock(generator.mutex());
    use(name, generator);
  };
  call("random.cpu", at::kCPU);
  if (!device.is_cpu()) call("random." + c10::DeviceTypeName(device.type(), /*lower_case=*/true), device);
}

}  // namespace

void seed_generators(uint64_t seed, at::Device device) {
  for_each_generator(
      device, [seed](const std::string&, at::Generator& generator) { generator.set_current_seed(seed); });
}

models::NamedTensors generator_states(at::Device device) {
  models::NamedTensors states;
  for_each_generator(device, [&states](const std::string& name, at::Generator& generator) {
    states.emplace_back(name, generator.get_state());
  });
  return states;
}

void restore_generators(const models::NamedTensors& states, at::Device device) {
  for_each_generator(device, [&states](const std::string& name, at::Generator& generator) {
    for (const auto& [key, state] : states)
      if (key == name) generator.set_state(state.clone());
  });
}

}  // namespace apo::training
