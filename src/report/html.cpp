#include "report/html.h"

#include <charconv>
#include <cmath>

#include "apo/base/error.h"
#include "apo/base/text.h"

namespace apo::report {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

// Locale-free printing of a number.
std::string chars(double value, std::chars_format format, int precision) {
  char buffer[400];
  const auto result = std::to_chars(buffer, buffer + sizeof buffer, value, format, precision);
  return std::string(buffer, result.ptr);
}

// "1234567.8" -> "1,234,567.8"
std::string group_thousands(std::string text) {
  const size_t start = !text.empty() && text[0] == '-' ? 1 : 0;
  const size_t point = std::min(text.find('.'), text.size());
  for (size_t i = point; i > start + 3; i -= 3) text.insert(i - 3, 1, ',');
  return text;
}

std::string trim_zeros(std::string text) {
  if (text.find('.') == std::string::npos) return text;
  while (text.back() == '0') text.pop_back();
  if (text.back() == '.') text.pop_back();
  return text;
}

}  // namespace

std::string escape(std::string_view text) {
  std::string out;
  out.reserve(text.size() + text.size() / 8);
  while (!text.empty()) {
    const size_t size = character_size(text);
    const char c = text[0];
    if (size == 0 || c == '\x7f' ||
        (size == 1 && static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t')) {
      if (c != '\r') out += kReplacement;
    } else if (c == '&') {
      out += "&amp;";
    } else if (c == '<') {
      out += "&lt;";
    } else if (c == '>') {
      out += "&gt;";
    } else if (c == '"') {
      out += "&quot;";
    } else if (c == '\'') {
      out += "&#39;";
    } else {
      out += text.substr(0, size);
    }
    text.remove_prefix(size == 0 ? 1 : size);
  }
  return out;
}

std::string link_to(std::string_view relative_path, std::string_view words) {
  constexpr std::string_view kPlain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~/";
  std::string address = "./";
  for (const char c : relative_path) {
    if (kPlain.find(c) != std::string_view::npos) {
      address += c;
    } else {
      const auto byte = static_cast<unsigned char>(c);
      constexpr std::string_view kDigits = "0123456789ABCDEF";
      address += concat('%', kDigits[byte >> 4], kDigits[byte & 0xf]);
    }
  }
  return concat("<a href=\"", address, "\">", escape(words), "</a>");
}

std::string format_fixed(double value, int decimals) {
  if (!std::isfinite(value)) return "–";
  std::string text = chars(value, std::chars_format::fixed, decimals);
  if (text[0] == '-' && text.find_first_not_of("-0.") == std::string::npos) text.erase(0, 1);
  return group_thousands(text);
}

std::string format_number(double value, int digits) {
  if (!std::isfinite(value)) return "–";
  if (value == 0) return "0";
  const int exponent = static_cast<int>(std::floor(std::log10(std::abs(value))));
  if (exponent < -3 || exponent >= 9) {
    const std::string text = chars(value, std::chars_format::scientific, digits - 1);
    const size_t e = text.find('e');
    int power = 0;
    const char* first = text.data() + e + (text[e + 1] == '+' ? 2 : 1);
    std::from_chars(first, text.data() + text.size(), power);
    return concat(trim_zeros(text.substr(0, e)), "e", power);
  }
  const int decimals = std::max(0, digits - 1 - exponent);
  return trim_zeros(format_fixed(value, decimals));
}

std::string format_count(int64_t value) { return group_thousands(std::to_string(value)); }

std::string format_percent(double share, int decimals) {
  return std::isfinite(share) ? format_fixed(100 * share, decimals) + "%" : "–";
}

std::string format_duration(double seconds) {
  if (!std::isfinite(seconds)) return "–";
  if (seconds < 1) return format_number(1000 * seconds, 2) + " ms";
  if (seconds < 9.95) return format_fixed(seconds, 1) + " s";
  if (seconds < 119.5) return format_fixed(seconds, 0) + " s";
  if (seconds > 1e12) return format_number(seconds) + " s";
  const auto whole = static_cast<int64_t>(std::llround(seconds));
  if (whole < 3600) return concat(whole / 60, " min ", whole % 60, " s");
  if (whole < 48 * 3600) return concat(whole / 3600, " h ", whole % 3600 / 60, " min");
  return concat(format_count(whole / 86400), " d ", whole % 86400 / 3600, " h");
}

std::string format_bytes(double bytes) {
  if (!std::isfinite(bytes)) return "–";
  const double mib = bytes / (1 << 20);
  if (mib < 0.95) return format_number(bytes / 1024) + " KiB";
  return mib < 1000 ? format_number(mib) + " MiB" : format_number(mib / 1024) + " GiB";
}

std::string px(double value) {
  return chars(std::abs(value) < 0.05 ? 0.0 : value, std::chars_format::fixed, 1);
}

std::string count_of(int64_t n, std::string_view singular) {
  return concat(format_count(n), " ", singular, n == 1 ? "" : "s");
}

std::string draw(const Table& table) {
  std::string out = "<div class=\"scroll\"><table>\n<thead><tr>";
  for (const std::string& cell : table.head) out += concat("<th>", escape(cell), "</th>");
  out += "</tr></thead>\n<tbody>\n";
  for (const auto& row : table.rows) {
    out += "<tr>";
    for (const std::string& cell : row) out += concat("<td>", escape(cell), "</td>");
    out += "</tr>\n";
  }
  return out + "</tbody></table></div>\n";
}

}  // namespace apo::report
