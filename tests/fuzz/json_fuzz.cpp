// A JSON text of any bytes: every value of it is read and shown, or the text is refused with a message.
//
// The first byte, where it is above 127, says how deeply lists are nested behind the last colon: more deeply
// than an input is long.
#include <cstdint>
#include <string>

#include "apo/base/error.h"
#include "base/json.h"

namespace {

template <class Json>
void read_all(const apo::BasicJsonField<Json>& field) {
  const auto refused = [](const auto& call) {
    try {
      call();
    } catch (const apo::DataError& error) {
      if (*error.what() == '\0') __builtin_trap();
    }
  };
  refused([&] { field.template get<int16_t>(); });
  refused([&] { field.template get<double>(); });
  refused([&] { field.template get<std::vector<bool>>(); });
  refused([&] { field.template find<std::map<std::string, std::string>>(); });
  refused([&] { field.inner_path(); });
  refused([&] { field.count(); });
  if (field.raw().is_array())
    for (const auto& inner : field.list()) read_all(inner);
  else if (field.raw().is_object())
    for (const auto& [key, inner] : field.entries()) read_all(inner);
}

template <class Json>
void read(const std::string& text) {
  try {
    const Json json = apo::parse_json<Json>(text, "f.json");
    read_all(apo::BasicJsonField<Json>(&json, "f.json"));
    json.dump();
  } catch (const apo::DataError& error) {
    if (*error.what() == '\0') __builtin_trap();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  std::string text(reinterpret_cast<const char*>(data) + 1, size - 1);
  const size_t colon = text.rfind(':');
  if (data[0] > 127 && colon != std::string::npos) {
    const size_t levels = size_t{1} << (data[0] - 128) % 21;
    text.insert(colon + 1, std::string(levels, '[') + std::string(levels, ']'));
  }
  read<nlohmann::json>(text);
  read<nlohmann::ordered_json>(text);
  return 0;
}
