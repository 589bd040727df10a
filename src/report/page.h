// The page around the charts: style sheet, script for the pointer, header, notes.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace apo::report {

/// A number that a reader should see first, with its name.
struct Tile {
  std::string name, value, detail;
};

struct Page {
  std::string title;               ///< plain
  std::string subtitle;            ///< plain; one line under the title
  std::vector<std::string> story;  ///< plain; sentences above everything else
  std::vector<Tile> tiles;         ///< plain
  std::vector<std::string> notes;  ///< plain; what the reader must know about the data
  std::string body;                ///< HTML
};

/// The whole document. It loads nothing from anywhere and runs its own script alone, and tells the browser to
/// refuse all else.
std::string render(const Page& page);
/// Writes directory/report.html. ConfigError if something else than such a document lies there.
void write_page(const std::filesystem::path& directory, const Page& page);

/// <section> with a heading and, below it, a plain sentence for who reads such a page for the first time;
/// nothing if `content` is empty.
std::string section(const std::string& title, const std::string& content, const std::string& lead = "");
/// A block that opens when its title is pressed; nothing if `content` is empty.
std::string folded(const std::string& title, const std::string& content);
/// Charts side by side, as many as fit; nothing if `charts` is empty.
std::string grid(const std::string& charts);
/// The same for tall charts: fewer side by side, each as tall as it is.
std::string wide_grid(const std::string& charts);

/// The name of a directory, however it is written ("runs/apo/", ".").
std::string directory_name(const std::filesystem::path& dir);

}  // namespace apo::report
