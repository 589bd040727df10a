// Holds every source file against the map of the rooms: who may include whom, what stays out of published
// headers, and how long a file may grow. Tests (benchmarks and fuzzers among them) are in no room and may
// include all of them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "support/places.h"

namespace apo {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

using Files = std::map<std::string, std::string>;  // path from the repository's root -> content

constexpr size_t kLongestHeader = 200;
constexpr size_t kLongestSource = 450;
constexpr size_t kWidestComment = 110;  // characters; code is clang-format's
constexpr size_t kLongestTest = 600;    // cases spelled out by hand are long

// Room -> the rooms it may include beside itself: what CMake was told (apo_room(... USES ...)).
const std::map<std::string, std::set<std::string>>& rooms() {
  static const auto table = [] {
    std::map<std::string, std::set<std::string>> all;
    std::ifstream file(apo::testing::in_build("rooms.txt"));
    for (std::string line; std::getline(file, line);) {
      std::istringstream words(line);
      std::string room;
      words >> room;
      auto& uses = all[room];
      for (std::string used; words >> used;) uses.insert(used);
    }
    return all;
  }();
  return table;
}

// The files that gather the options of all rooms.
bool is_roof(const std::string& path) {
  return path == "include/apo/run_config.h" || path == "src/run_config.cpp";
}

bool has_extension(const std::string& path, std::initializer_list<std::string_view> extensions) {
  return std::ranges::any_of(extensions,
                             [&](std::string_view extension) { return path.ends_with(extension); });
}
bool is_header(const std::string& path) { return has_extension(path, {".h", ".cuh"}); }
bool is_cuda(const std::string& path) { return has_extension(path, {".cu", ".cuh"}); }
bool is_outside(const std::string& path) { return path.starts_with("tests/"); }
bool is_published(const std::string& path) { return path.starts_with("include/apo/"); }

// "data" for include/apo/data/labels.h and src/data/kernels/x.cu; empty outside the rooms.
std::string room_of(const std::string& path) {
  static const std::regex pattern("^(?:include/apo|src)/([^/]+)/.+$");
  std::smatch match;
  return std::regex_match(path, match, pattern) ? match[1].str() : "";
}

// The room whose header `#include "..."` names, published or private; empty for other headers.
std::string included_room(const std::string& header) {
  const std::string inner = header.starts_with("apo/") ? header.substr(4) : header;
  const size_t slash = inner.find('/');
  if (slash == std::string::npos) return "";
  const std::string first = inner.substr(0, slash);
  return header.starts_with("apo/") || rooms().contains(first) ? first : "";
}

struct Include {
  size_t line;
  std::string header;
};

std::vector<std::string> lines_of(const std::string& content) {
  std::istringstream in(content);
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

std::vector<Include> includes_of(const std::string& content) {
  static const std::regex pattern(R"re(^\s*#\s*include\s*[<"]([^>"]+)[>"].*$)re");
  std::vector<Include> includes;
  const std::vector<std::string> lines = lines_of(content);
  std::smatch match;
  for (size_t i = 0; i < lines.size(); ++i)
    if (std::regex_match(lines[i], match, pattern)) includes.push_back({i + 1, match[1].str()});
  return includes;
}

// What is wrong with including `header` from `path`; empty if nothing is.
std::string fault_of(const std::string& path, const std::string& header) {
  static const std::regex third_party(
      "^(yaml-cpp/|hdf5|H5|highfive/|nlohmann/|mujoco/|webp/|msgpack|boost/|CLI/|CLI11).*$");
  if (header == "torch/torch.h") return "is slow to compile: include what is used";
  if (is_cuda(path) && (header.starts_with("torch/") || header.starts_with("ATen/")))
    return "does not belong into device code";
  if (header.starts_with("spdlog/") && path != "src/base/log.cpp")
    return "belongs into src/base/log.cpp alone";
  if (is_published(path) && std::regex_match(header, third_party))
    return "does not belong into a published header";
  if (path.starts_with("apps/") || is_roof(path) || is_outside(path)) return "";
  if (header == "apo/run_config.h") return "stands above all rooms";
  const std::string from = room_of(path), to = included_room(header);
  if (to.empty() || to == from) return "";
  if (!rooms().contains(to)) return "is in no room that the map knows";
  const auto allowed = rooms().find(from);
  if (allowed != rooms().end() && !allowed->second.contains(to)) return "is closed to the room " + from;
  return "";
}

std::vector<std::string> violations(const Files& files) {
  std::vector<std::string> found;
  for (const auto& [path, content] : files) {
    const bool in_rooms = !path.starts_with("apps/") && !is_roof(path) && !is_outside(path);
    if (in_rooms && !rooms().contains(room_of(path)))
      found.push_back(path + ": is in no room that the map knows");
    for (const auto& [line, header] : includes_of(content)) {
      const std::string fault = fault_of(path, header);
      if (!fault.empty()) found.push_back(path + ":" + std::to_string(line) + ": " + header + " " + fault);
    }
    const std::vector<std::string> lines = lines_of(content);
    for (size_t i = 0; i < lines.size(); ++i) {
      const auto width = static_cast<size_t>(std::ranges::count_if(
          lines[i], [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
      if (width > kWidestComment && lines[i].find_first_not_of(' ') == lines[i].find("//"))
        found.push_back(path + ":" + std::to_string(i + 1) + ": expected comments of at most " +
                        std::to_string(kWidestComment) + " characters a line, found " +
                        std::to_string(width));
    }
    const size_t longest = path.starts_with("tests/") ? kLongestTest
                           : path.ends_with(".h")     ? kLongestHeader
                                                      : kLongestSource;
    if (lines.size() > longest) {
      found.push_back(path + ": expected at most " + std::to_string(longest) + " lines, found " +
                      std::to_string(lines.size()));
    }
    if (!is_header(path)) continue;
    if (std::ranges::find(lines, "#pragma once") == lines.end())
      found.push_back(path + ": has no #pragma once");
    if (lines.empty() || !lines[0].starts_with("// "))
      found.push_back(path + ": does not begin with what it is for");
  }
  return found;
}

Files files_of_the_repository() {
  const fs::path root = apo::testing::in_source("");
  Files files;
  for (const std::string folder : {"include/apo", "src", "apps", "tests"}) {
    if (!fs::exists(root / folder)) continue;
    for (const auto& entry : fs::recursive_directory_iterator(root / folder)) {
      const std::string path = fs::relative(entry.path(), root).generic_string();
      if (!entry.is_regular_file() || !has_extension(path, {".h", ".cuh", ".cpp", ".cu"})) continue;
      std::ifstream in(entry.path(), std::ios::binary);
      files[path] = std::string(std::istreambuf_iterator<char>(in), {});
    }
  }
  return files;
}

TEST(Structure, TheRepositoryKeepsTheRules) {
  const Files files = files_of_the_repository();
  ASSERT_GT(files.size(), 15u);
  ASSERT_TRUE(files.contains("include/apo/base/error.h"));
  std::string all;
  for (const std::string& violation : violations(files)) all += "\n  " + violation;
  EXPECT_EQ(all, "");
}

TEST(Structure, TheMapIsThatOfTheBuild) {
  EXPECT_THAT(rooms().at("base"), ElementsAre("log"));
  EXPECT_TRUE(rooms().contains("objective"));
  for (const auto& [room, allowed] : rooms())
    for (const std::string& lower : allowed)
      EXPECT_TRUE(rooms().contains(lower)) << room << " uses " << lower;
}

TEST(Structure, EveryRoomUsesWhatItSaysItUses) {
  std::map<std::string, std::set<std::string>> unused = rooms();
  for (const auto& [path, content] : files_of_the_repository())
    if (const auto from = unused.find(room_of(path)); from != unused.end())
      for (const auto& [line, header] : includes_of(content)) from->second.erase(included_room(header));
  for (const auto& [room, rest] : unused) {
    if (room != "base" && room != "roof") {  // libraries of files that lie in another folder, and in none
      EXPECT_THAT(rest, IsEmpty()) << room;
    }
  }
}

TEST(Structure, TheMapHasNoCircles) {
  // every room that a room may include has strictly fewer rooms below it
  std::function<std::set<std::string>(const std::string&, int)> below = [&](const std::string& room,
                                                                            int depth) {
    EXPECT_LT(depth, 20) << room << " lies below itself";
    std::set<std::string> all = rooms().at(room);
    if (depth < 20)
      for (const std::string& lower : rooms().at(room)) all.merge(below(lower, depth + 1));
    return all;
  };
  for (const auto& [room, allowed] : rooms()) EXPECT_FALSE(below(room, 0).contains(room)) << room;
}

// A header that breaks no rule, with one more line.
std::string header_with(const std::string& line) {
  return "// What it is for.\n#pragma once\n" + line + "\n";
}

TEST(StructureChecker, AcceptsWhatIsAllowed) {
  EXPECT_THAT(
      violations({
          {"include/apo/data/labels.h", header_with("#include \"apo/base/types.h\"\n#include <vector>")},
          {"src/data/labels.cpp",
           "#include \"apo/data/labels.h\"\n#include \"data/layout.h\"\n#include <hdf5.h>\n"},
          {"src/base/log.cpp", "#include <spdlog/spdlog.h>\n"},
          {"src/objective/kernels/rows.cu", "#include \"objective/kernels/rows.h\"\n"},
          {"include/apo/run_config.h", header_with("#include \"apo/serving/options.h\"")},
          {"src/run_config.cpp", "#include \"apo/run_config.h\"\n"},
          {"apps/apo_train.cpp", "#include \"apo/run_config.h\"\n#include <CLI/CLI.hpp>\n"},
          {"tests/objective/a_test.cpp",
           "#include \"apo/training/trainer.h\"\n#include \"data/layouts.h\"\n"},
          {"src/models/a.cpp", "// #include <torch/torch.h> would be slow\n#include <torch/types.h>\n"},
      }),
      IsEmpty());
}

TEST(StructureChecker, FindsIncludesThatGoUpOrSideways) {
  EXPECT_THAT(violations({{"include/apo/base/log.h", header_with("#include \"apo/config/options.h\"")}}),
              ElementsAre("include/apo/base/log.h:3: apo/config/options.h is closed to the room base"));
  EXPECT_THAT(violations({{"src/objective/loss.cpp", "\n  #  include <apo/models/policy.h>\n"}}),
              ElementsAre("src/objective/loss.cpp:2: apo/models/policy.h is closed to the room objective"));
  EXPECT_THAT(
      violations({{"src/objective/kernels/a.cu", "#include \"apo/training/loop.h\"\n"}}),
      ElementsAre("src/objective/kernels/a.cu:1: apo/training/loop.h is closed to the room objective"));
  EXPECT_THAT(
      violations({{"src/report/page.cpp", "#include \"data/layout.h\"\n"}}),  // another room's private header
      ElementsAre("src/report/page.cpp:1: data/layout.h is closed to the room report"));
  EXPECT_THAT(violations({{"src/training/loop.cpp", "#include \"apo/run_config.h\"\n"}}),
              ElementsAre("src/training/loop.cpp:1: apo/run_config.h stands above all rooms"));
  EXPECT_THAT(violations({{"src/training/loop.cpp", "#include \"apo/attic/x.h\"\n"}}),
              ElementsAre("src/training/loop.cpp:1: apo/attic/x.h is in no room that the map knows"));
}

TEST(StructureChecker, HoldsEveryRoomAgainstEveryOther) {
  for (const auto& [from, allowed] : rooms()) {
    for (const auto& [to, ignored] : rooms()) {
      const bool accepted =
          violations({{"src/" + from + "/a.cpp", "#include \"apo/" + to + "/b.h\"\n"}}).empty();
      EXPECT_EQ(accepted, from == to || allowed.contains(to)) << from << " includes " << to;
    }
  }
}

TEST(StructureChecker, FindsFilesOutsideTheRooms) {
  EXPECT_THAT(violations({{"src/attic/a.cpp", "\n"}, {"src/loose.cpp", "\n"}}),
              ElementsAre("src/attic/a.cpp: is in no room that the map knows",
                          "src/loose.cpp: is in no room that the map knows"));
}

TEST(StructureChecker, FindsHeadersThatDoNotBelong) {
  EXPECT_THAT(violations({{"src/models/a.cpp", "#include <torch/torch.h>\n"}}),
              ElementsAre("src/models/a.cpp:1: torch/torch.h is slow to compile: include what is used"));
  EXPECT_EQ(violations({{"apps/apo_train.cpp", "#include <torch/torch.h>\n"}}).size(), 1u);
  for (const std::string header : {"torch/types.h", "ATen/core/Tensor.h"}) {
    EXPECT_THAT(violations({{"src/objective/kernels/a.cu", "#include <" + header + ">\n"}}),
                ElementsAre("src/objective/kernels/a.cu:1: " + header + " does not belong into device code"));
  }
  EXPECT_THAT(violations({{"src/data/a.cpp", "#include <spdlog/spdlog.h>\n"}}),
              ElementsAre("src/data/a.cpp:1: spdlog/spdlog.h belongs into src/base/log.cpp alone"));
  for (const std::string header :
       {"yaml-cpp/yaml.h", "hdf5.h", "H5Cpp.h", "nlohmann/json.hpp", "mujoco/mujoco.h", "webp/encode.h",
        "msgpack/pack.hpp", "boost/beast/core.hpp", "CLI/CLI.hpp", "CLI11.hpp"}) {
    EXPECT_THAT(
        violations({{"include/apo/data/a.h", header_with("#include <" + header + ">")}}),
        ElementsAre("include/apo/data/a.h:3: " + header + " does not belong into a published header"));
    EXPECT_THAT(violations({{"src/data/a.cpp", "#include <" + header + ">\n"}}), IsEmpty());
  }
}

TEST(StructureChecker, FindsFilesThatGrewTooLong) {
  const auto lines = [](size_t n) {
    std::string text = header_with("");
    while (static_cast<size_t>(std::ranges::count(text, '\n')) < n) text += "int x;\n";
    return text;
  };
  EXPECT_THAT(violations({{"include/apo/data/a.h", lines(200)},
                          {"src/data/a.cpp", lines(450)},
                          {"tests/a.cpp", lines(600)}}),
              IsEmpty());
  EXPECT_THAT(violations({{"include/apo/data/a.h", lines(201)},
                          {"src/data/a.cpp", lines(451)},
                          {"tests/a.cpp", lines(601)}}),
              ElementsAre("include/apo/data/a.h: expected at most 200 lines, found 201",
                          "src/data/a.cpp: expected at most 450 lines, found 451",
                          "tests/a.cpp: expected at most 600 lines, found 601"));
}

TEST(StructureChecker, FindsCommentsThatGrewTooWide) {
  const std::string wide = "  // " + std::string(106, 'x');
  EXPECT_THAT(violations({{"src/data/a.cpp", "  // " + std::string(105, 'x') + "\n"}}), IsEmpty());
  EXPECT_THAT(violations({{"src/data/a.cpp", "int x;\n" + wide + "\n"}}),
              ElementsAre("src/data/a.cpp:2: expected comments of at most 110 characters a line, found 111"));
}

TEST(StructureChecker, FindsHeadersWithoutGuardOrPreamble) {
  EXPECT_THAT(violations({{"include/apo/data/a.h", "// What it is for.\n"}}),
              ElementsAre("include/apo/data/a.h: has no #pragma once"));
  EXPECT_THAT(violations({{"src/data/a.h", "#pragma once\n"}}),
              ElementsAre("src/data/a.h: does not begin with what it is for"));
  EXPECT_EQ(violations({{"src/data/a.h", ""}}).size(), 2u);
}

}  // namespace
}  // namespace apo
