// reference.cache: what a reference says of recorded answers, kept on disk so that it is asked once of each.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "apo/models/policy.h"

namespace apo::training {

/// What was asked, and how long the answer is.
struct AnswerKey {
  std::string text;        ///< 32 hex digits: of pictures, prompt, state and answer
  int64_t num_tokens = 0;  ///< what follows in its row is padding
};

/// Of each row. `pictures`: a hash of each row's, as they were before the policy encoded them.
std::vector<AnswerKey> answer_keys(const std::vector<std::string>& pictures, const models::PolicyInput& input,
                                   const models::ActionTokens& tokens);

/// The rows that a reference's head makes logits of (Logits::kept), by what was asked. Whole distributions
/// come of them, so that an objective reads what it reads of a second policy.
///
/// Layout   DIRECTORY/<reference>/part-N.rows: a process adds to one that no other adds to, and reads those
///          that are there when it begins. A part that was cut off within an answer has those before it; an
///          answer whose bytes are not those that were written is asked anew.
/// Memory   some 150 bytes an answer; the rows stay on disk
/// Numeric  equal to the reference asked within other batches, to the rounding of these. One kept answer is
///          asked again when a process first meets one: if the reference says something else, none is used.
class ReferenceCache {
 public:
  /// What the reference says of some of the rows.
  using Ask = std::function<models::Score(const std::vector<int64_t>& rows)>;

  /// RunError naming the path where it cannot be made or read. `reference`: names everything that decides
  /// what the reference says: weights, precision, preprocessing.
  ReferenceCache(const std::filesystem::path& directory, const std::string& reference);
  ~ReferenceCache();
  ReferenceCache(const ReferenceCache&) = delete;
  ReferenceCache& operator=(const ReferenceCache&) = delete;

  /// Of all rows, [B, T, V] on `device`. Only those are asked for that nobody asked for before. What cannot
  /// be written (disk full) is said once, and asked anew from then on. Called where the reference's head is.
  models::Score score(std::span<const AnswerKey> keys, int64_t num_tokens, at::Device device, const Ask& ask);

  int64_t size() const { return static_cast<int64_t>(places_.size()); }  ///< answers that are kept
  int64_t num_wanted() const { return num_wanted_; }                     ///< by `score`
  int64_t num_found() const { return num_found_; }                       ///< of these
  const std::filesystem::path& directory() const { return directory_; }

 private:
  class Part;
  struct Place {
    size_t part = 0;
    int64_t offset = 0;
  };
  void read_on(size_t part);
  at::Tensor find(const AnswerKey& key);
  void check(const std::vector<at::Tensor>& rows, const Ask& ask);
  void keep(const std::string& key, const at::Tensor& rows);
  Part& own_part();

  std::filesystem::path directory_;
  std::vector<std::unique_ptr<Part>> parts_;
  std::unordered_map<std::string, Place> places_;
  std::function<Logits(const at::Tensor&)> logits_of_;  // the reference's head, once it was asked
  at::Tensor like_;                                     // [0, C], of the rows' type
  size_t own_ = 0;
  int64_t num_wanted_ = 0, num_found_ = 0;
  bool writes_ = true, has_own_ = false, told_of_damage_ = false;
};

}  // namespace apo::training
