// What a program wrote into a directory, by name: the one thing that lets it replace or remove anything
// there.
#pragma once

#include <filesystem>
#include <functional>
#include <set>
#include <string>
#include <vector>

namespace apo {

/// apo-manifest.json of a directory. Names are relative to it. An entry vouches for one file
/// ("metrics.jsonl", and "metrics.jsonl.partial" while it is written), one link of ours
/// ("checkpoints/latest@"), all that lies in a directory that is being written ("checkpoints/step-4/"), or
/// all names that begin alike ("tensorboard/events.*"). Entries are on disk before what they speak of. A
/// directory below with a manifest of its own is vouched for by that, too, if an entry here speaks of it or
/// of what is in it: a run that somebody else put there is not.
class Manifest {
 public:
  static constexpr const char* kFile = "apo-manifest.json";

  /// Reads the manifest if there is one. `owner` begins the messages: "run.dir: runs/a". DataError if the
  /// file is something else.
  Manifest(std::filesystem::path directory, std::string owner);

  /// False for a directory in which no program of ours wrote, or one from before manifests.
  bool found() const { return found_; }
  /// Vouches for what will be written now. ConfigError naming what lies there already without being vouched
  /// for, and links, which are never followed.
  void claim(const std::vector<std::string>& entries);
  /// The directory or names that begin alike are written: from here on each file that is there counts for
  /// itself.
  void settle(const std::string& entry);
  /// Files and links at and below these names for which nothing vouches; links count, but for ours.
  std::vector<std::string> strangers(const std::vector<std::string>& names) const;
  /// ConfigError naming them, if there are any.
  void refuse_strangers(const std::vector<std::string>& names) const;
  /// Removes what is vouched for at and below these names, `DONE` marks first, and the directories that
  /// become empty. RunError naming what cannot be removed.
  void remove(const std::vector<std::string>& names);
  /// Moves what is vouched for at and below these names into the directory `into`, which must be free, and
  /// vouches for it there. RunError naming what cannot be moved.
  void move(const std::vector<std::string>& names, const std::string& into);
  /// For a directory from before manifests that is known to be ours: vouches for what `ours` says yes to.
  void adopt(const std::vector<std::string>& names,
             const std::function<bool(const std::string& name, bool is_link)>& ours);

 private:
  struct Found {
    std::vector<std::string> files, strangers;  // vouched for, and not
  };
  bool vouches(const std::string& name, bool is_link) const;
  bool knows(const std::string& directory) const;  // an entry lies at or below it
  void remove_empty_directories(const std::vector<std::string>& of_files) const;
  bool forget(const std::vector<std::string>& names);
  void look(const std::string& name, const std::vector<const Manifest*>& above, Found& found) const;
  Found look(const std::vector<std::string>& names) const;
  void write();

  std::filesystem::path directory_;
  std::string owner_;
  std::set<std::string> entries_;
  bool found_ = false;
};

}  // namespace apo
