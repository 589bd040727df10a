// Only what the manifest names is replaced or removed; the rest is named and stays.
#include "base/manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "support/child_process.h"
#include "support/message_of.h"
#include "support/temp_dir.h"

namespace apo {
namespace {

namespace fs = std::filesystem;
using apo::testing::exit_code_of_child;
using apo::testing::message_of;
using apo::testing::TempDir;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

void put(const fs::path& path, const std::string& text = "x") {
  fs::create_directories(path.parent_path());
  std::ofstream(path) << text;
}

TEST(Manifest, RemovesWhatItNamesAndNothingElse) {
  const TempDir dir;
  {
    Manifest manifest(dir.path(), "run.dir");
    EXPECT_FALSE(manifest.found());
    manifest.claim({"metrics.jsonl", "checkpoints/step-2/"});
    put(dir / "metrics.jsonl");
    put(dir / "checkpoints/step-2/policy/weights");
    manifest.settle("checkpoints/step-2/");
  }
  put(dir / "checkpoints/step-2/notes.txt");
  put(dir / "checkpoints/005000/weights");
  put(dir / "mine.txt");
  Manifest manifest(dir.path(), "run.dir: here");
  EXPECT_TRUE(manifest.found());
  EXPECT_THAT(manifest.strangers({"metrics.jsonl", "checkpoints"}),
              ElementsAre("checkpoints/005000/weights", "checkpoints/step-2/notes.txt"));
  EXPECT_THAT(
      message_of<ConfigError>([&] {
        manifest.refuse_strangers({"metrics.jsonl", "checkpoints"});
      }),
      AllOf(HasSubstr("run.dir: here: in the way: checkpoints/005000/weights, checkpoints/step-2/notes.txt"),
            HasSubstr("nothing was removed")));
  manifest.remove({"metrics.jsonl", "checkpoints"});
  EXPECT_FALSE(fs::exists(dir / "metrics.jsonl"));
  EXPECT_FALSE(fs::exists(dir / "checkpoints/step-2/policy"));
  for (const char* kept : {"checkpoints/step-2/notes.txt", "checkpoints/005000/weights", "mine.txt"})
    EXPECT_TRUE(fs::exists(dir / kept)) << kept;
}

TEST(Manifest, ADirectoryThatIsBeingWrittenIsVouchedForWhole) {
  const TempDir dir;
  Manifest(dir.path(), "run.dir").claim({"checkpoints/step-2/"});
  put(dir / "checkpoints/step-2.partial/half");  // and then the process is killed
  Manifest manifest(dir.path(), "run.dir");
  EXPECT_THAT(manifest.strangers({"checkpoints"}), IsEmpty());
  manifest.remove({"checkpoints/step-2", "checkpoints/step-2.partial"});
  EXPECT_FALSE(fs::exists(dir / "checkpoints"));
  put(dir / "checkpoints/step-2/mine");  // a name that was ours once
  EXPECT_THAT(manifest.strangers({"checkpoints"}), ElementsAre("checkpoints/step-2/mine"));
}

TEST(Manifest, NothingIsClaimedThatIsThereAlready) {
  const TempDir dir;
  Manifest manifest(dir.path(), "run.dir");
  put(dir / "results.json", "theirs");
  put(dir / "round-1/interactions-correction-3.webp");
  EXPECT_THAT(message_of<ConfigError>([&] { manifest.claim({"results.json"}); }),
              HasSubstr("in the way: results.json; no apo-manifest.json"));
  EXPECT_THAT(message_of<ConfigError>([&] { manifest.claim({"round-1/interactions-correction-*"}); }),
              HasSubstr("interactions-correction-3.webp"));
  EXPECT_FALSE(fs::exists(dir / Manifest::kFile));
  manifest.claim({"other.json"});
  put(dir / "other.json");
  manifest.claim({"other.json"});  // its own may be written again
}

TEST(Manifest, LinksAreStrangersEvenUnderANameOfOurs) {
  const TempDir dir;
  put(dir / "outside/secret");
  Manifest manifest(dir.path(), "run.dir");
  manifest.claim({"metrics.jsonl", "latest@"});
  fs::create_symlink("outside/secret", dir / "metrics.jsonl");
  fs::create_symlink("step-2", dir / "latest");
  EXPECT_THAT(manifest.strangers({"metrics.jsonl", "latest"}), ElementsAre("metrics.jsonl"));
  fs::create_symlink("outside", dir / "checkpoints");
  EXPECT_THAT(message_of<ConfigError>([&] { manifest.claim({"checkpoints/step-2/"}); }),
              AllOf(HasSubstr("in the way: checkpoints;"), HasSubstr("links are not followed")));
  manifest.remove({"metrics.jsonl", "latest"});
  EXPECT_TRUE(fs::exists(dir / "outside/secret"));
  EXPECT_TRUE(fs::is_symlink(dir / "metrics.jsonl"));
  EXPECT_FALSE(fs::is_symlink(dir / "latest"));
}

TEST(Manifest, OneBelowVouchesForItsOwnDirectory) {
  const TempDir dir;
  Manifest manifest(dir.path(), "run.dir");
  manifest.claim({"base/training/"});
  fs::create_directories(dir / "base/training");
  Manifest(dir / "base/training", "run.dir").claim({"config.yaml"});
  put(dir / "base/training/config.yaml");
  manifest.settle("base/training/");
  // goes on by itself
  Manifest(dir / "base/training", "run.dir").claim({"report.html"});
  put(dir / "base/training/report.html");
  put(dir / "base/training/notes.txt");
  EXPECT_THAT(manifest.strangers({"base"}), ElementsAre("base/training/notes.txt"));
  // a name that leads out of its directory is no name of ours
  put(dir / "base/training/apo-manifest.json", R"({"what": "apo-manifest", "entries": ["../../mine.txt"]})");
  EXPECT_THAT(message_of<DataError>([&] { manifest.strangers({"base"}); }), HasSubstr("mine.txt"));
}

// A run of somebody's own among ours, and a copy of one: their manifests speak for them, not for us.
TEST(Manifest, OneBelowThatNoEntrySpeaksOfVouchesForNothing) {
  const TempDir dir;
  Manifest manifest(dir.path(), "run.dir");
  manifest.claim({"methods/1-apo/config.yaml", "checkpoints/step-2/DONE"});
  put(dir / "methods/1-apo/config.yaml");
  put(dir / "checkpoints/step-2/DONE");
  for (const char* theirs : {"methods/mine", "checkpoints/old"}) {
    fs::create_directories(dir / theirs);
    Manifest(dir / theirs, "run.dir").claim({"metrics.jsonl"});
    put(dir / theirs / "metrics.jsonl");
  }
  EXPECT_THAT(manifest.strangers({"checkpoints", "methods"}),
              ElementsAre("checkpoints/old/apo-manifest.json", "checkpoints/old/metrics.jsonl",
                          "methods/mine/apo-manifest.json", "methods/mine/metrics.jsonl"));
  manifest.remove({"checkpoints", "methods"});
  for (const char* theirs : {"methods/mine", "checkpoints/old"})
    EXPECT_TRUE(fs::exists(dir / theirs / "metrics.jsonl"));
  EXPECT_FALSE(fs::exists(dir / "methods/1-apo"));
}

TEST(Manifest, WhatIsMovedIsVouchedForThere) {
  const TempDir dir;
  {
    Manifest manifest(dir.path(), "run.dir");
    manifest.claim({"metrics.jsonl", "heaviest/1.webp"});
    put(dir / "metrics.jsonl", "1");
    put(dir / "heaviest/1.webp", "2");
    put(dir / "heaviest/mine.webp");
    manifest.move({"metrics.jsonl", "heaviest", "samples.jsonl"}, "aside");
  }
  EXPECT_EQ(read_file(dir / "aside/metrics.jsonl"), "1");
  EXPECT_EQ(read_file(dir / "aside/heaviest/1.webp"), "2");
  EXPECT_FALSE(fs::exists(dir / "metrics.jsonl"));
  EXPECT_TRUE(fs::exists(dir / "heaviest/mine.webp"));
  put(dir / "aside/mine.txt");
  put(dir / "metrics.jsonl");
  Manifest manifest(dir.path(), "run.dir");
  EXPECT_THAT(manifest.strangers({"aside", "metrics.jsonl"}), ElementsAre("aside/mine.txt", "metrics.jsonl"));
}

TEST(Manifest, SomethingElseOfThatNameIsAnError) {
  const TempDir dir;
  for (const char* text :
       {"", "[]", "{\"entries\": [\"config.yaml\"]}", "{\"what\": \"apo-manifest\", \"entries\": [3]}"}) {
    put(dir / Manifest::kFile, text);
    EXPECT_THAT(message_of<DataError>([&] { const Manifest manifest(dir.path(), "run.dir"); }),
                HasSubstr("apo-manifest.json: expected"))
        << text;
  }
}

TEST(Manifest, WhatCannotBeRemovedIsNamedTheMarkFirst) {
  const TempDir dir;
  Manifest manifest(dir.path(), "run.dir");
  manifest.claim({"step-1/"});
  write_directory_atomic(dir / "step-1", [](const fs::path& staging) { put(staging / "A"); });
  manifest.settle("step-1/");
  EXPECT_EQ(read_file(dir / "step-1/DONE"), "A\n");
  constexpr auto kAllMayLook = static_cast<fs::perms>(0555);
  fs::permissions(dir.path(), fs::perms::owner_all | kAllMayLook);
  fs::permissions(dir / "step-1", kAllMayLook);
  const int code = exit_code_of_child([&] {
    if (::geteuid() == 0 && ::setuid(65534) != 0) return 77;  // root may remove everything
    const std::string message = message_of<RunError>([&] { manifest.remove({"step-1"}); });
    return message.find("step-1/DONE: cannot remove") != std::string::npos ? 0 : 1;
  });
  fs::permissions(dir / "step-1", fs::perms::owner_all);
  if (code == 77) GTEST_SKIP() << "running as root, and root cannot be given up here";
  EXPECT_EQ(code, 0);
  EXPECT_EQ(read_file(dir / "step-1/A"), "x");
}

}  // namespace
}  // namespace apo
