// A policy for the Python world: a Hugging Face directory with the adapter merged into the weights.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace apo::models {

struct ExportOptions {
  /// of the floating-point tensors: stored (each its own) | float32 | bfloat16 | float16
  std::string dtype = "stored";
  int64_t max_shard_bytes = 5'000'000'000;
  bool overwrite = false;  ///< replace an earlier checkpoint in the output directory
};

struct ExportSummary {
  int64_t num_tensors = 0, num_merged = 0;  ///< tensors written, and how many of them the adapter changed
  int64_t num_bytes = 0;                    ///< of the tensors
  /// Share of the adapter's change that the output's precision holds: Σ (W' − W) D / Σ D² over the merged
  /// tensors, D the change, W' and W the weights with and without it as they are rounded. 1 in float32; 0
  /// where all of it is lost.
  double adapter_kept = 1;
  std::vector<std::string> weights;  ///< names of the weight files
  std::vector<std::string> copied;   ///< names of the other files
};

/// Writes base and adapter as one Hugging Face directory that transformers loads, whole or not at all.
///
/// Every tensor of the base is written under its name, in the base's order; those with an adapter become
/// W + scale · B A, computed in float32 and rounded once; the others stay bit for bit (unless `dtype` says
/// otherwise). One tensor is in memory at a time. Every other file of the base directory that is no weight is
/// copied unchanged (config, preprocessor, tokenizer, code, an OpenVLA-OFT's state projector), with these
/// exceptions: action statistics of the adapter's directory (`dataset_statistics.json`, or `statistic.json`
/// under that name) replace the base's and join `norm_stats` of config.json, what the adapter's config.json
/// says of an OpenVLA-OFT joins it, and its torch_dtype follows `dtype`. The weights' metadata keeps the
/// adapter's hash (`merged_adapters`), so that it is not applied to them again.
///
/// checkpoint  a Hugging Face directory, or a training checkpoint or run of ours: its adapter is then merged,
///             into the weights beside it or those that its adapter_config.json names
/// adapter     a PEFT directory, or the run that trained it; empty: none
/// Errors      ConfigError for an output that is not empty (or, with overwrite, no checkpoint, or the input
///             itself), two adapters, an unknown dtype; DataError naming file and tensor or layer for what
///             SafetensorsReader and PEFT adapters can have wrong, an adapter of another base (a layer or
///             shape that the base lacks, or a copied base weight that differs) or that is merged into the
///             base already, a result that is not finite in `dtype`; RunError for a full disk. Everything but
///             the values is checked before the first byte is written
ExportSummary export_checkpoint(const std::filesystem::path& checkpoint, const std::filesystem::path& adapter,
                                const std::filesystem::path& output, const ExportOptions& options = {});

}  // namespace apo::models
