// A safetensors file that is a hole as long as its weights would be: it takes no room on disk and reads as
// zeros.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>

namespace apo::testing {

/// `parameters` are pairs of a name and a bfloat16 tensor, on the meta device, say.
template <class Parameters>
void write_hollow_safetensors(const std::filesystem::path& path, const Parameters& parameters) {
  nlohmann::ordered_json header;
  uint64_t end = 0;
  for (const auto& [name, tensor] : parameters) {
    header[name] = {
        {"dtype", "BF16"}, {"shape", tensor.sizes().vec()}, {"data_offsets", {end, end + tensor.nbytes()}}};
    end += tensor.nbytes();
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const uint64_t length = text.size();
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(&length), 8);
  file << text << std::flush;
  if (!file.good()) throw std::runtime_error(path.string() + ": cannot write");
  std::filesystem::resize_file(path, 8 + length + end);
}

}  // namespace apo::testing
