// NCCL's functions, of which those used here are declared: its header is not needed to build.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "distributed/collectives.h"

namespace apo::distributed {

struct NcclId {
  char bytes[128];
};

/// As in nccl.h 2.13 and later; results and types are its enumerations' numbers.
struct NcclFunctions {
  int (*get_unique_id)(NcclId* id);
  int (*comm_init_rank)(void** comm, int size, NcclId id, int rank);
  int (*all_reduce)(const void* from, void* to, size_t count, int type, int operation, void* comm,
                    void* stream);
  int (*broadcast)(const void* from, void* to, size_t count, int type, int root, void* comm, void* stream);
  int (*comm_get_async_error)(void* comm, int* result);
  int (*comm_destroy)(void* comm);
  int (*comm_abort)(void* comm);
  const char* (*get_error_string)(int result);
  const char* (*get_last_error)(void* comm);
};

/// Of the libnccl.so.2 that LibTorch's CUDA half has loaded, or the loader finds. RunError without one.
const NcclFunctions& nccl_functions();

/// `functions` outlive it; every rank is a device of its own.
CollectivesKind nccl_collectives(const std::function<const NcclFunctions&()>& functions);

}  // namespace apo::distributed
