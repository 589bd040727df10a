// How fast the tabletop is on one core. Items are control steps, pictures, environments or episodes.
//   build/release/bin/simulation_benchmark
#include <benchmark/benchmark.h>

#include <vector>

#include "apo/simulation/tabletop.h"

namespace {

using apo::simulation::scripted_expert;
using apo::simulation::Tabletop;
using apo::simulation::TabletopOptions;

/// One control step of the expert; a new episode when one is done.
void advance(Tabletop& table, uint64_t& seed) {
  if (table.done()) table.reset(++seed);
  table.step(scripted_expert(table.state()));
}

void control_step(benchmark::State& state) {
  Tabletop table({.action_noise = 0.2});
  uint64_t seed = 0;
  for (auto _ : state) advance(table, seed);
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(control_step);

void picture(benchmark::State& state) {
  const Tabletop table({.image_size = state.range(0)});
  for (auto _ : state) benchmark::DoNotOptimize(table.observe());
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(picture)->Arg(64)->Arg(128)->Arg(224);

void control_step_and_picture(benchmark::State& state) {
  Tabletop table({.image_size = state.range(0), .action_noise = 0.2});
  uint64_t seed = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(table.observe());
    advance(table, seed);
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(control_step_and_picture)->Arg(64)->Arg(224);

void film_picture(benchmark::State& state) {
  const Tabletop table;
  for (auto _ : state) benchmark::DoNotOptimize(table.render(static_cast<int>(state.range(0))));
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(film_picture)->Arg(192);

void reset(benchmark::State& state) {
  Tabletop table;
  uint64_t seed = 0;
  for (auto _ : state) table.reset(++seed);
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(reset);

void construct_100(benchmark::State& state) {
  for (auto _ : state) {
    std::vector<Tabletop> tables(100);
    for (const Tabletop& table : tables) benchmark::DoNotOptimize(table.observe());
  }
  state.SetItemsProcessed(100 * state.iterations());
}
BENCHMARK(construct_100)->Unit(benchmark::kMillisecond);

}  // namespace

BENCHMARK_MAIN();
