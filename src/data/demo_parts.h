// Parts of reading a data/demo_N: who acted, what was asked for, what came of it.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>

#include "data/layouts.h"

namespace apo::data {

/// The remark on an array that was made and never filled.
inline constexpr const char* kUnwritten = "never written, read as its fill value";

/// Names of a demo's arrays and groups that are read.
using ReadNames = std::set<std::string>;

/// Fills `sources` and `recorded` from what recorders write, the first of these that is there:
///
///   action_source                    ours: 0 expert, 1 policy, 2 intervention, -1 not recorded
///   action_modes                     Sirius: -1 demonstration, 0 policy, 1 intervention
///   policy_acting, user_acting       robosuite, robomimic: who moved the robot; of neither: not recorded
///   interventions, intervention, intervene_flag, is_intervention, complementary_info.is_intervention
///                                    robomimic, LeRobot, RLinf: 1 the human acted, 0 the policy did
///
/// Those of one meaning must agree. Also looked for in `obs` and in a group complementary_info. Recorders
/// that never fill policy_acting and user_acting leave zeros in both, which say nothing; nor do zeros in
/// policy_acting alone, where user_acting has both values. Without any of them all steps are expert.
/// DataError naming array and row: other values, other lengths, contradictions.
void read_who_acted(const hdf5::Group& demo, TrajectoryFormat format, EpisodeRecord& record, ReadNames& read);
/// Fills `desirable`, `neither` and `policy_actions`; a policy_action that was never filled is not used.
/// Follows `read_who_acted`.
void read_choices(const hdf5::Group& demo, TrajectoryFormat format, EpisodeRecord& record, ReadNames& read);
/// Fills `take_overs` where both take_over_timestep and take_over_reason are there; take_over_since may be
/// missing. Follows `read_who_acted`. DataError naming array and row: other lengths, steps that do not grow,
/// are not the human's or lie outside of the episode, a reason that holds only later or is beyond 1000 bytes.
void read_take_overs(const hdf5::Group& demo, EpisodeRecord& record, ReadNames& read);

/// What the robot was asked to do, as an attribute or a text array of the episode or of `data`:
/// task_description, language_instruction, language, lang; then ep_meta, problem_info, and for LIBERO the
/// file's name. Empty: not said.
std::string find_instruction(const hdf5::Group& demo, const hdf5::Group& data,
                             const std::filesystem::path& path, TrajectoryFormat format, ReadNames& read);
/// What the attribute `success` says: 0 or 1 of any type, or a text such as "True". DataError for others.
std::optional<bool> read_success(const hdf5::Group& demo);
/// DataError unless the attribute `num_samples`, if it is there, is this number.
void expect_num_samples(const hdf5::Group& demo, int64_t steps);

/// Whether a demo has nothing or no row of actions. What cannot be opened is told when the episode is read.
bool has_no_step(const hdf5::Group& data, const std::string& name);
/// Puts arrays of a group that nobody read, with what they are, into `unused`; `within` is the group's name
/// and "/".
void list_unread(const hdf5::Group& group, const std::string& within, const ReadNames& read,
                 EpisodeRecord& record);
/// How pictures lie in a file: LIBERO stores them as OpenGL renders them, bottom row first, unless it says
/// otherwise.
ImageOrientation orientation_of(const hdf5::Group& data, const Reading& reading);

/// A text attribute as JSON; of another kind than any if it is none. DataError if it is nested too deeply.
nlohmann::json json_attribute(const hdf5::Group& group, const char* name);
/// The text of an entry, if that is what it is.
std::optional<std::string> json_entry(const nlohmann::json& json, const char* key);

/// Whole numbers [S] (or [S, 1], of any type) for the record's steps, each one of `allowed`; one row more is
/// left out where `one_more_will_do`. An array that was made and never filled reads as its fill value, with a
/// remark under `name`.
std::vector<int64_t> read_codes(const hdf5::Array& array, const std::string& name, EpisodeRecord& record,
                                std::initializer_list<int64_t> allowed, bool one_more_will_do = false);
/// Floating-point [S, A]; of any S >= 1 if `steps` < 0.
std::vector<Action> read_action_rows(const hdf5::Array& array, int64_t steps, const char* what);
/// DataError unless the array has `steps` rows.
void expect_length(const hdf5::Array& array, int64_t steps);
bool has_rows(const hdf5::Array& array, int64_t rows);

}  // namespace apo::data
