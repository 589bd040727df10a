// Text for pages: escaping what others wrote, numbers a person can read, tables.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace apo::report {

/// The text for use between tags and inside quoted attributes. & < > " ' become entities; control characters
/// and bytes that are not UTF-8 become U+FFFD. Everything that comes from a file goes through here.
std::string escape(std::string_view text);

/// <a> to a file at this path relative to the page's own directory, whatever the path is made of: it is no
/// address of another kind ("javascript:...") and of no other place. The words are plain.
std::string link_to(std::string_view relative_path, std::string_view words);

/// A number with `digits` significant digits: 0.5312 -> "0.531", 12345.6 -> "12,346", 0.00002 -> "2e-5"; "–"
/// if it is not finite.
std::string format_number(double value, int digits = 3);
/// A whole number with thousands separated: "12,346".
std::string format_count(int64_t value);
/// A share in per cent: 0.534 -> "53%" or, with one decimal, "53.4%".
std::string format_percent(double share, int decimals = 0);
/// A time: "85 ms", "5.4 s", "72 s", "3 min 12 s", "2 h 5 min".
std::string format_duration(double seconds);
/// A size: "512 MiB", "1.4 GiB".
std::string format_bytes(double bytes);
/// Fixed decimals, never "-0.0".
std::string format_fixed(double value, int decimals);
/// A pixel coordinate: one decimal, "12.5".
std::string px(double value);

/// One thing counted: "1 round", "2 rounds", "1,200 steps".
std::string count_of(int64_t n, std::string_view singular);

/// A table whose cells are plain text (escaped here); the first column is left-aligned, the others
/// right-aligned.
struct Table {
  std::vector<std::string> head;
  std::vector<std::vector<std::string>> rows;
};
/// The table as HTML that scrolls sideways on a narrow screen.
std::string draw(const Table& table);

}  // namespace apo::report
