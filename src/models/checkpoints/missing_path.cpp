#include "models/checkpoints/missing_path.h"

#include "apo/base/error.h"

namespace apo::models {

void refuse_missing(const std::filesystem::path& path, const std::string& where) {
  std::error_code ignored;
  if (std::filesystem::exists(path, ignored)) return;
  std::string advice;
  const std::filesystem::path owner = path.parent_path();
  // of a run that is yet to come more than OWNER/NAME is missing
  const bool is_near = owner.parent_path().empty() || std::filesystem::exists(owner.parent_path(), ignored);
  if (is_near && owner.filename() != "runs" && !owner.filename().empty() && !path.filename().empty() &&
      !std::filesystem::exists(owner, ignored)) {
    const std::string name = (owner.filename() / path.filename()).string();
    advice = concat("; if ", name, " is a name on the Hugging Face hub, download it (`hf download ", name,
                    " --local-dir DIR`) and give DIR: nothing is fetched from here");
  }
  throw DataError(concat(where, ": no such file or directory", advice));
}

}  // namespace apo::models
