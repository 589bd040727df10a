// All sources of a run as one indexed set of labelled steps, sorted into three pools.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "apo/base/types.h"
#include "apo/config/gripper.h"
#include "apo/data/chunks.h"
#include "apo/data/labels.h"
#include "apo/data/trajectory.h"
#include "apo/pictures/transforms.h"

namespace apo::config {
class Visitor;
}

namespace apo::data {

using config::GripperOptions;

/// One entry of `data.expert` or `data.interactions`.
struct SourceOptions {
  std::string path;  ///< FILE, DIR (its *.hdf5, *.h5, sorted) or GLOB
  TrajectoryFormat format = TrajectoryFormat::automatic;
  std::string instruction = {};  ///< overrides the file's
  int64_t limit = 0;             ///< first so many episodes of each file; 0 = all
  ImageOrientation image_orientation = ImageOrientation::automatic;
  GripperOptions gripper = {};  ///< where it is in an action, and how it is coded
  void visit(config::Visitor& v);
};

/// Shares of a batch. A share of an empty pool is an error, unless its ratio is 0.
struct PoolOptions {
  double desirable = 0.5;
  double intervention = 0.25;
  double undesirable = 0.25;
  void visit(config::Visitor& v);
};

struct LoaderOptions {
  int64_t workers = 1;   ///< threads that read and augment ahead; 0 = in the caller
  int64_t prefetch = 4;  ///< batches prepared ahead
  bool cache = true;     ///< keep decoded pictures in memory (small data sets: fast; large ones: turn off)
  void visit(config::Visitor& v);
};

/// What to do with data that do not suit the policy: stop, or say so and go on.
enum class DataChecks { error, warn };
std::span<const std::pair<DataChecks, std::string_view>> enum_names(DataChecks);

struct DataOptions {
  std::vector<SourceOptions> expert, interactions;
  DataCompatibility compatibility = DataCompatibility::paper;
  LabelOptions labels;
  FilterOptions filter;
  PoolOptions pools;
  pictures::AugmentationOptions augmentation;
  LoaderOptions loader;
  DataChecks checks = DataChecks::error;
  /// The policy's gripper, no key of `data`: whoever knows the policy says it here.
  GripperOptions policy_gripper = {};
  /// Likewise: the cameras that it sees, of which alone pictures are read; empty: all.
  std::vector<std::string> policy_cameras = {};
  void visit(config::Visitor& v);
};

/// What decides the labels of `source`'s episodes.
LabelRules label_rules(const DataOptions& options, const SourceOptions& source, bool is_expert);
/// The gripper as training and scoring see it: the policy's; what that leaves open is as the first source
/// says that says it, demonstrations first.
GripperOptions gripper_of(const DataOptions& options);
/// The gripper in a source's own actions: what the source leaves open is as above.
GripperOptions gripper_of(const SourceOptions& source, const DataOptions& options);
/// Brings the actions of an episode of `source` (and what the policy wanted) into the coding of
/// gripper_of(options), where both are known. ConfigError naming the source where both name dimensions that
/// differ.
void recode_gripper(EpisodeRecord& episode, const SourceOptions& source, const DataOptions& options);

/// Where a sample comes from.
struct StepIndex {
  int32_t file = 0;
  int32_t episode = 0;
  int32_t timestep = 0;
  bool operator==(const StepIndex&) const = default;
};

/// One labelled step, ready to be learned from.
struct Sample {
  StepIndex index;
  Observation observation;  ///< pictures as recorded, or prepared and augmented by the loader
  ActionChunk actions;      ///< [1 to H][A] of the chunk from this step on (chunks.h)
  ActionSource source = ActionSource::expert;
  bool desirable = true;
  std::vector<float> dimension_credit;  ///< [1 to H, A] of the chunk, step by step; empty = all one
  /// [1 to H][A] what the policy wanted from this step on while the human acted; empty = not recorded
  ActionChunk policy_actions;
  int32_t take_over_number = -1;  ///< as LabelledStep's
};

/// What a take-over compares: the policy's last steps before it and the human's steps after it.
struct SegmentPair {
  std::vector<StepIndex> preferred;  ///< the human's kept steps until control is handed back
  std::vector<StepIndex> rejected;   ///< the undesirable steps that led to the take-over
};

enum class Pool { desirable, intervention, undesirable };

class Dataset {
 public:
  /// Opens and labels every source, grippers recoded (recode_gripper). DataError as TrajectoryFile::open;
  /// also for a source that matches no file, for files that disagree about the action's size, and for NaN or
  /// infinity in an action that the filters keep.
  explicit Dataset(const DataOptions& options);

  const std::vector<StepIndex>& pool(Pool pool) const;
  /// One pair for each take-over that has both sides, in the order of the files.
  std::vector<SegmentPair> segment_pairs() const;
  /// Steps by "label: reason" for each kind of source: "expert/desirable: demonstration", "interactions/...",
  /// as count_labels.
  const LabelCounts& counts() const;
  /// DataError naming the source, its counts and the filter if filters leave out more than
  /// data.filter.max_share of the steps of a source that would be imitated.
  void expect_enough_kept() const;
  int64_t num_files() const;
  int64_t num_episodes() const;
  int64_t action_size() const;
  /// How many actions a sample has at most, the policy's: 1 unless said. With `whole` chunks, desirable steps
  /// that data.labels.chunk_overlap leaves out are skipped from now on, and counted.
  void set_horizon(int64_t horizon, ChunkRule rule = ChunkRule::cut);
  /// gripper_of its options.
  const GripperOptions& gripper() const;
  const std::filesystem::path& file_path(int32_t file) const;
  /// True for a file of `data.expert`.
  bool is_expert(int32_t file) const;
  const TrajectoryFile& file(int32_t file) const;
  int32_t num_episodes(int32_t file) const;
  std::string episode_name(int32_t file, int32_t episode) const;
  /// Every distinct instruction, sorted.
  std::vector<std::string> instructions() const;
  /// The kept (not skipped) steps of all sources in file order, or of the expert sources alone.
  std::vector<StepIndex> kept_steps(bool expert_only = false) const;
  const LabelledStep& label(const StepIndex& index) const;
  const EpisodeRecord& record(int32_t file, int32_t episode) const;
  /// Action and labels only, without reading pictures.
  Sample sample_without_observation(const StepIndex& index) const;
  /// Proprioceptive state and instruction, without reading pictures; thread-safe.
  Observation state(const StepIndex& index) const;
  /// Pictures of `policy_cameras`, state and instruction; thread-safe. All pictures of an episode that lacks
  /// one of these cameras, so that whoever needs it can say what there is.
  Observation observation(const StepIndex& index) const;
  /// The whole sample; thread-safe.
  Sample sample(const StepIndex& index) const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

/// The files that a source's path names (glob and directory expanded, sorted). DataError if none.
std::vector<std::filesystem::path> expand_source(const SourceOptions& source);

}  // namespace apo::data
