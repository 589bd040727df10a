// Who acted at each step, what a person or a tool said of it, and what the policy wanted.
#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "apo/base/error.h"
#include "data/demo_parts.h"

namespace apo::data {
namespace {

using hdf5::Array;
using hdf5::Group;
using hdf5::Kind;

constexpr int64_t kMaxActionSize = 4096;
constexpr const char* kMore = "complementary_info";
// 1 where the human acted.
constexpr std::array kHumanFlags{"interventions", "intervention", "intervene_flag", "is_intervention"};

// Ones and zeros of one array.
struct Flags {
  std::string where;
  std::vector<int64_t> values;
};

bool has(const Flags& flags, int64_t value) {
  return std::find(flags.values.begin(), flags.values.end(), value) != flags.values.end();
}

bool any(const std::vector<Flags>& arrays) {
  return std::any_of(arrays.begin(), arrays.end(), [](const Flags& flags) { return has(flags, 1); });
}

class WhoActed {
 public:
  WhoActed(const Group& demo, EpisodeRecord& record, ReadNames& read)
      : demo_(demo), record_(record), read_(read) {}

  // Changes nothing if no array says it.
  void run() {
    find("policy_acting", policy_);
    find("user_acting", users_);
    for (const char* name : kHumanFlags) find(name, humans_);
    if (!policy_.empty() && !any(policy_) && !any(users_)) {  // never filled
      record_.remarks["policy_acting"] = users_.empty()
                                             ? "zeros alone, which do not say who acted"
                                             : "zeros alone, as in user_acting, which do not say who acted";
      policy_.clear();
      users_.clear();
      if (!any(humans_)) humans_.clear();
    }
    if (leaves_steps_to_nobody()) {
      record_.remarks["policy_acting"] = "zeros alone, also where user_acting is 0, which says who acted";
      policy_.clear();
    }
    std::vector<Flags>& human = users_.empty() ? humans_ : users_;
    if (human.empty() && policy_.empty()) return;
    if (!users_.empty()) expect_agreement();
    for (size_t i = 1; i < human.size(); ++i) expect_equal(human[0], human[i]);
    decide(human.empty() ? nullptr : &human[0], policy_.empty() ? nullptr : &policy_[0]);
  }

 private:
  void find(const std::string& name, std::vector<Flags>& out) {
    const auto add = [&](const Group& group, const std::string& within, const std::string& array) {
      if (!group.has(array) || group.is_group(array)) return;
      const Array found = group.array(array);
      out.push_back({found.where(), read_codes(found, within + array, record_, {0, 1}, true)});
      read_.insert(within + array);
    };
    add(demo_, "", name);
    add(demo_, "", concat(kMore, ".", name));
    for (const std::string group : {kMore, "obs"})
      if (demo_.is_group(group)) add(demo_.group(group), group + "/", name);
  }

  // policy_acting was never filled, but user_acting was. Where an array of interventions says that there are
  // none, it is a demonstration in which the person pauses.
  bool leaves_steps_to_nobody() const {
    return !policy_.empty() && !any(policy_) && !users_.empty() && has(users_[0], 0) && has(users_[0], 1) &&
           (humans_.empty() || any(humans_));
  }

  void expect_equal(const Flags& a, const Flags& b) const {
    for (size_t i = 0; i < a.values.size(); ++i)
      APO_CHECK(DataError, a.values[i] == b.values[i], b.where, " row ", i, ": expected ", a.values[i],
                " as in ", a.where, ", found ", b.values[i], "; they say differently who acted");
  }

  // Who acts through a whole episode without any intervention demonstrates.
  void expect_agreement() {
    const auto& users = users_[0].values;
    const bool alone = policy_.empty() ? std::count(users.begin(), users.end(), 0) == 0 : !any(policy_);
    demonstrates_ = alone && !any(humans_);
    if (demonstrates_) return;
    for (const Flags& flags : humans_) expect_equal(users_[0], flags);
  }

  void decide(const Flags* human, const Flags* policy) {
    for (size_t i = 0; i < record_.sources.size(); ++i) {
      const bool by_human = human ? human->values[i] == 1 : policy->values[i] == 0;
      const bool by_policy = policy ? policy->values[i] == 1 : !by_human;
      APO_CHECK(DataError, !by_human || !by_policy, policy->where, " row ", i, ": expected 0 where ",
                human->where, " is 1, found 1; they say differently who acted");
      record_.recorded[i] = by_human || by_policy;
      record_.sources[i] = !by_human       ? ActionSource::policy
                           : demonstrates_ ? ActionSource::expert
                                           : ActionSource::intervention;
    }
  }

  const Group& demo_;
  EpisodeRecord& record_;
  ReadNames& read_;
  std::vector<Flags> policy_, users_, humans_;
  bool demonstrates_ = false;
};

// The array of what the policy wanted, and the name by which the demo holds it.
std::optional<std::pair<Array, std::string>> find_policy_action(const Group& demo) {
  for (const std::string name : {"policy_action", "complementary_info.policy_action"})
    if (demo.has(name)) return std::pair(demo.array(name), name);
  if (demo.is_group(kMore) && demo.group(kMore).has("policy_action"))
    return std::pair(demo.group(kMore).array("policy_action"), concat(kMore, "/policy_action"));
  return std::nullopt;
}

}  // namespace

bool has_rows(const Array& array, int64_t rows) { return !array.shape().empty() && array.shape()[0] == rows; }

void expect_length(const Array& array, int64_t steps) {
  APO_CHECK(DataError, has_rows(array, steps), array.where(), ": expected ", steps,
            " rows, one for each action, found ", array.describe());
}

std::vector<Action> read_action_rows(const Array& array, int64_t steps, const char* what) {
  array.expect(Kind::floating, 2, what);
  if (steps >= 0) expect_length(array, steps);
  const int64_t rows = array.shape()[0], width = array.shape()[1];
  APO_CHECK(DataError, rows > 0 && width > 0 && width <= kMaxActionSize, array.where(), ": expected ", what,
            ", found ", array.describe());
  const std::vector<float> values = array.floats();
  std::vector<Action> actions;
  actions.reserve(static_cast<size_t>(rows));
  for (int64_t i = 0; i < rows; ++i)
    actions.emplace_back(values.begin() + i * width, values.begin() + (i + 1) * width);
  return actions;
}

std::vector<int64_t> read_codes(const Array& array, const std::string& name, EpisodeRecord& record,
                                std::initializer_list<int64_t> allowed, bool one_more_will_do) {
  const int64_t steps = record.num_steps();
  const auto& shape = array.shape();
  const bool column = shape.size() == 2 && shape[1] == 1;
  APO_CHECK(
      DataError,
      (shape.size() == 1 || column) && (array.kind() == Kind::integer || array.kind() == Kind::floating),
      array.where(), ": expected numbers [S], found ", array.describe());
  if (!one_more_will_do || !has_rows(array, steps + 1)) expect_length(array, steps);
  std::vector<float> values;
  if (array.is_written()) {
    values = array.floats();
    values.resize(static_cast<size_t>(steps));
  } else {
    values.assign(static_cast<size_t>(steps), array.fill());
    record.remarks[name] = kUnwritten;
  }
  std::vector<int64_t> codes;
  for (size_t i = 0; i < values.size(); ++i) {
    const auto code = std::find_if(allowed.begin(), allowed.end(),
                                   [x = values[i]](int64_t a) { return x == static_cast<float>(a); });
    if (code == allowed.end()) {
      std::string valid;
      for (const int64_t a : allowed) append_item(valid, ", ", a);
      throw DataError(concat(array.where(), " row ", i, ": expected one of ", valid, ", found ", values[i]));
    }
    codes.push_back(*code);
  }
  return codes;
}

void read_who_acted(const Group& demo, TrajectoryFormat format, EpisodeRecord& record, ReadNames& read) {
  const int64_t steps = record.num_steps();
  record.recorded.assign(static_cast<size_t>(steps), true);
  record.sources.assign(static_cast<size_t>(steps), ActionSource::expert);
  if (format == TrajectoryFormat::apo || demo.has("action_source")) {
    read.insert("action_source");
    const auto codes = read_codes(demo.array("action_source"), "action_source", record, {-1, 0, 1, 2});
    for (size_t i = 0; i < codes.size(); ++i) {
      record.recorded[i] = codes[i] >= 0;
      record.sources[i] = codes[i] >= 0 ? static_cast<ActionSource>(codes[i]) : ActionSource::policy;
    }
  } else if (format == TrajectoryFormat::sirius || demo.has("action_modes")) {
    read.insert("action_modes");
    const auto codes = read_codes(demo.array("action_modes"), "action_modes", record, {-1, 0, 1});
    for (size_t i = 0; i < codes.size(); ++i) record.sources[i] = static_cast<ActionSource>(codes[i] + 1);
  } else {
    WhoActed(demo, record, read).run();
  }
}

// How many steps before each the policy was asked; -1: it was not.
void read_decision_offsets(const Group& demo, EpisodeRecord& record, ReadNames& read) {
  record.decision_offsets.assign(record.actions.size(), std::nullopt);
  if (!demo.has("decision_offset")) return;
  read.insert("decision_offset");
  const Array array = demo.array("decision_offset");
  APO_CHECK(DataError, array.shape().size() == 1 && array.kind() == Kind::integer, array.where(),
            ": expected whole numbers [S], found ", array.describe());
  expect_length(array, record.num_steps());
  if (!array.is_written()) {
    record.unused["decision_offset"] = concat(array.describe(), ", never written");
    return;
  }
  const std::vector<int64_t> offsets = array.integers();
  for (size_t i = 0; i < offsets.size(); ++i) {
    APO_CHECK(DataError, offsets[i] >= -1, array.where(), " row ", i,
              ": expected how many steps before this one the policy was asked, or -1, found ", offsets[i]);
    if (offsets[i] >= 0) record.decision_offsets[i] = offsets[i];
  }
}

void read_choices(const Group& demo, TrajectoryFormat format, EpisodeRecord& record, ReadNames& read) {
  const int64_t steps = record.num_steps();
  record.desirable.assign(static_cast<size_t>(steps), std::nullopt);
  record.policy_actions.assign(static_cast<size_t>(steps), std::nullopt);
  if (demo.has("desirable")) {
    read.insert("desirable");
    const Array labels = demo.array("desirable");
    // the zeros of an array never written, if anybody meant them, would call every step a mistake
    if (!labels.is_written()) record.unused["desirable"] = concat(labels.describe(), ", never written");
    const auto codes = labels.is_written() ? read_codes(labels, "desirable", record, {-2, -1, 0, 1})
                                           : std::vector<int64_t>();
    record.neither.assign(codes.size(), false);
    for (size_t i = 0; i < codes.size(); ++i) {
      if (codes[i] >= 0) record.desirable[i] = codes[i] == 1;
      record.neither[i] = codes[i] == -2;
    }
  } else if (format == TrajectoryFormat::sirius && demo.has("intv_labels")) {
    read.insert("intv_labels");
    const auto codes = read_codes(demo.array("intv_labels"), "intv_labels", record, {-10, -1, 0, 1});
    for (size_t i = 0; i < codes.size(); ++i)
      if (codes[i] == -10) record.desirable[i] = false;
  }
  read_decision_offsets(demo, record, read);
  const auto wanted = find_policy_action(demo);
  if (!wanted) return;
  const auto& [array, name] = *wanted;
  read.insert({name, "policy_action_valid"});
  if (!array.is_written()) {
    record.unused[name] = concat(array.describe(), ", never written");
    return;
  }
  const auto actions = read_action_rows(array, steps, "floating-point actions [S, A]");
  APO_CHECK(DataError, actions[0].size() == record.actions[0].size(), array.where(), ": expected ",
            record.actions[0].size(), " columns as in actions, found ", actions[0].size());
  std::vector<int64_t> valid;
  if (demo.has("policy_action_valid"))
    valid = read_codes(demo.array("policy_action_valid"), "policy_action_valid", record, {0, 1});
  for (size_t i = 0; i < actions.size(); ++i) {
    if (valid.empty() ? record.sources[i] != ActionSource::intervention : valid[i] == 0) continue;
    for (const float a : actions[i])
      APO_CHECK(DataError, std::isfinite(a), array.where(), " row ", i, ": expected finite numbers, found ",
                a);
    record.policy_actions[i] = actions[i];
  }
}

}  // namespace apo::data
