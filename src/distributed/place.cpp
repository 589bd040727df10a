// The variables by which launchers tell a process which one it is.
#include <charconv>
#include <cstdlib>
#include <limits>
#include <string_view>

#include "apo/base/error.h"
#include "apo/distributed/group.h"

namespace apo::distributed {
namespace {

constexpr int64_t kDefaultPort = 29500, kFirstJobPort = 20000, kJobPorts = 10000;
constexpr int64_t kMostRanks = 1 << 20;

struct Launcher {
  const char* rank;
  const char* size;
  const char* local_rank;
  const char* local_size;
};
constexpr Launcher kTorchrun = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"};
constexpr Launcher kLaunchers[] = {
    kTorchrun,
    {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK",
     "OMPI_COMM_WORLD_LOCAL_SIZE"},
    {"PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"},
    // of the step: a batch script itself has SLURM_PROCID and SLURM_NTASKS too, and is one process
    {"SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", ""}};

std::optional<int64_t> number(const Environment& environment, const char* name, int64_t smallest,
                              int64_t largest) {
  const std::optional<std::string> text = environment(name);
  if (!text) return {};
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), value);
  APO_CHECK(
      ConfigError,
      error == std::errc() && end == text->data() + text->size() && smallest <= value && value <= largest,
      name, ": expected a whole number from ", smallest, " to ", largest, ", found \"", *text, "\"");
  return value;
}

// "node[03-04,07],other" -> "node03"
std::string first_node(std::string_view list) {
  const size_t bracket = list.find_first_of("[,");
  std::string node(list.substr(0, bracket));
  if (bracket == std::string_view::npos || list[bracket] == ',') return node;
  const std::string_view numbers = list.substr(bracket + 1);
  node += numbers.substr(0, numbers.find_first_of("-,]"));
  return node;
}

void find_meeting_place(const Environment& environment, const Launcher& launcher, Place& place) {
  const auto local_size = number(environment, launcher.local_size, 1, kMostRanks);
  const std::optional<std::string> address = environment("MASTER_ADDR"),
                                   nodes = environment("SLURM_STEP_NODELIST");
  if (address && !address->empty())
    place.address = *address;
  else if (local_size == place.size)
    place.address = "127.0.0.1";
  else if (nodes && !nodes->empty())
    place.address = first_node(*nodes);
  else
    throw ConfigError(concat("MASTER_ADDR: expected the name or address of the machine of rank 0, which the ",
                             place.size, " ranks meet at, found none"));
  constexpr int64_t kLargestJob = std::numeric_limits<int64_t>::max();
  if (const auto port = number(environment, "MASTER_PORT", 1, 65535))
    place.port = *port;
  else if (const auto job = number(environment, "SLURM_JOB_ID", 0, kLargestJob))
    place.port = kFirstJobPort + *job % kJobPorts;
  else
    place.port = kDefaultPort;
}

}  // namespace

Place place_of(const Environment& environment) {
  for (const Launcher& launcher : kLaunchers) {
    const auto size = number(environment, launcher.size, 1, kMostRanks);
    const bool own = &launcher == &kLaunchers[0];
    // other launchers' variables may be left over alone
    if (!size && !(own && environment(launcher.rank))) continue;
    APO_CHECK(ConfigError, size, launcher.rank, " is set and ", launcher.size,
              " is not: expected both, as torchrun sets them, or neither");
    const auto rank = number(environment, launcher.rank, 0, *size - 1);
    if (!rank && !own) continue;
    APO_CHECK(ConfigError, rank, launcher.size, " is set and ", launcher.rank,
              " is not: expected both, as torchrun sets them, or neither");
    Place place{.rank = *rank, .size = *size};
    if (place.size == 1) return place;
    place.local_rank = number(environment, launcher.local_rank, 0, place.size - 1).value_or(0);
    find_meeting_place(environment, launcher, place);
    if (own) {
      place.has_agent = environment("TORCHELASTIC_USE_AGENT_STORE") == "True";
      place.attempt = environment("TORCHELASTIC_RESTART_COUNT").value_or("");
    }
    return place;
  }
  return {};
}

Place place_of_process() {
  return place_of([](const char* name) -> std::optional<std::string> {
    const char* value = *name == '\0' ? nullptr : std::getenv(name);
    if (value == nullptr) return {};
    return value;
  });
}

}  // namespace apo::distributed
