// What `apo-data` tells about recorded data, and the labels that it computes.
#pragma once

#include <filesystem>
#include <iosfwd>
#include <string>
#include <vector>

#include "apo/data/dataset.h"

namespace apo::audit {

/// Everything about the sources of `options`, as one JSON object: `sources`, one object each (path, kind,
/// format, files, episodes, steps, steps_by_source, labels by "label: reason", take_overs, windows_cut_short,
/// window_steps {min, q25, median, q75, max}, windows_by_steps (take-overs by the length of their window),
/// take_overs_without_onset, pools, success, outcomes, action {size, min, max, q01, q99}, cameras, states,
/// instructions, attributes), and `total` (files, episodes, steps, pools). Counts are in steps unless they
/// say otherwise; action numbers are over all recorded steps.
/// Errors as data::Dataset; ConfigError if there is no source.
std::string inspect_json(const data::DataOptions& options);
/// The same as a table for people.
std::string inspect_text(const data::DataOptions& options);

/// Options for files given without a config: each path (file, directory or glob) a source of interactions,
/// where steps that the files mark as expert stay demonstrations. The others hold for all of them.
data::DataOptions options_for_paths(const std::vector<std::string>& paths,
                                    data::TrajectoryFormat format = data::TrajectoryFormat::automatic,
                                    const std::string& instruction = "",
                                    data::ImageOrientation orientation = data::ImageOrientation::automatic);

/// Writes one JSON object a step and line: file, episode (its name), timestep, source
/// (expert|policy|intervention), label (desirable|undesirable|intervention|skipped), reason. Returns the
/// counts by "label: reason" (count_labels).
data::LabelCounts write_label_lines(const data::DataOptions& options, std::ostream& out);

/// Stores the computed labels as explicit ones (`desirable`) in copies of the files, in our own layout:
/// labelling a copy gives the same labels. A file of ours is copied with all it holds; others (and one with a
/// leftover journal) are rewritten with their pictures, states, actions, sources, rewards and dones; demo_N
/// keeps its number.
///
/// `out` is a file (*.hdf5, *.h5) for a single input file, otherwise a directory that receives a copy of each
/// under its own name. Returns the files written.
/// Errors  ConfigError if `out` exists already, is a file for several inputs, or two inputs have one name.
std::vector<std::filesystem::path> write_labels(const data::DataOptions& options,
                                                const std::filesystem::path& out);

}  // namespace apo::audit
