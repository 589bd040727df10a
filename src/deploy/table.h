// Tables of results as text.
#pragma once

#include <string>
#include <vector>

namespace apo::deploy {

using TableRows = std::vector<std::vector<std::string>>;  ///< the head first

/// In Markdown; what is in the cells is taken as it is.
std::string markdown_table(const TableRows& rows);
/// In columns that line up in a terminal.
std::string aligned_table(const TableRows& rows);
/// With so many digits after the point.
std::string fixed(double value, int digits);

}  // namespace apo::deploy
