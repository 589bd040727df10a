#include "results/table.h"

#include <algorithm>
#include <iomanip>
#include <sstream>

#include "apo/base/error.h"
#include "apo/base/text.h"

namespace apo::results {

std::string markdown_table(const TableRows& rows) {
  std::string out;
  for (size_t i = 0; i < rows.size(); ++i) {
    for (const std::string& cell : rows[i]) out += "| " + printable(cell) + " ";
    out += "|\n";
    if (i > 0) continue;
    for (size_t c = 0; c < rows[0].size(); ++c) out += "| --- ";
    out += "|\n";
  }
  return out;
}

std::string aligned_table(const TableRows& given) {
  TableRows rows = given;
  for (auto& row : rows)
    for (std::string& cell : row) cell = printable(cell);
  std::vector<size_t> widths(rows.front().size());
  for (const auto& row : rows)
    for (size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], row[c].size());
  std::ostringstream out;
  for (const auto& row : rows) {
    for (size_t c = 0; c + 1 < row.size(); ++c)
      out << std::left << std::setw(static_cast<int>(widths[c] + 2)) << row[c];
    out << row.back() << "\n";
  }
  return out.str();
}

std::string fixed(double value, int digits) {
  std::ostringstream out;
  out << std::fixed << std::setprecision(digits) << value;
  return out.str();
}

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) out += c == '|' ? std::string("\\|") : std::string(1, c);
  return out;
}

}  // namespace apo::results
