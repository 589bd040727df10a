// Full rate for a while: every answer comes, in its order, to whom it belongs, and memory stays flat.
// APO_SOAK_SECONDS (20) says how long.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <fstream>

#include "apo/data/trajectory.h"
#include "serving/world.h"

namespace apo::serving {
namespace {

using namespace testing;

constexpr int64_t kClients = 4, kStepsOfEpisode = 100;
constexpr double kFlatMiB = 48;  // what may come between a quarter of the time and the end

double resident_mib() {
  std::ifstream file("/proc/self/statm");
  int64_t pages = 0, resident = 0;
  file >> pages >> resident;
  return static_cast<double>(resident) * 4096 / (1 << 20);
}

double seconds_of_soak() {
  const char* text = std::getenv("APO_SOAK_SECONDS");
  return text != nullptr ? std::atof(text) : 20;
}

// What one client was answered wrongly, and how often it asked.
struct Tally {
  int64_t asked = 0, wrong = 0, reordered = 0;
};

Tally ask_until(int64_t port, int64_t client, std::chrono::steady_clock::time_point end) {
  Tally tally;
  WebClient socket(port);
  while (std::chrono::steady_clock::now() < end) {
    const auto number = static_cast<uint8_t>((client * 61 + tally.asked) % 256);
    const wire::Value answer = socket.ask(request_map(number, 0.25f, {{"request_id", tally.asked}}));
    const wire::Value* id = answer.find("request_id");
    const wire::Value* actions = answer.find("actions");
    if (id == nullptr || actions == nullptr || actions->as<wire::Array>() == nullptr) {
      ++tally.wrong;
      break;
    }
    tally.reordered += *id != wire::Value(tally.asked);
    const at::Tensor action = wire::tensor(*actions->as<wire::Array>());
    tally.wrong += std::abs(action[0][0].item<float>() - number / 255.0f) > 0.011;
    if (++tally.asked % kStepsOfEpisode == 0) socket.ask(wire::Map{{"event", "end"}, {"success", true}});
  }
  return tally;
}

TEST(Soak, NothingIsLostMixedUpOrKept) {
  const TempDir dir;
  ServeOptions options = free_port();
  options.record = dir / "served.hdf5";
  const auto begin = std::chrono::steady_clock::now();
  const auto at = [&](double share) {
    return begin + std::chrono::duration_cast<std::chrono::steady_clock::duration>(
                       std::chrono::duration<double>(seconds_of_soak() * share));
  };
  std::vector<Tally> tallies(kClients);
  double early = 0, late = 0;
  {
    const World world(options);
    std::vector<std::thread> clients;
    for (int64_t c = 0; c < kClients; ++c)
      clients.emplace_back([&, c] { tallies[static_cast<size_t>(c)] = ask_until(world.port(), c, at(1)); });
    std::this_thread::sleep_until(at(0.25));
    early = resident_mib();
    for (std::thread& client : clients) client.join();
    late = resident_mib();
  }
  int64_t asked = 0;
  for (const Tally& tally : tallies) {
    EXPECT_EQ(tally.wrong, 0);
    EXPECT_EQ(tally.reordered, 0);
    EXPECT_GT(tally.asked, 0);
    asked += tally.asked;
  }
  EXPECT_LT(late - early, kFlatMiB) << "from " << early << " MiB";
  int64_t recorded = 0;
  const auto file = data::TrajectoryFile::open(options.record);
  for (int64_t i = 0; i < file->num_episodes(); ++i) recorded += file->episode(i).num_steps();
  EXPECT_EQ(recorded, asked);
  std::printf("%ld answers, %.0f a second; memory from %.0f to %.0f MiB\n", static_cast<long>(asked),
              static_cast<double>(asked) / seconds_of_soak(), early, late);
}

}  // namespace
}  // namespace apo::serving
