// pools, windows, labels, instructions: who is desirable, and whether there is enough to tell.
#include <torch/types.h>

#include <algorithm>
#include <cctype>
#include <map>
#include <set>
#include <utility>

#include "audit/checks.h"

namespace apo::audit {
namespace {

class Pools : public Check {
 public:
  Pools(const PoolOptions& shares, bool needed)
      : Check("pools", "no pool with a share of the batch is empty"), shares_(shares), needed_(needed) {}
  void see(const ScannedEpisode& e) override {
    any_episode_ = true;
    for (const LabelledStep& step : e.steps) {
      desirable_ += step.label == StepLabel::desirable;
      intervention_ += step.label == StepLabel::intervention;
      undesirable_ += step.label == StepLabel::undesirable;
    }
  }
  void finish() override {
    if (!any_episode_) {  // no advice on shares before there is anything to share
      if (needed_) find(Severity::error, "every pool is empty, for no episode was read");
      return;
    }
    expect("desirable", shares_.desirable, desirable_);
    expect("intervention", shares_.intervention, intervention_);
    expect("undesirable", shares_.undesirable, undesirable_);
  }

 private:
  void expect(const char* name, double share, int64_t count) {
    if (share <= 0 || count > 0) return;
    find(needed_ ? Severity::error : Severity::note, "the ", name,
         " pool is empty, but its share of a batch is ", share, ": record such steps, or set data.pools.",
         name, " to 0");
  }
  PoolOptions shares_;
  bool needed_, any_episode_ = false;
  int64_t desirable_ = 0, intervention_ = 0, undesirable_ = 0;
};

class Windows : public Check {
 public:
  explicit Windows(const LabelOptions& labels)
      : Check("windows",
              labels.window == LabelWindow::onset
                  ? std::string("before each take-over the mistake's onset is found (data.labels.window)")
                  : concat("before each take-over lie K = ", labels.steps_before_intervention,
                           " policy steps (data.labels.steps_before_intervention)")),
        by_onset_(labels.window == LabelWindow::onset),
        k_(labels.steps_before_intervention),
        named_(labels.undesirable_reasons) {}
  void see(const ScannedEpisode& e) override {
    for (const RecordedTakeOver& take_over : e.record.take_overs) recorded_.insert(take_over.reason);
    for (size_t t = 0; t < e.steps.size(); ++t) {
      if (!e.steps[t].take_over) continue;
      if (e.steps[t].no_negatives) {
        ++without_[find_take_over(e.record, static_cast<int64_t>(t))->reason];
        continue;
      }
      ++take_overs_;
      if (e.steps[t].nothing_to_imitate && nothing_to_imitate_++ == 0) first_without_ = place(e, t);
      if (e.steps[t].onset_not_found && no_onset_++ == 0) first_no_onset_ = place(e, t);
      if (e.steps[t].window_cut_short && cut_short_++ == 0) first_ = place(e, t);
    }
  }
  void finish() override {
    if (nothing_to_imitate_ > 0)
      find(Severity::warning, share(nothing_to_imitate_, take_overs_, "take-overs"),
           " have no human step that is imitated (first: ", first_without_,
           "): what came before is undesirable, and nothing says what is better");
    about_reasons();
    if (no_onset_ > 0)
      find(2 * no_onset_ > take_overs_ ? Severity::warning : Severity::note,
           share(no_onset_, take_overs_, "take-overs"),
           " have no onset that actions tell (first: ", first_no_onset_,
           "): the human's first actions (data.labels.credit_actions) move less than data.filter.min_motion; "
           "the last ",
           k_, " policy steps are undesirable (data.labels.steps_before_intervention)");
    if (cut_short_ == 0) return;
    find(2 * cut_short_ > take_overs_ ? Severity::warning : Severity::note,
         share(cut_short_, take_overs_, "take-overs"), " have ", by_onset_ ? "too few policy steps" : "fewer",
         " (first: ", first_,
         by_onset_ ? std::string("): the human acted from the start on, or took over again at once")
                   : concat("): the human took over again within ", k_, " steps, or near the start"));
  }

 private:
  void about_reasons() {
    int64_t without = 0;
    std::string all, known;
    for (const auto& [reason, n] : without_) {
      without += n;
      append_item(all, ", ", reason, ' ', n);
    }
    if (without > 0)
      find(Severity::note, share(without, without + take_overs_, "take-overs"), " make no negatives (", all,
           "; data.labels.undesirable_reasons)");
    for (const std::string& reason : recorded_)
      if (!reason.empty()) append_item(known, ", ", reason);
    for (const std::string& reason : named_)
      if (!recorded_.contains(reason))
        find(Severity::note, "data.labels.undesirable_reasons: no take-over was recorded with the reason '",
             reason, "' (recorded: ", known.empty() ? "none" : known, ")");
  }

  bool by_onset_;
  // of take-overs that make negatives
  int64_t k_, take_overs_ = 0, cut_short_ = 0, no_onset_ = 0, nothing_to_imitate_ = 0;
  std::vector<std::string> named_;
  std::set<std::string> recorded_;
  std::map<std::string, int64_t> without_;
  std::string first_, first_without_, first_no_onset_;
};

class Filters : public Check {
 public:
  explicit Filters(const DataOptions& options)
      : Check("filters", "data.filter leaves out little, and no change of the gripper"), options_(options) {}
  void see_file(const ScannedFile& in) override {
    gripper_ = label_rules(options_, in.source, in.is_expert).gripper;
    sources_[in.source_number].name = in.source.path;
  }
  void see(const ScannedEpisode& e) override {
    Source& source = sources_[e.in.source_number];
    const Action* before = nullptr;
    const std::vector<int64_t> gripper =
        gripper_dimensions(gripper_, static_cast<int64_t>(e.record.actions[0].size()));
    for (size_t t = 0; t < e.steps.size(); ++t) {
      const LabelledStep& step = e.steps[t];
      source.imitable += step.is_imitable();
      if (step.filtered) ++source.left_out[std::string(step.reason)];
      if (!e.record.recorded[t]) continue;
      const Action* last = std::exchange(before, &e.record.actions[t]);
      if (last == nullptr || !gripper_differs(*last, *before, gripper)) continue;
      ++source.changes;
      if (step.filtered && source.changes_left_out++ == 0) source.first = place(e, t);
    }
  }
  void finish() override {
    for (const auto& [number, s] : sources_) {
      if (const std::string message = mostly_filtered(s.name, s.imitable, s.left_out, options_.filter);
          !message.empty())
        find(Severity::error, message);
      if (s.changes_left_out > 0)
        find(Severity::warning, s.name, ": ", share(s.changes_left_out, s.changes, "changes of the gripper"),
             " are left out (first: ", s.first,
             "): a policy learns neither to grasp nor to let go from what it does not see");
    }
  }

 private:
  struct Source {
    std::string name, first;
    int64_t imitable = 0, changes = 0, changes_left_out = 0;
    std::map<std::string, int64_t> left_out;
  };
  DataOptions options_;
  GripperOptions gripper_;
  std::map<int64_t, Source> sources_;
};

constexpr int64_t kSomeCorrected = 10;  // with fewer, chance may have it

class Labels : public Check {
 public:
  explicit Labels(bool with_config)
      : Check("labels", "interactions say who acted and how they ended, and most steps are used"),
        with_config_(with_config) {}
  void see_file(const ScannedFile& in) override {
    for (const auto& [key, value] : in.file.attributes())
      if (key == "filter_keys" && files_with_keys_[in.source_number]++ == 0)
        keys_[in.source_number] = concat(in.file.path().filename().string(), ": ", value);
  }
  void see(const ScannedEpisode& e) override {
    Source& source = sources_[e.in.source_number];
    source.name = e.in.source.path;
    source.is_expert = e.in.is_expert;
    ++source.episodes;
    for (size_t t = 0; t < e.steps.size(); ++t) {
      ++source.steps;
      source.skipped += e.steps[t].label == StepLabel::skipped;
      source.policy += e.record.recorded[t] && e.record.sources[t] == ActionSource::policy;
      source.human += e.record.recorded[t] && e.record.sources[t] == ActionSource::intervention;
      source.expert += e.record.recorded[t] && e.record.sources[t] == ActionSource::expert;
    }
    const auto labelled = std::count_if(e.record.desirable.begin(), e.record.desirable.end(),
                                        [](const auto& d) { return d.has_value(); });
    source.labelled += labelled > 0;
    source.failed += e.in.is_expert && std::any_of(e.steps.begin(), e.steps.end(), [](const LabelledStep& s) {
                       return s.reason == "failed demonstration";
                     });
    const bool by_policy =
        std::count(e.record.sources.begin(), e.record.sources.end(), ActionSource::policy) > 0;
    source.open_ended += by_policy && !e.record.success;
    const bool by_human =
        std::count(e.record.sources.begin(), e.record.sources.end(), ActionSource::intervention) > 0;
    source.corrected += by_human && e.record.success.has_value();
    source.in_vain += by_human && e.record.success.has_value() && !*e.record.success;
  }
  void finish() override {
    for (const auto& [number, keys] : keys_)
      find(Severity::note, "robomimic's filter keys are not followed, all demonstrations are used (",
           files_with_keys_[number], files_with_keys_[number] == 1 ? " file; " : " files; ", keys, ")");
    for (const auto& [number, s] : sources_) {
      if (s.is_expert && s.policy > 0)
        find(Severity::warning, s.name, ": ", share(s.policy, s.steps, "steps"),
             " of this expert source were the policy's and count as demonstrations");
      if (!s.is_expert) about_interactions(s);
      if (s.failed > 0)
        find(Severity::warning, s.name, ": ", share(s.failed, s.episodes, "demonstrations"),
             " failed (success 0) and are left out (data.labels.failed_demonstrations)");
      if (2 * s.skipped > s.steps)
        find(Severity::warning, s.name, ": ", share(s.skipped, s.steps, "steps"),
             " are skipped (`apo-data inspect` lists the reasons)");
      if (s.labelled > 0 && s.labelled < s.episodes)
        find(Severity::note, s.name, ": ", share(s.labelled, s.episodes, "episodes"),
             " hold explicit labels, the others none");
    }
  }

 private:
  struct Source {
    std::string name;
    bool is_expert = false;
    int64_t episodes = 0, steps = 0, skipped = 0, policy = 0, human = 0, expert = 0, labelled = 0,
            open_ended = 0, failed = 0, corrected = 0, in_vain = 0;
  };
  void about_interactions(const Source& s) {
    if (s.policy == 0 && s.human == 0 && s.expert > 0)
      find(with_config_ ? Severity::warning : Severity::note, s.name,
           ": every step is an expert's (what says who acted says "
           "so, or nothing does) and counts as a demonstration: in a config it belongs under data.expert");
    else if (s.policy > 0 && s.human == 0)
      find(Severity::warning, s.name, ": no human correction, so nothing is undesirable by the K-step rule");
    if (s.corrected >= kSomeCorrected && 2 * s.in_vain > s.corrected)
      find(Severity::warning, s.name, ": ", share(s.in_vain, s.corrected, "corrected episodes"),
           " failed all the same, and what the human did in vain is imitated "
           "(deploy.collect.drop_failed records none of it)");
    if (s.open_ended > 0)
      find(Severity::warning, s.name, ": ", share(s.open_ended, s.episodes, "episodes"),
           " do not say whether they succeeded: the policy's steps after the last take-over count as "
           "desirable");
  }
  bool with_config_;
  std::map<int64_t, Source> sources_;
  std::map<int64_t, int64_t> files_with_keys_;
  std::map<int64_t, std::string> keys_;  // by source: of its first file with any
};

class Instructions : public Check {
 public:
  Instructions() : Check("instructions", "one task is worded in one way") {}
  void see(const ScannedEpisode& e) override {
    wordings_[plain(e.record.instruction)].insert(e.record.instruction);
  }
  void finish() override {
    for (const auto& [text, wordings] : wordings_) {
      if (text.empty()) find(Severity::warning, "some episodes have an instruction without words");
      if (wordings.size() < 2) continue;
      std::string all;
      for (const std::string& wording : wordings) all += concat(all.empty() ? "'" : ", '", wording, "'");
      find(Severity::warning, "one task in ", wordings.size(), " spellings: ", all);
    }
  }

 private:
  // Lower case, words only.
  static std::string plain(const std::string& text) {
    std::string words;
    for (const char c : text) {
      if (std::isalnum(static_cast<unsigned char>(c)) || static_cast<unsigned char>(c) > 0x7f)
        words += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
      else if (!words.empty() && words.back() != ' ')
        words += ' ';
    }
    while (!words.empty() && words.back() == ' ') words.pop_back();
    return words;
  }
  std::map<std::string, std::set<std::string>> wordings_;
};

}  // namespace

void add_label_checks(const DataOptions& options, bool pools_needed, Checks& checks) {
  checks.push_back(std::make_unique<Pools>(options.pools, pools_needed));
  checks.push_back(std::make_unique<Windows>(options.labels));
  checks.push_back(std::make_unique<Filters>(options));
  checks.push_back(std::make_unique<Labels>(pools_needed));
  checks.push_back(std::make_unique<Instructions>());
}

}  // namespace apo::audit
