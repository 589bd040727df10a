// shapes, pictures, lengths, duplicates, totals: whether the files belong together and hold what they should.
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <set>
#include <unordered_map>
#include <utility>

#include "apo/base/hash.h"
#include "audit/checks.h"
#include "data/layouts.h"
#include "data/stored_pictures.h"

namespace apo::audit {
namespace {

constexpr int64_t kShort = 5;            // steps
constexpr int64_t kPicturesOfAFile = 3;  // episodes a file whose pictures are looked at
constexpr int64_t kPicturesInAll = 100;
constexpr int64_t kFramesOfAnEpisode = 40;    // its first, each beside the one before
constexpr int64_t kFewFrames = 20;            // too few to say that a camera is slow
constexpr double kStale = 0.25;               // of the frames that should show motion
constexpr int64_t kMotionForNewPicture = 10;  // steps after which a camera should see something else
constexpr size_t kLongestTotal = 40;          // digits shown

class Shapes : public Check {
 public:
  explicit Shapes(const PolicyInputs& inputs)
      : Check("shapes", "all episodes have the same action size, cameras and states"), inputs_(inputs) {}
  void see(const ScannedEpisode& e) override {
    const auto size = static_cast<int64_t>(e.record.actions[0].size());
    ++sizes_.try_emplace(size, Seen{0, place(e)}).first->second.count;
    any_camera_ = any_camera_ || !e.record.cameras.empty();
    see_unused(e);
    // pictures and states of an episode without a kept step are never read
    if (std::all_of(e.steps.begin(), e.steps.end(),
                    [](const LabelledStep& s) { return s.label == StepLabel::skipped; }))
      return;
    ++episodes_;
    Names cameras;
    for (const auto& [camera, picture] : e.record.cameras) {
      cameras.insert(camera);
      ++with_camera_[camera];
      pictures_[camera].try_emplace(concat(picture.height, 'x', picture.width), Seen{1, place(e)});
    }
    if (!first_cameras_) first_cameras_ = cameras;
    ++cameras_.try_emplace(cameras, Seen{0, place(e)}).first->second.count;
    for (const auto& [state, width] : e.record.states) {
      widths_[state].try_emplace(concat(width), Seen{1, place(e)});
      ++with_state_[state];
    }
  }
  void finish() override {
    if (sizes_.size() > 1) find(Severity::error, "actions of several sizes: ", listed(sizes_));
    if (!any_camera_ && !sizes_.empty()) find(Severity::error, "no episode has a camera");
    if (any_camera_ && episodes_ > 0) about_cameras();
    for (const auto& [camera, sizes] : pictures_)
      if (sizes.size() > 1)
        find(Severity::warning, "camera ", camera, " has pictures of several sizes: ", listed(sizes));
    about_states();
    about_unused();
  }

 private:
  using Names = std::set<std::string>;
  struct Seen {
    int64_t count = 0;
    std::string first;
  };
  // As training: a policy that lacks a camera stops; a fresh one takes those of the first kept step (experts
  // first).
  void about_cameras() {
    const bool named = !inputs_.cameras.empty();
    Names common, needed(inputs_.cameras.begin(), inputs_.cameras.end());
    for (const auto& [camera, n] : with_camera_)
      if (n == episodes_) common.insert(camera);
    if (!named && !inputs_.of_checkpoint) needed = *first_cameras_;
    const std::string what = concat(
        cameras_.size() > 1 ? "mixed cameras: " : "cameras: ", listed(cameras_), "; ",
        common.empty() ? "no camera is in all episodes" : concat("only ", joined(common, ", "), " in all"));
    if (!std::includes(common.begin(), common.end(), needed.begin(), needed.end()))
      find(Severity::error, what, ", and the policy needs ", joined(needed, ", "), why_not(needed, common),
           !named                  ? " (all of the first episode, unless policy.cameras names others)"
           : are_the_checkpoints() ? " (the checkpoint's cameras)"
                                   : " (policy.cameras)");
    else if (cameras_.size() > 1)
      find(named ? Severity::note : common.empty() ? Severity::error : Severity::warning, what);
  }
  // Why what the policy asks for is not there, if an array of that name is.
  std::string why_not(const std::string& wanted) const {
    for (const auto& [array, seen] : unused_)
      if (array == "obs/" + wanted || array == concat("timestep_*/", wanted, "_obs") ||
          (array.starts_with("obs/") && camera_name(array.substr(4)) == wanted))
        return concat("; ", array, " is not used: ", seen.first);
    return "";
  }
  std::string why_not(const Names& wanted, const Names& there) const {
    for (const std::string& name : wanted)
      if (!there.contains(name))
        if (const std::string why = why_not(name); !why.empty()) return why;
    return "";
  }
  void about_states() {
    const auto used = [this](const std::string& state) {
      return std::find(inputs_.state_keys.begin(), inputs_.state_keys.end(), state) !=
             inputs_.state_keys.end();
    };
    for (const std::string& state : inputs_.state_keys)
      if (episodes_ > 0 && !widths_.contains(state))
        find(Severity::error, "no episode has the state ", state, named_by(), why_not(state));
    for (const auto& [state, widths] : widths_) {
      const Severity severity = used(state)             ? Severity::error
                                : inputs_.of_checkpoint ? Severity::warning
                                                        : Severity::note;
      const char* use = !used(state)            ? inputs_.of_checkpoint
                                                      ? " (if the checkpoint's policy needs it, training stops)"
                                                      : " (not used: policy.state_keys does not name it)"
                        : are_the_checkpoints() ? " (the checkpoint needs it)"
                                                : " (policy.state_keys needs it)";
      if (widths.size() > 1) find(severity, "state ", state, " has several sizes: ", listed(widths), use);
      if (with_state_[state] < episodes_)
        find(severity, "state ", state, " is only in ", share(with_state_[state], episodes_, "episodes"),
             use);
    }
  }
  // Cameras and states that are known are the checkpoint's own, not the config's.
  bool are_the_checkpoints() const { return inputs_.action && !inputs_.of_checkpoint; }
  const char* named_by() const {
    return are_the_checkpoints() ? " (the checkpoint's states)" : " (policy.state_keys)";
  }
  void see_unused(const ScannedEpisode& e) {
    const auto keep = [&e](const std::map<std::string, std::string>& arrays,
                           std::map<std::string, Seen>& all) {
      for (const auto& [array, what] : arrays)
        ++all.try_emplace(array, Seen{0, concat(what, "; first: ", place(e))}).first->second.count;
    };
    keep(e.record.unused, unused_);
    keep(e.record.remarks, remarks_);
  }
  void about_unused() {
    std::string others;
    for (const auto& [array, seen] : unused_) {
      if (is_observation(array))
        find(Severity::note, array, " is not used: ", seen.first);
      else if (may_say_who_acted(array))
        find(Severity::warning, array, " is not read, and may say who acted: ", seen.first,
             "; recordings say it in action_source (docs/data.md, who acted)");
      else
        append_item(others, ", ", array);
    }
    if (!others.empty()) find(Severity::note, "not read: ", others);
    for (const auto& [array, seen] : remarks_) find(Severity::note, array, ": ", seen.first);
  }
  static bool may_say_who_acted(const std::string& array) {
    for (const char* word :
         {"interven", "human", "acting", "teleop", "takeover", "take_over", "is_expert", "control_mode"})
      if (array.find(word) != std::string::npos) return true;
    return false;
  }
  static std::string joined(const Names& names, const char* between) {
    std::string text;
    for (const std::string& name : names) text += concat(text.empty() ? "" : between, name);
    return text.empty() ? "none" : text;
  }
  static std::string text_of(const Names& names) { return joined(names, "+"); }
  static std::string text_of(const std::string& name) { return name; }
  static std::string text_of(int64_t number) { return concat(number); }
  template <class Map>
  static std::string listed(const Map& map) {
    std::string text;
    size_t n = 0;
    for (const auto& [key, seen] : map)
      if (n++ < 5) append_item(text, ", ", text_of(key), " (first: ", seen.first, ")");
    return map.size() > 5 ? concat(text, " and ", map.size() - 5, " more") : text;
  }
  std::map<int64_t, Seen> sizes_;
  const PolicyInputs inputs_;
  std::map<Names, Seen> cameras_;
  std::optional<Names> first_cameras_;  // of the first episode with a kept step
  bool any_camera_ = false;
  std::map<std::string, std::map<std::string, Seen>> pictures_, widths_;
  std::map<std::string, Seen> unused_, remarks_;
  std::map<std::string, int64_t> with_state_, with_camera_;
  int64_t episodes_ = 0;  // with a kept step
};

class Pictures : public Check {
 public:
  Pictures(const DataOptions& options, const PolicyInputs& inputs)
      : Check("pictures", "pictures show something and change with the motion"),
        options_(options),
        inputs_(inputs) {}
  void see_file(const ScannedFile& in) override {
    of_file_ = 0;
    if (in.file.format() != TrajectoryFormat::libero) return;
    std::string convention;
    for (const auto& [key, value] : in.file.attributes())
      if (key == "macros_image_convention") convention = value;
    if (in.source.image_orientation == ImageOrientation::automatic && convention.empty())
      find(Severity::warning, in.file.path().string(),
           ": a LIBERO file that does not say how its pictures lie; taken as stored bottom row first and "
           "turned upright (look at `apo-data contact-sheet`; image_orientation of its source decides "
           "otherwise)");
    conventions_.insert(convention.empty() ? "opengl" : convention);
  }
  void see(const ScannedEpisode& e) override {
    if (of_file_++ >= kPicturesOfAFile || looked_ >= kPicturesInAll) return;
    ++looked_;
    for (const auto& [camera, size] : e.record.cameras) {
      try {
        look_at(e, camera);
      } catch (const DataError& error) {
        find(is_seen(camera, inputs_) ? Severity::error : Severity::note, error.what());
      }
    }
  }
  void finish() override {
    for (const auto& [what, seen] : odd_)
      find(severity(what.first), "camera ", what.first, ' ', what.second, " in ",
           share(seen.first, looked_, "episodes looked at"), " (first: ", seen.second, ")");
    for (const auto& [camera, frames] : frames_)
      if (frames.seen >= kFewFrames &&
          static_cast<double>(frames.stale) > kStale * static_cast<double>(frames.seen))
        find(severity(camera), "camera ", camera, " repeats the frame before in ",
             share(frames.stale, frames.seen, "frames looked at"),
             " although the robot moves (first: ", frames.first, "): is it slower than the actions?");
    if (conventions_.size() > 1)
      find(Severity::note, "LIBERO files of both conventions (opengl, opencv): each is turned as it says");
  }

 private:
  struct Frames {
    int64_t seen = 0, stale = 0;
    std::string first;
  };
  Severity severity(const std::string& camera) const {
    return is_seen(camera, inputs_) ? Severity::warning : Severity::note;
  }
  static at::Tensor picture(const ScannedEpisode& e, const std::string& camera, int64_t t) {
    return e.in.file.observation(e.index, t, {camera}).images.at(camera);
  }
  void look_at(const ScannedEpisode& e, const std::string& camera) {
    const int64_t last = e.record.num_steps() - 1;
    const at::Tensor first = picture(e, camera, 0), end = picture(e, camera, last);
    const bool one_color = first.eq(first.select(0, 0).select(0, 0)).all().item<bool>();
    if (one_color)
      note(camera, "is one color all over", place(e, 0));
    else if (last >= kMotionForNewPicture && moved(e) && first.equal(end))
      note(camera, "shows the same at the start and the end of an episode that moves", place(e));
    else
      look_for_stale_frames(e, camera, first);
  }
  // Σ|a| without the grippers.
  double motion(const ScannedEpisode& e, size_t t) const {
    const Action& action = e.record.actions[t];
    double sum = 0;
    for (const float a : action) sum += std::abs(static_cast<double>(a));
    const GripperOptions gripper = gripper_of(e.in.source, options_);
    for (const int64_t g : gripper_dimensions(gripper, static_cast<int64_t>(action.size())))
      sum -= std::abs(static_cast<double>(action[static_cast<size_t>(g)]));
    return sum;
  }
  bool moved(const ScannedEpisode& e) const {
    double sum = 0;
    for (size_t t = 0; t < e.record.actions.size(); ++t) sum += motion(e, t);
    return sum > 1;
  }
  // Of the first frame there is none before: it counts as fresh.
  void look_for_stale_frames(const ScannedEpisode& e, const std::string& camera, at::Tensor before) {
    Frames& frames = frames_[camera];
    ++frames.seen;
    const int64_t n = std::min(e.record.num_steps(), kFramesOfAnEpisode);
    for (int64_t t = 1; t < n; ++t) {
      const auto i = static_cast<size_t>(t);
      const at::Tensor now = picture(e, camera, t), earlier = std::exchange(before, now);
      // NaN moves nothing
      if (!(motion(e, i - 1) >= options_.filter.min_motion && motion(e, i - 1) > 0)) continue;
      ++frames.seen;
      if (now.equal(earlier) && frames.stale++ == 0) frames.first = place(e, i);
    }
  }
  const DataOptions& options_;
  const PolicyInputs inputs_;
  std::map<std::string, Frames> frames_;
  void note(const std::string& camera, const char* what, const std::string& where) {
    ++odd_.try_emplace({camera, what}, 0, where).first->second.first;
  }
  int64_t of_file_ = 0, looked_ = 0;
  std::map<std::pair<std::string, std::string>, std::pair<int64_t, std::string>> odd_;
  std::set<std::string> conventions_;
};

class Lengths : public Check {
 public:
  Lengths()
      : Check("lengths",
              concat("no episode is shorter than ", kShort, " steps or far longer than the others")) {}
  void see(const ScannedEpisode& e) override {
    const int64_t n = e.record.num_steps();
    if (n < kShort && short_++ == 0) first_ = place(e);
    if (n > longest_) longest_at_ = place(e);
    longest_ = std::max(longest_, n);
    ++lengths_[n];
    ++episodes_;
  }
  void finish() override {
    if (short_ > 0)
      find(Severity::warning, share(short_, episodes_, "episodes"), " are shorter (first: ", first_, ")");
    int64_t before = 0, median = 0;
    for (const auto& [length, n] : lengths_) {
      if (2 * (before += n) < episodes_) continue;
      median = length;
      break;
    }
    if (episodes_ >= 3 && longest_ > 10 * median)
      find(Severity::note, "the longest has ", longest_, " steps (", longest_at_, "), the median ", median);
  }

 private:
  int64_t episodes_ = 0, short_ = 0, longest_ = 0;
  std::string first_, longest_at_;
  std::map<int64_t, int64_t> lengths_;
};

class Duplicates : public Check {
 public:
  Duplicates() : Check("duplicates", "no two episodes have the same actions") {}
  void see(const ScannedEpisode& e) override {
    ContentHash hash;
    for (const Action& action : e.record.actions) hash.add(action.data(), action.size() * sizeof(float));
    const auto [other, fresh] = seen_.emplace(hash.text(), place(e));
    if (!fresh && count_++ == 0) first_ = concat(place(e), " and ", other->second);
  }
  void finish() override {
    if (count_ > 0)
      find(Severity::warning, count_, " episodes repeat another one (first: ", first_, "): they count twice");
  }

 private:
  std::unordered_map<std::string, std::string> seen_;  // by the hash of an episode's actions
  int64_t count_ = 0;
  std::string first_;
};

class Totals : public Check {
 public:
  Totals() : Check("totals", "files hold as many steps as their attribute `total` says") {}
  void see_file(const ScannedFile& in) override {
    close();
    for (const auto& [key, value] : in.file.attributes())
      if (key == "total" && in.source.limit == 0 &&
          value.find_first_not_of("0123456789") == std::string::npos)
        total_ = value;
    path_ = in.file.path().string();
    steps_ = 0;
  }
  void see(const ScannedEpisode& e) override { steps_ += e.record.num_steps(); }
  void finish() override { close(); }

 private:
  void close() {
    if (!total_.empty() && whole_number(total_) != steps_)
      find(Severity::warning, path_, ": total is ", total_.substr(0, kLongestTotal),
           ", its readable episodes have ", steps_, " steps");
    total_.clear();
  }
  std::string path_, total_;  // total_: digits, perhaps more than a number can have
  int64_t steps_ = 0;
};

}  // namespace

void add_file_checks(const DataOptions& options, const PolicyInputs& inputs, Checks& checks) {
  checks.push_back(std::make_unique<Shapes>(inputs));
  checks.push_back(std::make_unique<Pictures>(options, inputs));
  checks.push_back(std::make_unique<Lengths>());
  checks.push_back(std::make_unique<Duplicates>());
  checks.push_back(std::make_unique<Totals>());
}

}  // namespace apo::audit
