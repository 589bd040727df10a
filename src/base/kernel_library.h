// The library of CUDA kernels (libapo_cuda.so), which links neither torch nor the rest of this library and is
// loaded when the first tensor on a CUDA device arrives.
#pragma once

#include <string>

namespace apo {

/// A table of functions; `version`, its first member, is that of the library that it was built with.
template <class Table>
struct KernelTable {
  const Table* table = nullptr;
  std::string problem = {};  ///< why there is none
};

/// What the exported function `symbol` returns, beside our own code, in lib/ beside its folder, or where the
/// loader looks. Null, with the reason, where it cannot be loaded or is of another version.
KernelTable<const char*> load_kernel_table(const char* symbol);

template <class Table>
KernelTable<Table> load_kernels(const char* symbol) {
  KernelTable<const char*> found = load_kernel_table(symbol);
  return {reinterpret_cast<const Table*>(found.table), std::move(found.problem)};
}

}  // namespace apo
