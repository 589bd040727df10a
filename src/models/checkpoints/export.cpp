#include "apo/models/export.h"

#include <torch/types.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <system_error>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/base/log.h"
#include "apo/base/output.h"
#include "apo/models/registry.h"
#include "apo/models/safetensors.h"
#include "base/json.h"
#include "models/adapters/base_check.h"
#include "models/adapters/peft_file.h"
#include "models/checkpoints/checkpoint_files.h"
#include "models/checkpoints/companions.h"
#include "models/checkpoints/dtype.h"
#include "models/openvla/oft.h"

namespace apo::models {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kBlockBytes = 8 << 20;  // of float32 that a merge works on at a time
constexpr const char* kStatistics = "dataset_statistics.json";

std::optional<at::ScalarType> type_of(const std::string& dtype) {
  if (dtype == "stored") return std::nullopt;
  const auto type = dtype_named(dtype);
  APO_CHECK(ConfigError, type, "dtype: expected stored, float32, bfloat16 or float16, found \"", dtype, "\"");
  return type;
}

// Where the parts of the result come from.
struct Sources {
  fs::path base;
  fs::path adapter;  // empty: none
};

Sources find_sources(const fs::path& checkpoint, const fs::path& adapter) {
  std::error_code ignored;
  const bool is_adapter = fs::exists(checkpoint / "adapter_config.json", ignored);
  const fs::path directory = is_adapter ? checkpoint : resolve_checkpoint(checkpoint);
  check_policy_files(directory);
  if (!fs::exists(directory / "adapter_config.json", ignored))
    return {directory, adapter.empty() ? adapter : resolve_adapter(adapter, "adapter")};
  APO_CHECK(ConfigError, adapter.empty(), directory.string(),
            " holds an adapter already; found another one, ", adapter.string());
  return {base_of_adapter(directory), directory};
}

bool is_inside(const fs::path& path, const fs::path& directory) {
  const fs::path relative = fs::weakly_canonical(path).lexically_relative(fs::weakly_canonical(directory));
  return !relative.empty() && *relative.begin() != "..";
}

void check_output(const fs::path& output, const Sources& sources, bool overwrite) {
  std::error_code ignored;
  APO_CHECK(ConfigError, !output.empty(), "output: expected a directory, found nothing");
  for (const fs::path& source : {sources.base, sources.adapter})
    APO_CHECK(ConfigError, source.empty() || !is_inside(source, output), "output: ", output.string(),
              " would replace what is exported, ", source.string());
  if (!fs::exists(output, ignored)) return;
  APO_CHECK(ConfigError, fs::is_directory(output, ignored), "output: expected a directory, found the file ",
            output.string());
  if (fs::is_empty(output, ignored)) return;
  APO_CHECK(ConfigError, overwrite, "output: ", output.string(),
            " is not empty; --overwrite replaces a checkpoint");
  APO_CHECK(ConfigError, fs::exists(output / "config.json", ignored), "output: ", output.string(),
            " is not empty and no checkpoint (it has no config.json); it is not replaced");
  const std::vector<std::string> others = files_not_marked(output);
  APO_CHECK(ConfigError, others.empty(), "output: ", output.string(), " holds ",
            others.empty() ? "" : others.front(),
            ", which no export names in its mark DONE; it is not replaced. Move it away, or write elsewhere");
}

void check_space(const fs::path& output, int64_t bytes) {
  std::error_code error;
  fs::path place = fs::absolute(output);
  while (!fs::exists(place, error) && place.has_relative_path()) place = place.parent_path();
  const fs::space_info space = fs::space(place, error);
  APO_CHECK(RunError, error || space.available >= static_cast<uintmax_t>(bytes), output.string(),
            ": expected room for ", bytes, " bytes on the disk, found ", space.available);
}

// What the base has for every layer of the adapter.
void check_fit(const PeftAdapter& adapter, const SafetensorsReader& base) {
  for (const auto& [layer, part] : adapter.layers) {
    const std::string weight = layer + ".weight";
    APO_CHECK(DataError, base.has(weight), adapter.file.string(), ": tensor ", part.name_a,
              ": an adapter for the layer ", layer, ", which ", base.path().string(), " lacks");
    APO_CHECK(DataError, base.shape(weight) == part.weight_shape(), adapter.file.string(), ": tensors ",
              part.name_a, " and ", part.name_b, " change a weight of ", at::IntArrayRef(part.weight_shape()),
              "; found ", at::IntArrayRef(base.shape(weight)), " as ", weight, " in ", base.path().string());
  }
  for (const auto& [name, copy] : adapter.base_copies)
    APO_CHECK(DataError, base.has(name), adapter.file.string(), ": a copy of ", name, ", which ",
              base.path().string(), " lacks");
}

// Calls `work(begin, count)` for as many of `rows` at a time as make a block.
template <class Work>
void for_blocks(int64_t rows, int64_t row_size, Work work) {
  const int64_t count = std::max<int64_t>(1, kBlockBytes / std::max<int64_t>(4 * row_size, 1));
  for (int64_t begin = 0; begin < rows; begin += count) work(begin, std::min(count, rows - begin));
}

// What of an adapter's change D reaches the file: Σ (W' − W) D and Σ D², W' and W rounded to the type that is
// written.
struct Survival {
  double kept = 0, total = 0;
  void add(const at::Tensor& with, const at::Tensor& without, const at::Tensor& change) {
    kept += ((with - without) * change).sum(at::kDouble).item<double>();
    total += change.square().sum(at::kDouble).item<double>();
  }
};

// One tensor as it will be written.
at::Tensor converted(const at::Tensor& stored, const PeftAdapter::Part* part, at::ScalarType type,
                     Survival& survival) {
  if (part == nullptr) return stored.to(type);
  at::Tensor result = at::empty(stored.sizes(), type);
  const at::Tensor a = part->a.to(at::kFloat).flatten(1);
  for_blocks(stored.size(0), stored[0].numel(), [&](int64_t begin, int64_t count) {
    const at::Tensor change =
        at::matmul(part->b.narrow(0, begin, count).to(at::kFloat).flatten(1), a).mul_(part->scale);
    const at::Tensor block = stored.narrow(0, begin, count).to(at::kFloat).view(change.sizes());
    const at::Tensor rounded = (change + block).to(type);
    result.narrow(0, begin, count).copy_(rounded.view(result.narrow(0, begin, count).sizes()));
    survival.add(rounded.to(at::kFloat), block.to(type).to(at::kFloat), change);
  });
  return result;
}

void check_finite(const at::Tensor& value, const std::string& name, const fs::path& base) {
  bool finite = true;
  const at::Tensor flat = value.flatten();
  for_blocks(flat.numel(), 1, [&](int64_t begin, int64_t count) {
    finite = finite && flat.narrow(0, begin, count).isfinite().all().item<bool>();
  });
  APO_CHECK(DataError, finite, base.string(), ": tensor ", name, ": the value to write is not finite in ",
            value.scalar_type());
}

class Exporter {
 public:
  Exporter(Sources sources, const ExportOptions& options)
      : sources_(std::move(sources)), options_(options), type_(type_of(options.dtype)), base_(sources_.base) {
    if (!sources_.adapter.empty()) {
      adapter_ = read_peft(sources_.adapter);
      warn_if_other_base(sources_.adapter, sources_.base);
      refuse_marked(adapter_, base_.metadata(), sources_.base.string());
    }
    check_fit(adapter_, base_);
    if (!adapter_.layers.empty())
      refuse_merged(
          adapter_, [this](const std::string& layer) { return base_.tensor(layer + ".weight"); },
          sources_.base.string());
    names_ = base_.names_in_order();
    for (const std::string& name : names_) {
      const at::ScalarType stored = base_.tensor(name).scalar_type();
      const bool convertible = c10::isFloatingType(stored);
      APO_CHECK(DataError, convertible || part_of(name) == nullptr, base_.path().string(), ": tensor ", name,
                ": expected a floating-point type under an adapter, found ", stored);
      declared_.push_back(
          {.name = name, .type = type_ && convertible ? *type_ : stored, .shape = base_.shape(name)});
      summary_.num_bytes += declared_.back().bytes();
    }
  }

  int64_t num_bytes() const { return summary_.num_bytes; }

  ExportSummary write(const fs::path& directory) {
    copy_companions(directory);
    ShardedSafetensorsWriter writer(
        directory, declared_, options_.max_shard_bytes,
        /*one_file_without_index=*/true,
        with_merged(base_.metadata(), adapter_.layers.empty() ? "" : adapter_hash(adapter_)));
    Progress progress("export", static_cast<int64_t>(names_.size()));
    for (size_t i = 0; i < names_.size(); ++i) {
      write_tensor(writer, names_[i], declared_[i].type);
      progress.update(static_cast<int64_t>(i) + 1, names_[i]);
    }
    summary_.weights = writer.finish();
    summary_.num_tensors = static_cast<int64_t>(names_.size());
    if (survival_.total > 0) summary_.adapter_kept = survival_.kept / survival_.total;
    return summary_;
  }

 private:
  static std::string layer_of(const std::string& name) {
    constexpr std::string_view kWeight = ".weight";
    return name.ends_with(kWeight) ? name.substr(0, name.size() - kWeight.size()) : "";
  }
  const PeftAdapter::Part* part_of(const std::string& name) const {
    const auto found = adapter_.layers.find(layer_of(name));
    return found == adapter_.layers.end() ? nullptr : &found->second;
  }

  void write_tensor(ShardedSafetensorsWriter& writer, const std::string& name, at::ScalarType type) {
    const at::NoGradGuard no_grad;
    const at::Tensor stored = base_.tensor(name);
    const PeftAdapter::Part* part = part_of(name);
    check_base(adapter_, name, stored);
    const at::Tensor value = converted(stored, part, type, survival_);
    if (part != nullptr || type != stored.scalar_type()) check_finite(value, name, base_.path());
    writer.write(value);
    base_.release(name);
    summary_.num_merged += part != nullptr;
  }

  void copy_companions(const fs::path& directory) {
    std::set<std::string> names;
    for (const fs::path& name : companions_of(sources_.base)) names.insert(name.string());
    for (const auto& entry : fs::directory_iterator(sources_.base))
      if (is_state_projector(entry.path())) names.insert(entry.path().filename().string());
    for (const std::string& name : names) {
      fs::create_directories((directory / name).parent_path());
      fs::copy_file(sources_.base / name, directory / name);
    }
    for (const char* name : {kStatistics, "statistic.json"}) {
      std::error_code ignored;
      if (sources_.adapter.empty() || !fs::is_regular_file(sources_.adapter / name, ignored)) continue;
      statistics_ = sources_.adapter / name;
      write_file_atomic(directory / kStatistics, read_file(statistics_));
      names.insert(kStatistics);
      break;
    }
    if (names.contains("config.json")) write_config(directory / "config.json");
    summary_.copied.assign(names.begin(), names.end());
  }

  // The copied config.json, changed only where it would be wrong.
  void write_config(const fs::path& path) const {
    const nlohmann::ordered_json block = oft_block();
    if (statistics_.empty() && !type_ && block.is_null()) return;
    nlohmann::ordered_json json = OrderedJsonFile(path).root().raw();
    if (!block.is_null()) json[kOftBlock] = block;
    if (!statistics_.empty() && (json.contains("norm_stats") || json.value("model_type", "") == "openvla")) {
      const JsonFile entries(statistics_);
      if (!json["norm_stats"].is_object()) json["norm_stats"] = nlohmann::ordered_json::object();
      for (const auto& [key, entry] : entries.root().entries()) json["norm_stats"][key] = entry.raw();
    }
    if (type_) {
      const auto set_type = [this](nlohmann::ordered_json& config) {
        for (const char* key : {"torch_dtype", "dtype"})
          if (config.contains(key) && config[key].is_string()) config[key] = options_.dtype;
      };
      set_type(json);
      if (json.contains("text_config") && json["text_config"].is_object()) set_type(json["text_config"]);
    }
    write_json(path, json);
  }

  // What the adapter's run says of an OpenVLA-OFT; null where it says nothing.
  nlohmann::ordered_json oft_block() const {
    std::error_code ignored;
    const fs::path config = sources_.adapter / "config.json";
    if (sources_.adapter.empty() || !fs::is_regular_file(config, ignored)) return {};
    return OrderedJsonFile(config)[kOftBlock].raw();
  }

  Sources sources_;
  ExportOptions options_;
  std::optional<at::ScalarType> type_;
  SafetensorsReader base_;
  PeftAdapter adapter_;
  fs::path statistics_;
  std::vector<std::string> names_;
  std::vector<TensorDeclaration> declared_;
  Survival survival_;
  ExportSummary summary_;
};

}  // namespace

ExportSummary export_checkpoint(const fs::path& checkpoint, const fs::path& adapter, const fs::path& output,
                                const ExportOptions& options) {
  APO_CHECK(ConfigError, options.max_shard_bytes >= 1, "max_shard_bytes: expected at least 1, found ",
            options.max_shard_bytes);
  type_of(options.dtype);
  const Sources sources = find_sources(checkpoint, adapter);
  check_output(output, sources, options.overwrite);
  Exporter exporter(sources, options);
  check_space(output, exporter.num_bytes());
  ExportSummary summary;
  write_directory_atomic(output, [&](const fs::path& staging) { summary = exporter.write(staging); });
  return summary;
}

}  // namespace apo::models
