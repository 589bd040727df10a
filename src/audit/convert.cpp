#include "apo/audit/convert.h"

#include <torch/types.h>

#include <algorithm>
#include <set>
#include <sstream>

#include "apo/base/error.h"
#include "apo/base/finishing.h"
#include "apo/base/log.h"
#include "apo/base/output.h"
#include "apo/base/text.h"
#include "audit/extras.h"
#include "audit/scan.h"
#include "base/paths.h"
#include "data/layouts.h"
#include "data/seal.h"

namespace apo::audit {
namespace {

namespace fs = std::filesystem;
using hdf5::Group;

bool keeps_demos(TrajectoryFormat to) {
  return to == TrajectoryFormat::apo || to == TrajectoryFormat::robomimic;
}

// Arrays of data/demo_N that the reader turns into steps; the others are looked for here or listed as left
// out.
const std::set<std::string>& read_as_steps() {
  static const std::set<std::string> names{
      "actions",       "obs",           "action_source",       "action_modes",    "intv_labels",
      "desirable",     "policy_action", "policy_action_valid", "decision_offset", kTakeOverTimestep,
      kTakeOverReason, kTakeOverSince};
  return names;
}

class Converter {
 public:
  Converter(TrajectoryFormat to, const fs::path& out)
      : to_(to), out_(out), unfinished_(to == TrajectoryFormat::released_interaction ? out : partial()) {}
  void begin_file(const ScannedFile& in);
  void add(const ScannedEpisode& e);
  void finish();
  void remove_partial() const;
  Conversion result;

 private:
  void leave_out(const std::string& what) { ++result.left_out[what]; }
  void list_unused(const Group& demo, const EpisodeRecord& record);
  void expect_like_the_first(const ScannedEpisode& e, const Episode& episode);
  void write_demo(const ScannedEpisode& e, Episode episode, const std::string& policy_hash);
  void write_timesteps(const ScannedEpisode& e, const Episode& episode);
  void list_lost_by_steps(const Episode& episode);
  fs::path partial() const { return out_.string() + ".partial"; }

  TrajectoryFormat to_;
  fs::path out_;
  Unfinished unfinished_;
  std::optional<ExtrasReader> extras_;  // of the file that is read
  std::optional<Group> root_, data_;
  std::string first_;  // the first episode and its shape
  std::string first_shape_;
  std::string environment_;  // env_args of the first file
};

void Converter::begin_file(const ScannedFile& in) {
  hdf5::Session session;
  extras_.emplace(in.file);
  for (const std::string& what : in.file.left_out()) leave_out(what);
  const Group* source = extras_->data();
  TrajectoryInfo info;
  // kept, counted anew, or where the instruction is found
  static const std::set<std::string> known{"env_args",
                                           "policy",
                                           "policy_hash",
                                           "total",
                                           kSchemaAttribute,
                                           "num_demos",
                                           "task_description",
                                           "problem_info",
                                           "macros_image_convention"};
  for (const auto& [key, value] : in.file.attributes()) {
    if (key == "environment_name") info.environment_name = value;
    if (key == "environment_config") info.environment_config = value;
    if (key == "policy") info.policy = value;
    if (key == "policy_hash") info.policy_hash = value;
  }
  if (source) {
    for (const std::string& name : Group::open(in.file.path()).names())
      if (name != "data") leave_out(name);
    for (const std::string& name : source->attribute_names())
      if (!known.contains(name) && !is_seal(name)) leave_out("attribute data/" + name);
  }
  std::string environment;
  if (source) environment = source->text_attribute("env_args").value_or("");
  if (result.num_episodes > 0 && environment != environment_)
    leave_out("attribute data/env_args of another environment");
  if (!keeps_demos(to_) && !environment.empty()) leave_out("attribute data/env_args");
  if (root_ || to_ == TrajectoryFormat::released_interaction) return;
  root_ = Group::create(partial());
  if (!keeps_demos(to_)) return;
  data_ = root_->create_group("data");
  write_info(*data_, info);
  environment_ = environment;
  if (!environment.empty() && environment.size() < kLongestAttribute)
    data_->set_attribute("env_args", environment);
  seal_info(*data_);
  if (to_ == TrajectoryFormat::robomimic) data_->remove_attribute(kSchemaAttribute);
}

void Converter::list_unused(const Group& demo, const EpisodeRecord& record) {
  for (const std::string& name : demo.names())
    if (!read_as_steps().contains(name) && name != "rewards" && name != "dones" &&
        !is_picture_hash(demo, name))
      leave_out("data/demo_*/" + name);
  static const std::set<std::string> known{"num_samples", "task_description", "outcome",
                                           "success",     "policy_hash",      "ep_meta"};
  for (const std::string& key : demo.attribute_names())
    if (!known.contains(key) && !is_seal(key)) leave_out("attribute data/demo_*/" + key);
  for (const auto& [path, what] : record.unused)
    if (path.starts_with("obs/")) leave_out("data/demo_*/" + path);
}

// robomimic's tools read the shapes of the first episode only.
void Converter::expect_like_the_first(const ScannedEpisode& e, const Episode& episode) {
  std::string shape = concat("actions of ", e.record.actions[0].size());
  for (const auto& [name, image] : episode.steps[0].observation.images)
    shape += concat(", camera ", name, ' ', image.size(0), 'x', image.size(1));
  for (const auto& [name, values] : episode.steps[0].observation.state)
    shape += concat(", state ", name, " [", values.size(), "]");
  const std::string where = concat(e.in.file.path().string(), ": ", e.record.name);
  if (first_.empty()) {
    first_ = where;
    first_shape_ = shape;
  }
  APO_CHECK(DataError, shape == first_shape_, where, ": expected ", first_shape_, " as in ", first_,
            ", found ", shape, "; convert such episodes into files of their own");
}

void Converter::add(const ScannedEpisode& e) {
  expect_finite(e);
  const Extras extras = extras_->read(e.record);
  for (const std::string& name : extras.of_another_shape)
    leave_out(concat("data/demo_*/", name, " of another shape"));
  {
    hdf5::Session session;
    // an episode that it lacks is in the journal of a recording that was cut off
    const Group* source = extras_->data();
    if (source && source->has(e.record.name)) list_unused(source->group(e.record.name), e.record);
  }
  Episode episode = read_episode(e.in.file, e.index, e.record, extras);
  expect_like_the_first(e, episode);
  keeps_demos(to_) ? write_demo(e, std::move(episode), extras.policy_hash) : write_timesteps(e, episode);
  ++result.num_episodes;
  result.num_steps += e.record.num_steps();
}

void Converter::write_demo(const ScannedEpisode& e, Episode episode, const std::string& policy_hash) {
  const int64_t number = result.num_episodes;
  if (to_ == TrajectoryFormat::robomimic) {
    const auto& neither = e.record.neither;
    bool labels = std::count(neither.begin(), neither.end(), true) > 0, wanted = false, asked = false;
    for (Step& step : episode.steps) {
      labels = labels || step.desirable;
      wanted = wanted || step.policy_action;
      asked = asked || step.decision_offset;
      step.desirable.reset();
      step.policy_action.reset();
      step.decision_offset.reset();
      step.take_over.reset();
    }
    if (labels) leave_out("data/demo_*/desirable");
    if (wanted) leave_out("data/demo_*/policy_action");
    if (asked) leave_out("data/demo_*/decision_offset");
    if (!e.record.take_overs.empty()) leave_out("data/demo_*/take_over_reason");
    const auto& sources = e.record.sources;
    if (std::count(sources.begin(), sources.end(), ActionSource::expert) != e.record.num_steps())
      leave_out("data/demo_*/action_source");
  }
  const bool own = to_ == TrajectoryFormat::apo;
  write_episode(*data_, number, episode, policy_hash, e.record.recorded,
                own ? e.record.neither : std::vector<bool>{});
  if (to_ != TrajectoryFormat::robomimic) return;
  Group demo = data_->group(concat("demo_", number));
  demo.remove("action_source");
  seal_episode(demo);
}

void Converter::list_lost_by_steps(const Episode& episode) {
  const auto& images = episode.steps[0].observation.images;
  if (images.size() == 1 && images.begin()->first != "third")
    leave_out(concat("camera name ", images.begin()->first, " (now third)"));
  const auto any = [&episode](auto has) {
    return std::any_of(episode.steps.begin(), episode.steps.end(), has);
  };
  for (const auto& [name, values] : episode.steps[0].observation.state) leave_out("data/demo_*/obs/" + name);
  if (any([](const Step& step) { return step.reward != 0; })) leave_out("data/demo_*/rewards");
  if (any([](const Step& step) { return step.desirable.has_value(); })) leave_out("data/demo_*/desirable");
  if (any([](const Step& step) { return step.policy_action.has_value(); }))
    leave_out("data/demo_*/policy_action");
  if (any([](const Step& step) { return step.decision_offset.has_value(); }))
    leave_out("data/demo_*/decision_offset");
  if (any([](const Step& step) { return step.take_over.has_value(); }))
    leave_out("data/demo_*/take_over_reason");
  if (episode.success) leave_out("attribute data/demo_*/success");
  if (!episode.outcome.empty()) leave_out("attribute data/demo_*/outcome");
}

// One group a timestep. Expert steps count as the human's there, who is the only teacher.
void Converter::write_timesteps(const ScannedEpisode& e, const Episode& episode) {
  const bool interaction = to_ == TrajectoryFormat::released_interaction;
  list_lost_by_steps(episode);
  if (std::count(e.record.neither.begin(), e.record.neither.end(), true) > 0)
    leave_out("data/demo_*/desirable");
  const auto& sources = e.record.sources;
  hdf5::Session session;
  fs::path path;
  std::optional<Group> group;
  if (interaction) {
    path = out_ / concat("episode_", result.num_episodes, ".hdf5");
    make_directory(out_);
    group = Group::create(path).create_group("data");
    std::string text = episode.instruction;
    std::replace(text.begin(), text.end(), ' ', '_');
    if (episode.instruction.find('_') != std::string::npos) leave_out("underscores in the instruction");
    group->write_text("task_description", text);
    result.written.push_back(path);
  } else {
    group = root_->create_group(concat("demo_", result.num_episodes));
    leave_out("instruction '" + episode.instruction + "'");
    if (std::count(sources.begin(), sources.end(), ActionSource::expert) != e.record.num_steps())
      leave_out("data/demo_*/action_source");
  }
  if (interaction && std::count(sources.begin(), sources.end(), ActionSource::expert) > 0)
    leave_out("expert in data/demo_*/action_source (now human)");
  for (size_t t = 0; t < episode.steps.size(); ++t) {
    const Step& step = episode.steps[t];
    Group timestep = group->create_group(concat("timestep_", t));
    timestep.write("action", step.action, {static_cast<int64_t>(step.action.size())});
    for (const auto& [name, image] : step.observation.images) {
      // the released loader knows one camera by this name
      const std::string camera = step.observation.images.size() == 1 ? "third" : name;
      const at::Tensor plain = image.contiguous();
      timestep.write(camera + "_obs",
                     std::span(plain.const_data_ptr<uint8_t>(), static_cast<size_t>(plain.numel())),
                     {plain.size(0), plain.size(1), 3});
    }
    const int8_t who = !e.record.recorded[t] ? 0 : step.source == ActionSource::policy ? 2 : 1;
    if (interaction) timestep.write("is_human", std::span(&who, 1), {});
  }
  group->flush();
}

void Converter::finish() {
  APO_CHECK(DataError, result.num_episodes > 0, "no episode to convert in the sources");
  if (to_ == TrajectoryFormat::released_interaction) return;
  if (data_) data_->set_attribute("total", result.num_steps);
  root_->flush();
  data_.reset();
  root_.reset();
  put_in_place(partial(), out_);
  result.written.push_back(out_);
}

void Converter::remove_partial() const {
  std::error_code error;
  fs::remove(partial(), error);
  for (const fs::path& path : result.written) fs::remove(path, error);
}

void expect_target(TrajectoryFormat to, const fs::path& out) {
  const bool known = keeps_demos(to) || to == TrajectoryFormat::released_demo ||
                     to == TrajectoryFormat::released_interaction;
  APO_CHECK(ConfigError, known, "cannot write the layout '", to_string(to),
            "' (valid: apo, robomimic, released-demo, released-interaction)");
  APO_CHECK(ConfigError, !out.empty(), "expected a file or directory to write to (--output)");
  const bool directory = to == TrajectoryFormat::released_interaction;
  APO_CHECK(
      ConfigError, hdf5::names_a_file(out) != directory, out.string(), ": expected ",
      directory ? "a directory: this layout is one file an episode" : "a name that ends in .hdf5 or .h5");
  APO_CHECK(ConfigError, !fs::exists(out), out.string(),
            ": exists already; conversions are never written over it");
  check_writable(out);
}

// Without what grippers' commands mean, so that none is recoded.
DataOptions as_recorded(DataOptions options, const fs::path& out) {
  options.policy_gripper = {};
  std::set<std::pair<double, double>> codings;
  for (auto* sources : {&options.expert, &options.interactions})
    for (SourceOptions& source : *sources) {
      if (!source.gripper.is_coded()) continue;
      codings.emplace(*source.gripper.open, *source.gripper.closed);
      source.gripper.open.reset();
      source.gripper.closed.reset();
    }
  if (codings.size() > 1)
    log_warn(out.string(),
             ": grippers stay coded as in the sources, which differ: no one "
             "`gripper: {open: .., closed: ..}` is true of all of it; convert them apart");
  return options;
}

}  // namespace

Conversion convert(const DataOptions& given, TrajectoryFormat to, const fs::path& out) {
  APO_CHECK(ConfigError, !given.expert.empty() || !given.interactions.empty(),
            "no data to convert: give files, or a config with data.expert or data.interactions");
  expect_target(to, out);
  const DataOptions options = as_recorded(given, out);
  Converter converter(to, out);
  try {
    scan(options, {.file = [&](const ScannedFile& in) { converter.begin_file(in); },
                   .episode = [&](const ScannedEpisode& e) { converter.add(e); }});
    converter.finish();
  } catch (...) {
    converter.remove_partial();
    throw;
  }
  return std::move(converter.result);
}

std::string to_text(const Conversion& conversion) {
  std::ostringstream out;
  out << conversion.num_episodes << " episodes, " << conversion.num_steps << " steps\n";
  for (const fs::path& path : conversion.written) out << "wrote " << path.string() << '\n';
  if (!conversion.left_out.empty()) out << "left out, for the new layout has no place for it:\n";
  for (const auto& [what, n] : conversion.left_out) out << "  " << printable(what) << " (" << n << ")\n";
  return out.str();
}

}  // namespace apo::audit
