// The processes that train one run together, rank 0 to size - 1: sums over them, and how they end together.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apo/distributed/options.h"

namespace apo::distributed {

class Collectives;

/// Which process this is among those that a launcher started, and where they meet.
struct Place {
  int64_t rank = 0, size = 1;
  int64_t local_rank = 0;    ///< among those of this machine
  std::string address = {};  ///< of the machine of rank 0
  int64_t port = 0;
  bool has_agent = false;    ///< torchrun's agent listens there, not rank 0
  std::string attempt = {};  ///< of torchrun's restarts
};

/// The value of an environment variable; nothing where it is not set.
using Environment = std::function<std::optional<std::string>(const char* name)>;

/// Reads what the launchers set: torchrun (RANK, WORLD_SIZE, LOCAL_RANK), Open MPI (OMPI_COMM_WORLD_*), MPICH
/// and Intel MPI (PMI_*), SLURM's srun (SLURM_STEP_NUM_TASKS, SLURM_PROCID, SLURM_LOCALID), in this order;
/// with none of them a process is alone. MASTER_ADDR and MASTER_PORT say where they meet. Without them: this
/// machine if all ranks are on it, else the first node of the SLURM step; a port made from the SLURM job's
/// number, else 29500.
/// ConfigError naming the variable: no whole number, out of range, or one of two that belong together.
Place place_of(const Environment& environment);
/// Of this process.
Place place_of_process();

/// All ranks call the same members in the same order. With one rank nothing is sent and nothing changes.
///
/// Sums are equal bit for bit on all ranks. Tensors pass through the host's memory (Gloo), but for those on
/// devices that were connected; those of one call are on the same kind of device on all ranks.
/// Errors  RunError where another rank is gone or has not answered within distributed.timeout_seconds; where
///         it said why it failed (`fail`), an Error with its message and its exit code.
class Group {
 public:
  /// Alone.
  Group();
  /// Waits for the others. With more than one rank the process ignores SIGPIPE from here on, unless it
  /// handles it itself. ConfigError: two processes have one rank. RunError: the port is taken, or not all
  /// came in time.
  Group(const Place& place, const DistributedOptions& options);
  ~Group();
  Group(const Group&) = delete;
  Group& operator=(const Group&) = delete;

  /// From here on tensors on `device`, this rank's, are summed there: by NCCL if all ranks have a CUDA
  /// device and NCCL, and options.backend, which is the same on all, is not gloo. Once, before the first
  /// such tensor. Where NCCL does not work on all of them, a warning of the first says why; RunError with
  /// backend nccl.
  void connect(at::Device device) const;

  int64_t rank() const { return place_.rank; }
  int64_t size() const { return place_.size; }
  int64_t local_rank() const { return place_.local_rank; }
  bool is_alone() const { return place_.size == 1; }
  /// The one that writes files.
  bool is_first() const { return place_.rank == 0; }

  /// In place: float32, float64, int64 or uint8.
  void sum(const at::Tensor& tensor) const;
  /// Each in place, packed; those in half precision are added in float32.
  void sum(const std::vector<at::Tensor>& tensors) const;
  /// In place, packed: what rank `from` holds, bit for bit. The others' are of the same types and shapes.
  void broadcast(const std::vector<at::Tensor>& tensors, int64_t from) const;
  /// The rows of all ranks, [total, ...], of which these are [begin, begin + rows); together the ranks have
  /// each row once. Types as `sum`; on the rows' device.
  at::Tensor gather_rows(const at::Tensor& rows, int64_t begin, int64_t total) const;
  /// Whether each is true on some rank.
  std::array<bool, 2> any(std::array<bool, 2> values) const;
  bool any(bool value) const { return any({value, false})[0]; }
  void barrier() const { any(false); }
  /// As barrier, but however long it takes: for what the first rank does alone.
  void wait_for_first() const;
  /// The texts of all ranks.
  std::vector<std::string> gather(const std::string& text) const;
  std::string from_first(const std::string& text) const;

  /// Tells the others why this rank ends. Never throws.
  void fail(const std::exception& error) noexcept;

 private:
  struct Connection;
  void reduce(const at::Tensor& tensor, bool patient = false) const;
  Collectives* on_device(const at::Tensor& tensor) const;
  void finish() const;
  template <class Send>
  void wait_for(const Send& send) const;
  [[noreturn]] void lost(const std::string& what) const;

  Place place_;
  DistributedOptions options_;
  std::unique_ptr<Connection> connection_;
};

}  // namespace apo::distributed
