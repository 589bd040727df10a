#include "base/manifest.h"

#include <algorithm>
#include <memory>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "base/json.h"
#include "base/paths.h"

namespace apo {
namespace {

namespace fs = std::filesystem;

constexpr const char* kWhat = "apo-manifest";
constexpr size_t kMostNamed = 8;

// The name that an entry speaks of: without its mark.
std::string name_of(std::string entry) {
  while (!entry.empty() && (entry.back() == '/' || entry.back() == '*' || entry.back() == '@'))
    entry.pop_back();
  return entry;
}

bool is_plain(const std::string& entry) {
  const fs::path path = name_of(entry);
  return !path.empty() && path.is_relative() &&
         std::ranges::none_of(path, [](const fs::path& part) { return part == ".."; });
}

std::string list(const std::vector<std::string>& names) {
  std::string text;
  for (size_t i = 0; i < std::min(names.size(), kMostNamed); ++i) text += (i ? ", " : "") + names[i];
  return names.size() <= kMostNamed ? text : concat(text, " and ", names.size() - kMostNamed, " more");
}

}  // namespace

Manifest::Manifest(fs::path directory, std::string owner)
    : directory_(std::move(directory)), owner_(std::move(owner)) {
  const fs::path file = directory_ / kFile;
  const fs::file_status status = status_of(file);
  if (!fs::exists(status)) return;
  const char* expected = ": expected the names of what apo wrote into this directory";
  APO_CHECK(DataError, fs::is_regular_file(status), file.string(), expected, ", found no plain file");
  const auto json = parse_if_json(read_file(file), file.string()).value_or(nullptr);
  APO_CHECK(DataError,
            json.is_object() && json.value("what", nlohmann::json()) == kWhat && json.contains("entries") &&
                json["entries"].is_array(),
            file.string(), expected, ", found something else");
  for (const auto& entry : json["entries"]) {
    APO_CHECK(DataError, entry.is_string() && is_plain(entry.get<std::string>()), file.string(), expected,
              ", found ", json_excerpt(entry));
    entries_.insert(entry.get<std::string>());
  }
  found_ = true;
}

bool Manifest::vouches(const std::string& name, bool is_link) const {
  if (is_link && entries_.contains(name + "@")) return true;
  if (name == kFile || name == ".lock") return !is_link;
  constexpr std::string_view kPartial = ".partial";
  const std::string whole = name.ends_with(kPartial) ? name.substr(0, name.size() - kPartial.size()) : name;
  if (!is_link && (entries_.contains(name) || entries_.contains(whole))) return true;
  if (is_link && entries_.contains(whole + "@")) return true;
  return std::ranges::any_of(entries_, [&](const std::string& entry) {
    if (entry.back() == '*') return !is_link && name.starts_with(name_of(entry));
    return entry.back() == '/' && (name.starts_with(entry) || name.starts_with(name_of(entry) + ".partial/"));
  });
}

bool Manifest::knows(const std::string& directory) const {
  return std::ranges::any_of(entries_, [&](const std::string& entry) {
    return name_of(entry) == directory || entry.starts_with(directory + "/");
  });
}

void Manifest::look(const std::string& name, const std::vector<const Manifest*>& above, Found& found) const {
  const fs::path path = directory_ / name;
  const fs::file_status status = status_of(path);
  if (!fs::exists(status)) return;
  if (!fs::is_directory(status)) {
    const bool is_link = fs::is_symlink(status);
    const bool known = std::ranges::any_of(above, [&](const Manifest* manifest) {
      return manifest->vouches(path.lexically_relative(manifest->directory_).string(), is_link);
    });
    (known ? found.files : found.strangers).push_back(name);
    return;
  }
  std::vector<const Manifest*> all = above;
  std::unique_ptr<Manifest> own;
  const auto is_ours = [&](const Manifest* manifest) {
    return manifest->knows(path.lexically_relative(manifest->directory_).string());
  };
  if (lies_there(path / kFile) && std::ranges::any_of(above, is_ours)) {
    own = std::make_unique<Manifest>(path, owner_);
    all.push_back(own.get());
  }
  for (const std::string& next : names_in(path)) look(name + "/" + next, all, found);
}

Manifest::Found Manifest::look(const std::vector<std::string>& names) const {
  Found found;
  for (const std::string& name : names) {
    // a link among the directories above it would lead elsewhere
    fs::path above;
    bool elsewhere = false;
    for (const fs::path& part : fs::path(name).parent_path()) {
      above /= part;
      const fs::file_status status = status_of(directory_ / above);
      elsewhere = fs::exists(status) && !fs::is_directory(status);
      if (elsewhere) break;
    }
    if (!elsewhere)
      look(name, {this}, found);
    else if (std::ranges::find(found.strangers, above.string()) == found.strangers.end())
      found.strangers.push_back(above.string());
  }
  return found;
}

std::vector<std::string> Manifest::strangers(const std::vector<std::string>& names) const {
  return look(names).strangers;
}

void Manifest::refuse_strangers(const std::vector<std::string>& names) const {
  const std::vector<std::string> in_the_way = strangers(names);
  if (in_the_way.empty()) return;
  bool links = false;
  for (const std::string& name : in_the_way) links = links || fs::is_symlink(status_of(directory_ / name));
  throw ConfigError(
      concat(owner_, ": in the way: ", list(in_the_way), "; ",
             found_ ? concat(kFile, " does not name ", in_the_way.size() == 1 ? "it" : "them")
                    : concat("no ", kFile, " says that apo wrote ", in_the_way.size() == 1 ? "it" : "them"),
             links ? ", and links are not followed" : "",
             ", so nothing was removed or replaced. Move it away, or choose another directory"));
}

void Manifest::claim(const std::vector<std::string>& entries) {
  std::vector<std::string> names;
  for (const std::string& entry : entries) {
    APO_ASSERT(is_plain(entry));
    const std::string name = name_of(entry);
    names.push_back(name);
    names.push_back(name + ".partial");
    if (entry.back() != '*') continue;
    const fs::path parent = fs::path(name).parent_path();
    for (const std::string& other : names_in(directory_ / parent))
      if ((parent / other).string().starts_with(name)) names.push_back((parent / other).string());
  }
  refuse_strangers(names);
  const size_t before = entries_.size();
  entries_.insert(entries.begin(), entries.end());
  if (entries_.size() != before || !found_) write();
}

void Manifest::settle(const std::string& entry) {
  const bool is_one_file = entry.back() != '/' && entry.back() != '*';
  if (is_one_file || !entries_.contains(entry)) return;
  const std::string name = name_of(entry);
  const fs::path parent = fs::path(name).parent_path();
  std::vector<std::string> names = {name};
  if (entry.back() == '*') {
    names.clear();
    for (const std::string& other : names_in(directory_ / parent))
      if ((parent / other).string().starts_with(name)) names.push_back((parent / other).string());
  }
  const Found found = look(names);
  entries_.erase(entry);
  for (const std::string& file : found.files) {
    const bool is_link = fs::is_symlink(status_of(directory_ / file));
    if (!vouches(file, is_link)) entries_.insert(is_link ? file + "@" : file);
  }
  write();
}

void Manifest::remove(const std::vector<std::string>& names) {
  Found found = look(names);
  const auto is_mark = [](const std::string& file) { return fs::path(file).filename() == "DONE"; };
  std::stable_partition(found.files.begin(), found.files.end(), is_mark);
  std::error_code error;
  for (const std::string& file : found.files) {
    fs::remove(directory_ / file, error);
    APO_CHECK(RunError, !error, (directory_ / file).string(), ": cannot remove: ", error.message());
  }
  remove_empty_directories(found.files);
  if (forget(names)) write();
}

void Manifest::move(const std::vector<std::string>& names, const std::string& into) {
  const Found found = look(names);
  claim({into + "/"});
  for (const std::string& file : found.files) {
    const fs::path target = directory_ / into / file;
    make_directory(target.parent_path());
    std::error_code error;
    fs::rename(directory_ / file, target, error);
    APO_CHECK(RunError, !error, (directory_ / file).string(), ": cannot move to ", target.string(), ": ",
              error.message());
  }
  remove_empty_directories(found.files);
  forget(names);
  settle(into + "/");
}

void Manifest::remove_empty_directories(const std::vector<std::string>& of_files) const {
  std::set<fs::path> directories;
  for (const std::string& file : of_files)
    for (fs::path above = fs::path(file).parent_path(); !above.empty(); above = above.parent_path())
      directories.insert(above);
  std::error_code ignored;
  for (auto directory = directories.rbegin(); directory != directories.rend(); ++directory)
    fs::remove(directory_ / *directory, ignored);  // stays if something else is in it
}

bool Manifest::forget(const std::vector<std::string>& names) {
  return std::erase_if(entries_, [&](const std::string& entry) {
           return std::ranges::any_of(names, [&](const std::string& name) {
             return name_of(entry) == name || entry.starts_with(name + "/");
           });
         }) > 0;
}

void Manifest::adopt(const std::vector<std::string>& names,
                     const std::function<bool(const std::string& name, bool is_link)>& ours) {
  for (const std::string& stranger : look(names).strangers) {
    const bool is_link = fs::is_symlink(status_of(directory_ / stranger));
    if (ours(stranger, is_link)) entries_.insert(is_link ? stranger + "@" : stranger);
  }
  write();
}

void Manifest::write() {
  write_file_atomic(directory_ / kFile,
                    nlohmann::json{{"what", kWhat}, {"entries", entries_}}.dump(1) + "\n");
  found_ = true;
}

}  // namespace apo
