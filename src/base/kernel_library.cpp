#include "base/kernel_library.h"

#include "apo/base/error.h"
#include "apo/base/location.h"
#include "apo/base/version.h"
#include "base/shared_library.h"

namespace apo {
namespace {

constexpr const char* kModule = "libapo_cuda.so";

}  // namespace

KernelTable<const char*> load_kernel_table(const char* symbol) {
  try {
    SharedLibrary library(find_beside({kModule, std::string("../lib/") + kModule}).value_or(kModule));
    const char* const* (*table)() = nullptr;
    library.find(table, symbol);
    APO_CHECK(RunError, *table() == version(), library.name(), ": expected the kernels of apo ", version(),
              ", found those of ", *table());
    library.keep();
    return {.table = table()};
  } catch (const RunError& error) {
    return {.problem = error.what()};
  }
}

}  // namespace apo
