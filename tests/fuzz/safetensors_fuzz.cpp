// A safetensors file of any bytes: every tensor can be read to its last byte, or the file is refused with a
// message.
#include <torch/types.h>

#include "apo/base/error.h"
#include "apo/models/safetensors.h"
#include "input_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const apo::fuzz::InputFile input(".safetensors");
  const std::string& path = input.write(data, size);
  try {
    const apo::models::SafetensorsReader reader(path);
    uint64_t sum = 0;
    for (const std::string& name : reader.names()) {
      const at::Tensor tensor = reader.tensor(name);
      if (tensor.sizes() != at::IntArrayRef(reader.shape(name))) __builtin_trap();
      const auto* bytes = static_cast<const uint8_t*>(tensor.const_data_ptr());
      for (size_t i = 0; i < tensor.nbytes(); ++i) sum += bytes[i];
    }
    [[maybe_unused]] static volatile uint64_t keep;
    keep = sum;
  } catch (const apo::Error& error) {
    if (*error.what() == '\0') __builtin_trap();
  }
  return 0;
}
