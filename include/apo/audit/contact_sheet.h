// Recorded episodes as one picture: frames with who acted and what each step is for training.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

#include "apo/data/dataset.h"

namespace apo::audit {

struct ContactSheetOptions {
  std::string episode = {};  ///< only episodes of this name ("demo_3"); empty = the first ones
  int64_t episodes = 4;      ///< first so many of each file
  std::string camera = {};   ///< empty = the first in alphabetical order
  int64_t frames = 24;       ///< of an episode at most: evenly spaced, every take-over among them
  int64_t columns = 8;
  int64_t size = 96;        ///< height of a frame in pixels
  std::string config = {};  ///< where the labels' options come from, for the head; empty = the defaults
};

/// [Y, X, 3] uint8. Each frame's border is the color of who acted (green expert, blue policy, orange human,
/// as in the report), the strip below it that of its label with the timestep and the label written on it, of
/// a skipped step the reason; a legend on top explains both and says K and the config that it comes from.
/// Errors  DataError as TrajectoryFile::open, and naming the valid ones for an unknown camera or episode;
///         ConfigError if there is no source, an option is out of range, or the sheet would be larger than a
///         WebP picture can be.
at::Tensor contact_sheet(const data::DataOptions& options, const ContactSheetOptions& sheet);

}  // namespace apo::audit
