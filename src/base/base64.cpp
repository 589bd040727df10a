#include "base/base64.h"

#include <algorithm>
#include <array>
#include <cstdint>

namespace apo {
namespace {

constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr uint8_t kNone = 0xff;  // has a bit that no letter's value has

constexpr std::array<uint8_t, 256> kValues = [] {
  std::array<uint8_t, 256> values{};
  values.fill(kNone);
  for (size_t i = 0; i < kAlphabet.size(); ++i)
    values[static_cast<unsigned char>(kAlphabet[i])] = static_cast<uint8_t>(i);
  return values;
}();

}  // namespace

std::string base64(std::string_view bytes) {
  std::string out((bytes.size() + 2) / 3 * 4, '=');
  char* next = out.data();
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const size_t present = std::min<size_t>(3, bytes.size() - i);
    uint32_t group = 0;
    for (size_t k = 0; k < 3; ++k)
      group = group << 8 | (k < present ? static_cast<unsigned char>(bytes[i + k]) : 0u);
    for (size_t k = 0; k <= present; ++k) next[k] = kAlphabet[group >> (18 - 6 * k) & 63];
    next += 4;
  }
  return out;
}

std::optional<std::string> from_base64(std::string_view text) {
  if (text.size() % 4 != 0) return std::nullopt;
  const size_t padding = text.ends_with("==") ? 2 : text.ends_with('=') ? 1 : 0;
  text.remove_suffix(padding);
  std::string out(text.size() / 4 * 3 + (padding == 0 ? 0 : 3 - padding), '\0');
  char* next = out.data();
  uint8_t seen = 0;
  const auto value = [&](size_t i) -> uint32_t {
    const uint8_t six_bits = kValues[static_cast<unsigned char>(text[i])];
    seen |= six_bits;
    return six_bits;
  };
  size_t i = 0;
  for (; i + 4 <= text.size(); i += 4, next += 3) {
    const uint32_t group = value(i) << 18 | value(i + 1) << 12 | value(i + 2) << 6 | value(i + 3);
    next[0] = static_cast<char>(group >> 16);
    next[1] = static_cast<char>(group >> 8);
    next[2] = static_cast<char>(group);
  }
  if (padding > 0) {
    const uint32_t group = value(i) << 18 | value(i + 1) << 12 | (padding == 1 ? value(i + 2) << 6 : 0);
    next[0] = static_cast<char>(group >> 16);
    if (padding == 1) next[1] = static_cast<char>(group >> 8);
    if ((group & (padding == 1 ? 0xffu : 0xffffu)) != 0) return std::nullopt;  // bits that no byte takes
  }
  return (seen & 0xc0) == 0 ? std::optional(std::move(out)) : std::nullopt;
}

}  // namespace apo
