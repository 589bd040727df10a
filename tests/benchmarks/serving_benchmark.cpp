// What serving adds to an answer beyond the policy's time and the wait for it: 4 clients of openpi's protocol
// at 20 requests a second each, one 224 x 224 picture a request, on the own machine. With APO_PEER_PORT the
// same clients ask what listens there as well (openpi_server.py beside this file).
#include <benchmark/benchmark.h>
#include <torch/types.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <thread>
#include <vector>

#include "apo/base/error.h"
#include "apo/models/policy.h"
#include "apo/serving/server.h"
#include "serving/net.h"
#include "wire/msgpack.h"
#include "wire/tensors.h"

namespace {

using namespace apo;
using namespace apo::serving;

// Decides seven numbers of the picture's mean, in no time.
class Quick : public models::Policy {
 public:
  Quick()
      : Policy({.codec = std::make_shared<tokenizers::BinCodec>(tokenizers::ActionBins(256), 7),
                .normalizer = tokenizers::Normalizer(7),
                .vocabulary_size = 256}) {}
  models::PolicyInput encode(std::span<const Observation> seen) const override {
    return {.state = at::zeros({std::ssize(seen), 1})};
  }
  models::Score score(const models::PolicyInput&, const models::ActionTokens&,
                      const models::ActionTokens*) override {
    return {};
  }
  at::Tensor decode(const models::PolicyInput& input, const models::DecodeOptions&) override {
    return at::full({input.size(), 7}, 128, at::kLong);
  }
  models::NamedTensors named_parameters() const override { return {{"weight", weight_}}; }
  std::unique_ptr<models::Policy> clone() const override { return std::make_unique<Quick>(); }
  void save(const std::filesystem::path&) const override {}

 private:
  at::Tensor weight_ = at::ones({1});
};

// Milliseconds of each answer beyond infer_ms and queue_ms.
void play(int64_t port, double hz, double seconds, std::vector<double>& added) {
  net::io_context io;
  WebSocket socket(io);
  beast::get_lowest_layer(socket).connect(
      {net::ip::make_address("127.0.0.1"), static_cast<unsigned short>(port)});
  socket.next_layer().socket().set_option(tcp::no_delay(true));
  socket.handshake("127.0.0.1", "/");
  socket.binary(true);
  beast::flat_buffer buffer;
  socket.read(buffer);
  const std::string request = wire::to_msgpack(
      wire::Map{{"observation/image", wire::array(at::zeros({224, 224, 3}, at::kByte))}, {"prompt", "lift"}});
  const auto begin = std::chrono::steady_clock::now();
  for (int64_t i = 0; static_cast<double>(i) < seconds * hz; ++i) {
    std::this_thread::sleep_until(begin + std::chrono::duration<double>(static_cast<double>(i) / hz));
    const auto sent = std::chrono::steady_clock::now();
    socket.write(net::buffer(request));
    buffer.clear();
    socket.read(buffer);
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - sent;
    const wire::Value answer = wire::from_msgpack(beast::buffers_to_string(buffer.data()), "answer");
    const wire::Value& timing = *answer.find("server_timing");
    const wire::Value* queue = timing.find("queue_ms");  // openpi's servers have no queue
    added.push_back(took.count() - *timing.find("infer_ms")->as<double>() -
                    (queue != nullptr ? *queue->as<double>() : 0));
  }
}

void ask(int64_t port, benchmark::State& state) {
  constexpr int kClients = 4;
  constexpr double kHz = 20, kSeconds = 10;
  std::vector<std::vector<double>> added(kClients);
  std::vector<std::thread> clients;
  for (auto& times : added) clients.emplace_back([&] { play(port, kHz, kSeconds, times); });
  for (std::thread& client : clients) client.join();
  std::vector<double> all;
  for (const auto& times : added) all.insert(all.end(), times.begin(), times.end());
  std::ranges::sort(all);
  const auto at = [&](double share) {
    return all[static_cast<size_t>(share * static_cast<double>(all.size() - 1))];
  };
  state.counters["p50_ms"] = at(0.5);
  state.counters["p99_ms"] = at(0.99);
  state.counters["answers"] = static_cast<double>(all.size());
}

void Peer(benchmark::State& state) {
  const char* port = std::getenv("APO_PEER_PORT");
  if (port == nullptr) return state.SkipWithError("APO_PEER_PORT is not set");
  for (auto _ : state) ask(std::atoll(port), state);
}
BENCHMARK(Peer)->Iterations(1)->UseRealTime()->Unit(benchmark::kSecond);

void AddedLatency(benchmark::State& state) {
  const bool records = state.range(0) != 0;
  const auto file =
      std::filesystem::temp_directory_path() / concat("apo-serving-benchmark-", ::getpid(), ".hdf5");
  for (auto _ : state) {
    Quick policy;
    ServeOptions options;
    options.port = 0;
    if (records) options.record = file.string();
    {
      Server server(policy, options, {});
      ask(server.port(), state);
    }
    std::filesystem::remove(file);
  }
}
BENCHMARK(AddedLatency)
    ->ArgName("records")
    ->Arg(0)
    ->Arg(1)
    ->Iterations(1)
    ->UseRealTime()
    ->Unit(benchmark::kSecond);

}  // namespace

BENCHMARK_MAIN();
