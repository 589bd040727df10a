// Recorded episodes in HDF5: one interface over every layout that we read, one writer for our own.
//
//   auto file = data::TrajectoryFile::open("runs/tabletop/round-1/interactions.hdf5");
//   for (int64_t i = 0; i < file->num_episodes(); ++i) use(file->episode(i));
//
// Everything but the pictures is in memory; pictures are read one step at a time.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "apo/base/types.h"
#include "apo/pictures/transforms.h"

namespace apo::data {

/// How a file is laid out. `automatic` looks inside.
///
/// libero    pictures bottom row first, unless the attribute macros_image_convention says otherwise; the
///           instruction is in problem_info, or else in the file's name. Files that were replayed without
///           their idle steps have no attributes at all and are known by their arrays (robot_states,
///           obs/agentview_rgb).
/// mimicgen  robomimic's with datagen_info; rewards, dones and next_obs may be missing.
/// sirius    robomimic's with action_modes (-1 demonstration, 0 policy, 1 intervention; floating-point, too)
///           and perhaps intv_labels, whose -10 (before an intervention) is read as an explicit undesirable
///           label.
/// In all of them but sirius, arrays such as interventions, policy_acting, user_acting, intervention or
/// intervene_flag say who acted. Pictures may be uint8 or 0..1, [Y, X, 3] or [3, Y, X], with alpha (left
/// out), or JPEG or PNG; other arrays of observations and states with NaN are not used
/// (EpisodeRecord::unused), an error only for who needs them.
/// Of these and robomimic, observations with one row more than the actions are read without the last row.
enum class TrajectoryFormat {
  automatic,
  apo,
  released_demo,
  released_interaction,
  robomimic,
  libero,
  mimicgen,
  sirius
};
std::span<const std::pair<TrajectoryFormat, std::string_view>> enum_names(TrajectoryFormat);
std::string_view to_string(TrajectoryFormat format);

/// How stored pictures become what the policy sees. `automatic` makes them upright where the layout says how
/// they lie (libero), and leaves them as they are elsewhere. `rotated` turns them by 180 degrees: OpenVLA's
/// LIBERO checkpoints were trained on LIBERO's stored pictures turned so, which is upright but mirrored.
enum class ImageOrientation { automatic, as_stored, flipped, rotated };
std::span<const std::pair<ImageOrientation, std::string_view>> enum_names(ImageOrientation);

/// Why a human took over at one step, as it was recorded.
struct RecordedTakeOver {
  int64_t timestep = 0;  ///< the human's first step
  std::string reason;    ///< "wrong object"; empty: the human gave none
  int64_t since = 0;     ///< first step at which the reason held, timestep at most
  bool operator==(const RecordedTakeOver&) const = default;
};

/// One episode without its pictures.
struct EpisodeRecord {
  std::string name;  ///< group in the file, e.g. "demo_3"
  std::string instruction;
  std::vector<Action> actions;        ///< [S][A] environment units
  std::vector<ActionSource> sources;  ///< [S]
  /// [S] false: the file marks the step as skipped (is_human 0)
  std::vector<bool> recorded;
  std::vector<std::optional<bool>> desirable;  ///< [S] explicit labels; nullopt = unlabelled
  std::vector<bool> neither;                   ///< [S] or empty: in no pool (desirable -2), yet recorded
  std::vector<std::optional<Action>> policy_actions;  ///< [S] what the policy wanted while a human acted
  /// [S] steps since the policy was asked, where it was and that is recorded
  std::vector<std::optional<int64_t>> decision_offsets;
  std::vector<RecordedTakeOver> take_overs;            ///< those whose reason is recorded, by timestep
  std::vector<std::string> observation_names;          ///< cameras and states that every step has, sorted
  std::map<std::string, pictures::ImageSize> cameras;  ///< those that every step has, with their size
  std::map<std::string, int64_t> states;  ///< those that every step has, with their count of numbers
  std::optional<bool> success;
  std::string outcome;
  std::map<std::string, std::string> unused;   ///< arrays not read, by path in the episode: what and why
  std::map<std::string, std::string> remarks;  ///< arrays read in another form than they are stored in
  int64_t num_steps() const { return static_cast<int64_t>(actions.size()); }
};

/// Why the human took over who acts at `timestep`; nullptr: the policy acts, or the file does not say.
const RecordedTakeOver* find_take_over(const EpisodeRecord& record, int64_t timestep);

/// What of an episode's observations is not used and why, for the end of an error; empty if all is.
std::string unused_observations(const EpisodeRecord& record);

/// An open trajectory file. Calls from several threads are serialised inside (HDF5 is not thread-safe).
class TrajectoryFile {
 public:
  /// DataError naming the file, the dataset path, what was expected and found: missing, truncated, not HDF5,
  /// unknown layout, wrong rank, type or length. Links to other files are not followed.
  /// `instruction` overrides what the file says; it is needed where the layout stores none (released-demo).
  static std::shared_ptr<TrajectoryFile> open(const std::filesystem::path& path,
                                              TrajectoryFormat format = TrajectoryFormat::automatic,
                                              const std::string& instruction = "",
                                              ImageOrientation orientation = ImageOrientation::automatic);
  virtual ~TrajectoryFile() = default;

  virtual const std::filesystem::path& path() const = 0;
  virtual TrajectoryFormat format() const = 0;
  /// Episodes in natural order (demo_2 before demo_10).
  virtual int64_t num_episodes() const = 0;
  virtual EpisodeRecord episode(int64_t index) const = 0;
  /// Pictures, state and instruction of one step. Camera and state names are those of the file
  /// ("agentview_image" is camera "agentview"). Pictures of other cameras than the named ones (empty: all)
  /// are not looked at; a named one that the episode lacks is left out.
  virtual Observation observation(int64_t episode, int64_t timestep,
                                  const std::vector<std::string>& cameras = {}) const = 0;
  /// The same without reading pictures: images is empty.
  virtual Observation state(int64_t episode, int64_t timestep) const = 0;
  /// Attributes of the file as text (environment, policy, schema version), for `apo-data inspect`.
  virtual std::vector<std::pair<std::string, std::string>> attributes() const = 0;
  /// What lies where episodes do and is none, with the reason: groups of other names, episodes without a
  /// step.
  virtual std::vector<std::string> left_out() const { return {}; }
};

/// What a file says about where it comes from.
struct TrajectoryInfo {
  std::string environment_name;    ///< written into robomimic's env_args
  std::string environment_config;  ///< YAML text of the environment's options
  std::string policy;              ///< checkpoint directory or "scripted expert"
  std::string policy_hash;         ///< content hash of its weights
  /// robomimic's JSON by which its tools make the environment again; empty: one that names it and its config
  std::string env_args = {};
};

/// What a simulator's own tools play an episode back from.
struct Playback {
  std::string model;                        ///< robomimic's model_file: the episode's model, XML
  std::vector<std::vector<double>> states;  ///< [S][D] the simulator's whole state at each step; empty: none
};

/// Writes our own layout (robomimic's plus action_source, desirable, policy_action, decision_offset,
/// take_over_*), crash-safe: after `end_episode` returns, that episode is readable whatever happens to the
/// process; steps of an unfinished episode are flushed at least every `flush_every` steps and readable too.
class TrajectoryWriter {
 public:
  /// Appends when `path` exists and is ours; RunError if another process writes it, DataError if it is not
  /// ours.
  TrajectoryWriter(const std::filesystem::path& path, const TrajectoryInfo& info, int64_t flush_every = 16);
  ~TrajectoryWriter();
  TrajectoryWriter(const TrajectoryWriter&) = delete;
  TrajectoryWriter& operator=(const TrajectoryWriter&) = delete;

  /// `model`: of Playback. DataError unless both are UTF-8 without NUL.
  void begin_episode(const std::string& instruction, const std::string& model = "");
  /// Cameras, state names and sizes must be those of the file's first step. DataError naming the step
  /// otherwise, and for a take-over at a step that is not the human's, or whose reason is not UTF-8, holds a
  /// NUL or is beyond 1000 bytes. `simulator_state` [D], of Playback, has the size that it has in the
  /// episode's first step.
  void append(const Step& step, std::span<const double> simulator_state = {});
  void end_episode(std::optional<bool> success, const std::string& outcome);
  /// Removes the unfinished episode (nothing worth keeping happened), also where the disk is full.
  void discard_episode();
  /// Whether an episode was begun that has neither ended nor been discarded.
  bool in_episode() const;
  /// N of the demo_N that the unfinished episode will be, or else the next one.
  int64_t next_number() const;
  /// Finished episodes in the file, including those from before.
  int64_t num_episodes() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace apo::data
