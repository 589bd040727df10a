// One changed byte anywhere in weights or in a JSON file beside them: refused, or read to the last number.
#include "support/byte_flips.h"

#include <gmock/gmock.h>
#include <torch/types.h>

#include "apo/base/hash.h"
#include "apo/models/safetensors.h"
#include "base/json.h"
#include "support/places.h"
#include "support/temp_dir.h"

namespace apo::models {
namespace {

namespace fs = std::filesystem;
using apo::testing::flip_bytes;
using apo::testing::FlipCounts;
using apo::testing::TempDir;

const fs::path kGoldens = apo::testing::in_source("tests/models/goldens");

void ignore(size_t, const std::string&) {}

TEST(ByteFlips, NoneInSafetensorsEndsTheProgram) {
  const TempDir dir;
  const fs::path flipped = dir / "flipped.safetensors";
  const FlipCounts counts = flip_bytes(
      kGoldens / "dtypes.safetensors", flipped, 3000,
      [&flipped] {
        const SafetensorsReader reader(flipped);
        ContentHash hash;
        for (const std::string& name : reader.names()) {
          const at::Tensor tensor = reader.tensor(name);
          EXPECT_EQ(tensor.sizes(), at::IntArrayRef(reader.shape(name)));
          hash.add_text(name);
          hash.add(tensor.const_data_ptr(), tensor.nbytes());
        }
        return hash.text();
      },
      ignore);
  EXPECT_GT(counts.refused, 0);
  EXPECT_GT(counts.different, 0);  // numbers that no hash vouches for
}

TEST(ByteFlips, NoneInJsonEndsTheProgram) {
  const TempDir dir;
  write_file_atomic(dir / "whole.json",
                    R"({"r": 8, "lora_alpha": 16.0, "target_modules": ["q_proj", "\u00fc"], "bias": "none",
    "base_model_name_or_path": null, "nested": {"a": [[1, 2.5e-3], [-0.0, true]], "use": false}})");
  const FlipCounts counts = flip_bytes(
      dir / "whole.json", dir / "flipped.json", 3000,
      [&dir] {
        const JsonFile json(dir / "flipped.json");
        return json.root().raw().dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
      },
      ignore);
  EXPECT_GT(counts.refused, 0);
}

}  // namespace
}  // namespace apo::models
