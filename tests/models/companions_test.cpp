#include "models/checkpoints/companions.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "support/temp_dir.h"

namespace apo::models {
namespace {

TEST(Companions, AreAllButWeightsMarksAndHiddenFiles) {
  const testing::TempDir dir;
  const auto is = [&](const char* name) {
    std::ofstream(dir / name) << "x";
    return is_companion(dir.path() / name);
  };
  for (const char* name :
       {"config.json", "tokenizer.model", "modeling_prismatic.py", "README.md", "chat_template.jinja"})
    EXPECT_TRUE(is(name)) << name;
  for (const char* name : {"model-00001-of-00003.safetensors", "pytorch_model.bin",
                           "model.safetensors.index.json", "adapter_config.json", "DONE", ".gitattributes"})
    EXPECT_FALSE(is(name)) << name;
  std::filesystem::create_directory(dir.path() / "code");
  EXPECT_FALSE(is_companion(dir.path() / "code"));
  EXPECT_FALSE(is_companion(dir.path() / "absent.json"));
}

}  // namespace
}  // namespace apo::models
