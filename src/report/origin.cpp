#include "report/origin.h"

#include "apo/base/error.h"
#include "report/html.h"

namespace apo::report {

std::string origin_block(const std::vector<Provenance>& origins) {
  if (origins.empty()) return "";
  std::string commands;
  Table table{{""}, {}};
  std::vector<std::vector<std::string>>& rows = table.rows;
  for (const Provenance& origin : origins) {
    if (!origin.command.empty()) commands += origin.command + "\n";
    table.head.push_back(origins.size() == 1 ? "" : table.head.size() == 1 ? "begun" : "gone on with");
    size_t row = 0;
    Provenance::for_each_field(origin, [&](const std::string& name, const auto& member) {
      if (name == "command") return;
      if (row == rows.size()) rows.push_back({name});
      rows[row++].push_back(concat(member));
    });
  }
  return concat(commands.empty() ? "" : concat("<pre>", escape(commands), "</pre>\n"), draw(table));
}

}  // namespace apo::report
