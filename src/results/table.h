// Tables of results as text.
#pragma once

#include <string>
#include <vector>

namespace apo::results {

using TableRows = std::vector<std::vector<std::string>>;  ///< the head first

/// In Markdown; the cells' Markdown is taken as it is, what would act on a terminal is shown (`printable`).
std::string markdown_table(const TableRows& rows);
/// In columns that line up in a terminal.
std::string aligned_table(const TableRows& rows);
/// With so many digits after the point.
std::string fixed(double value, int digits);
/// A cell that holds no border of a table.
std::string escaped(const std::string& text);

}  // namespace apo::results
