// What training leaves beside its metrics (results/training_record.h), in words and pictures.
#pragma once

#include <filesystem>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "results/training_record.h"

namespace apo::report {

/// What the policy was told in the samples of run_dir/heaviest_samples.json, each instruction once, sorted;
/// nothing if the file is absent. DataError as above.
std::set<std::string> instructions(const std::filesystem::path& run_dir);

/// "It learned from 368 episodes in 2 files with the steps 5,765 desirable, 617 human corrections, 311
/// undesirable; each batch of 48 draws 24 desirable, ...". The numbers are of the pools, so human corrections
/// stand apart; a pool that no batch draws from is left out. dpo adds what the policy wanted to every
/// correction that it draws, tpo draws whole corrections: `config` (YAML in block style) says which objective
/// it was.
std::string labels_sentence(const results::RunLabels& labels, std::string_view config);

/// The heaviest samples of both groups with pictures and numbers, from run_dir/heaviest_samples.json; nothing
/// if it is absent or empty. What the numbers mean depends on the objective in `config`. Pictures that are
/// missing are named in `notes`. DataError as above.
std::string heaviest_samples(const std::filesystem::path& run_dir, std::string_view config,
                             std::vector<std::string>& notes);

}  // namespace apo::report
