// Whether an adapter and the weights before it belong together.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "models/adapters/peft_file.h"

namespace apo::models {

/// Key of a weight file's metadata: hashes of the adapters that are merged into the weights, separated by
/// commas.
inline constexpr const char* kMergedAdapters = "merged_adapters";

/// Key of an adapter file's metadata: the quantization of the weights that it was trained on, where there was
/// one.
inline constexpr const char* kBaseQuantization = "base_quantization";

/// `metadata` of weights, with one more adapter merged into them.
std::map<std::string, std::string> with_merged(const std::map<std::string, std::string>& metadata,
                                               const std::string& adapter_hash);

/// DataError if the weights' own `metadata` says that `adapter` is merged into them.
void refuse_marked(const PeftAdapter& adapter, const std::map<std::string, std::string>& metadata,
                   const std::string& where);

/// How often the adapter's change is in the weights already, found without the base: 1 where it was merged, 0
/// where not.
struct MergedShare {
  double share = 0;
  double standard_error = 0;  ///< infinite where the weights say nothing about it
  bool everywhere = false;    ///< each of the layers looked at says 1, within its own error
};

/// Every singular direction u_i, v_i of the change D = scale · B A with singular value s_i is looked for in
/// the weight W: the share is Σ s_i u_i·W v_i / Σ s_i², pooled over the layers. What W has by itself in these
/// directions is as large as its u_i·W v_j between different directions, which gives the standard error; a
/// change far below it cannot be seen.
///
/// weight  by layer name, of `adapter.layers`; up to 8 of them are read
MergedShare merged_share(const PeftAdapter& adapter,
                         const std::function<at::Tensor(const std::string&)>& weight);

/// DataError if the weights carry the adapter's change already: once, as exactly as can be measured, in each
/// layer looked at. A warning that says the share where they carry much of it: another adapter in the same
/// direction may be merged.
void refuse_merged(const PeftAdapter& adapter, const std::function<at::Tensor(const std::string&)>& weight,
                   const std::string& where);

}  // namespace apo::models
