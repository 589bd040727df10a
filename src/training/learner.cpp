#include "training/learner.h"

#include <torch/types.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "apo/base/error.h"
#include "apo/base/hash.h"
#include "base/tensor_hash.h"
#include "base/upload.h"
#include "training/pairs.h"
#include "training/profile.h"
#include "training/random_state.h"
#include "training/ranks.h"

namespace apo::training {
namespace {

using objective::BatchStatistics;
using objective::ObjectiveOutput;

at::Tensor rolled(const at::Tensor& tensor) { return tensor.defined() ? tensor.roll(-1, 0) : tensor; }

// The credit of each number of a chunk -> [B, T] of the tokens that code it, which are in the same order
// (codecs with bins); 1 where there is none, and for tokens of no one dimension.
at::Tensor token_credit(const std::vector<data::Sample>& samples, const at::Tensor& dimension) {
  at::Tensor credit = at::ones({static_cast<int64_t>(samples.size()), dimension.size(1)});
  float* row = credit.data_ptr<float>();
  for (const data::Sample& sample : samples) {
    APO_ASSERT(std::ssize(sample.dimension_credit) <= dimension.size(1));
    std::ranges::copy(sample.dimension_credit, row);
    row += dimension.size(1);
  }
  return upload(credit, dimension.device()).masked_fill(dimension.lt(0), 1);
}

// Sirius-style weights of behaviour cloning: no undesirable step; interventions weigh as much as all others
// together.
at::Tensor imitation_weights(const std::vector<data::Sample>& samples) {
  at::Tensor weights = at::zeros({static_cast<int64_t>(samples.size())});
  const auto is_intervention = [](const data::Sample& s) { return s.source == ActionSource::intervention; };
  double interventions = 0, others = 0;
  for (const data::Sample& sample : samples)
    if (sample.desirable) ++(is_intervention(sample) ? interventions : others);
  const double intervention_weight = interventions > 0 && others > 0 ? others / interventions : 1;
  for (size_t i = 0; i < samples.size(); ++i)
    if (samples[i].desirable)
      weights[static_cast<int64_t>(i)] = is_intervention(samples[i]) ? intervention_weight : 1;
  return weights;
}

std::string hash_of_pictures(const Observation& observation) {
  ContentHash hash;
  for (const auto& [camera, picture] : observation.images) {
    hash.add_text(camera);
    add_tensor(hash, picture);
  }
  return hash.text();
}

}  // namespace

// The whole batch; of what is observed, this rank's share.
struct Learner::Prepared {
  Share share;
  models::PolicyInput input;
  models::ActionTokens tokens, mismatched;
  objective::Batch batch;
  std::vector<int64_t> pair;  // of dpo and tpo
  int64_t num_unpaired = 0;
  int64_t num_clipped_actions = 0, num_cut_answers = 0;
  std::vector<AnswerKey> keys;  // of this rank's share; empty: nobody wants them
};

// Some of its samples, and what the reference says of them.
struct Learner::MicroBatch {
  Question question;
  objective::ReferenceScores reference;
};

Learner::Learner(models::Policy& policy, ReferenceScorer* reference,
                 const objective::ObjectiveOptions& options, int64_t micro_batch_size, bool bfloat16,
                 const distributed::Group* group)
    : policy_(policy),
      reference_(reference),
      options_(options),
      micro_batch_size_(micro_batch_size),
      bfloat16_(bfloat16),
      group_(group != nullptr ? *group : nobody_else()) {
  objective::check(options);
}

std::vector<bool> Learner::wanted(const std::vector<data::Sample>& samples) const {
  Pairing pairing;
  auto size = std::ssize(samples);
  if (options_.needs_pairs()) {
    std::vector<data::Sample> ordered = samples;
    pairing = make_pairs(ordered, options_.type);
    size = std::ssize(ordered);
  }
  const Share share = share_of(pairing.pair, size, group_.rank(), group_.size());
  std::vector<bool> wanted(samples.size());
  for (auto i = static_cast<size_t>(share.begin); i < static_cast<size_t>(share.end); ++i)
    wanted[pairing.slot.empty() ? i : pairing.slot[i]] = true;
  return wanted;
}

Learner::Prepared Learner::prepare(std::vector<data::Sample>& samples, bool with_keys) const {
  APO_PART_OF_STEP("observations and actions");
  Pairing pairing;
  if (options_.needs_pairs()) pairing = make_pairs(samples, options_.type);
  Prepared whole;
  whole.pair = pairing.pair;
  whole.num_unpaired = pairing.num_unpaired;
  whole.share = share_of(whole.pair, std::ssize(samples), group_.rank(), group_.size());
  std::vector<Observation> observations;
  std::vector<ActionChunk> actions;
  // the row of `observations` that each sample acts on: both sides of a dpo pair on one
  std::vector<int64_t> seen_by;
  std::vector<std::string> pictures;  // their hashes, for keys
  for (auto i = static_cast<size_t>(whole.share.begin); i < static_cast<size_t>(whole.share.end); ++i) {
    const bool as_the_one_before =
        !seen_by.empty() && !pairing.slot.empty() && pairing.slot[i] == pairing.slot[i - 1];
    Observation observation = std::exchange(samples[i].observation, {});
    if (!as_the_one_before) observations.push_back(std::move(observation));
    seen_by.push_back(std::ssize(observations) - 1);
    if (with_keys)
      pictures.push_back(as_the_one_before ? pictures.back() : hash_of_pictures(observations.back()));
    actions.push_back(samples[i].actions);
  }
  std::vector<uint8_t> desirable;
  for (const data::Sample& sample : samples) desirable.push_back(sample.desirable);
  if (!actions.empty()) {
    whole.input = policy_.encode(observations);
    if (observations.size() < actions.size()) whole.input = whole.input.select(seen_by);
    whole.tokens = policy_.tokenize(actions, &whole.input);
    if (with_keys) whole.keys = answer_keys(pictures, whole.input, whole.tokens);
  }
  whole.tokens = gather_tokens(group_, whole.tokens, whole.share, std::ssize(samples), policy_);
  whole.num_clipped_actions = whole.tokens.num_clipped;
  whole.num_cut_answers = whole.tokens.num_cut;

  objective::Batch& in = whole.batch;
  const at::Device device = whole.tokens.ids.device();
  in.tokens = whole.tokens.ids;
  in.mask = whole.tokens.mask;
  in.end_token = whole.tokens.end_token;
  in.desirable = upload(at::tensor(desirable, at::kByte), device).to(at::kBool);
  if (options_.hold() > 0) {
    // corrections are there to change what the policy does
    std::vector<uint8_t> held;
    for (const data::Sample& sample : samples)
      held.push_back(sample.desirable && sample.source != ActionSource::intervention);
    in.held = upload(at::tensor(held, at::kByte), device).to(at::kBool);
  }
  if (const auto bins = policy_.codec().bins()) {
    in.first_action_token = bins->first;
    in.last_action_token = bins->last;
  }
  if (options_.credit == objective::Credit::dimension)
    in.dimension_credit = token_credit(samples, whole.tokens.dimension);
  if (options_.type == objective::ObjectiveType::weighted_bc)
    in.sample_weight = upload(imitation_weights(samples), device);
  if (options_.needs_mismatched_tokens()) {
    whole.mismatched = {rolled(whole.tokens.ids), rolled(whole.tokens.mask), rolled(whole.tokens.end_token),
                        rolled(whole.tokens.dimension), rolled(whole.tokens.valid)};
    in.mismatched_tokens = whole.mismatched.ids;
    in.mismatched_mask = whole.mismatched.mask;
    in.mismatched_end_token = whole.mismatched.end_token;
  }
  return whole;
}

objective::ScoredBatch Learner::score_policy(const MicroBatch& batch, objective::Reading reading,
                                             int64_t* num_clamped_tokens) {
  const Question& asked = batch.question;
  // always the same forward, so that dropout falls on the same units in the first pass and the second
  const models::Score score = [&] {
    APO_PART_OF_STEP("policy");
    return answer(policy_, asked);
  }();
  APO_PART_OF_STEP("head and scores");
  reading.greedy = true;
  objective::ScoredBatch scored = objective::score(asked.batch, options_, score, batch.reference, reading);
  // only where all tokens compete can the winner be none of an action's; counting waits for the device
  const bool whole_vocabulary = options_.compatibility == objective::Compatibility::released_code;
  const at::Tensor predicted = models::greedy_action_tokens(policy_, scored.scores.greedy, asked.tokens,
                                                            whole_vocabulary ? num_clamped_tokens : nullptr);
  scored.batch.action_l1 = models::action_l1(policy_, predicted, asked.tokens);
  return scored;
}

// Whether the networks draw at random. Policies without slots may, whatever they are.
bool Learner::drops_out() const {
  if (!policy_.training()) return false;
  const models::AdapterSlots* slots = policy_.adapter_slots();
  return slots == nullptr || (!slots->active().empty() && slots->options(slots->active()).dropout > 0);
}

// The policy, if it is scored next, then drops the same units.
void Learner::score_reference(MicroBatch& batch, bool policy_follows) {
  std::optional<GeneratorScope> same_dropout;
  if (policy_follows && drops_out()) same_dropout.emplace(policy_.device());
  APO_PART_OF_STEP("reference");
  batch.reference = reference_->score(batch.question);
}

BatchStatistics Learner::first_pass(std::vector<MicroBatch>& batches) {
  const at::NoGradGuard no_grad;
  // dropout falls on the same units again in the second pass
  const GeneratorScope same_dropout(policy_.device());
  const bool needs_policy = options_.estimates_z0() || options_.needs_action_l1();
  BatchStatistics statistics;
  for (MicroBatch& batch : batches) {
    if (options_.needs_reference()) score_reference(batch, /*policy_follows=*/needs_policy);
    statistics += objective::measure(
        needs_policy ? score_policy(batch, {.loss = false})
                     : objective::score(batch.question.batch, options_, {}, {}, {.loss = false}));
  }
  return statistics;
}

// This rank's share of it.
std::vector<Learner::MicroBatch> Learner::split(const Prepared& whole, int64_t position) const {
  std::vector<MicroBatch> batches;
  const Share& share = whole.share;
  for (int64_t begin = share.begin, end = 0; begin < share.end; begin = end) {
    end = micro_batch_end(whole.pair, begin, share.end, micro_batch_size_);
    Question question = {.position = position,
                         .begin = begin,
                         .end = end,
                         .input = whole.input.slice(begin - share.begin, end - share.begin),
                         .tokens = whole.tokens.slice(begin, end),
                         .mismatched = {},
                         .batch = whole.batch.slice(begin, end),
                         .options = options_,
                         .bfloat16 = bfloat16_};
    // pairs are numbered from 0 in each part
    if (!whole.pair.empty())
      question.batch.pair = upload(pair_tensor(whole.pair, begin, end), question.tokens.ids.device());
    if (options_.needs_mismatched_logits()) question.mismatched = whole.mismatched.slice(begin, end);
    if (!whole.keys.empty())
      question.keys = {whole.keys.begin() + (begin - share.begin), whole.keys.begin() + (end - share.begin)};
    batches.push_back({std::move(question), {}});
  }
  return batches;
}

objective::ReferenceScores Learner::reference_scores(std::vector<data::Sample>& samples,
                                                     ReferenceScorer& reference) const {
  APO_ASSERT(!samples.empty() && options_.needs_reference() && !options_.compares_distributions());
  const Prepared whole = prepare(samples, reference.wants_keys());  // may add samples
  const at::Tensor none =
      at::zeros({0, whole.tokens.ids.size(1)}, at::TensorOptions(at::kFloat).device(policy_.device()));
  std::vector<at::Tensor> tokens = {none}, mismatched = {none};
  for (const MicroBatch& batch : split(whole, /*position=*/-1)) {
    const objective::ReferenceScores part = reference.score(batch.question);
    tokens.push_back(part.tokens);
    if (part.mismatched.defined()) mismatched.push_back(part.mismatched);
  }
  const auto of_all_ranks = [&](const std::vector<at::Tensor>& parts) {
    return group_.gather_rows(at::cat(parts), whole.share.begin, std::ssize(samples));
  };
  objective::ReferenceScores scores{of_all_ranks(tokens), {}, {}};
  const bool shifted = options_.uses_z0() && options_.z0 == objective::Z0Estimator::shifted_labels;
  if (shifted || options_.needs_mismatched_logits()) scores.mismatched = of_all_ranks(mismatched);
  return scores;
}

BatchOutcome Learner::learn(std::vector<data::Sample>& samples, int64_t position) {
  APO_ASSERT(!samples.empty());
  APO_ASSERT(reference_ != nullptr || !options_.needs_reference());
  const Prepared whole = prepare(samples, reference_ != nullptr && reference_->wants_keys());
  std::vector<MicroBatch> batches = split(whole, position);
  const auto of_all_ranks = [this](BatchStatistics statistics) {
    if (group_.is_alone()) return statistics;
    if (!statistics.sums.defined())  // of a rank without a share
      statistics.sums =
          at::zeros({BatchStatistics::kSize}, at::TensorOptions(at::kDouble).device(policy_.device()));
    group_.sum(statistics.sums);
    return statistics;
  };

  // the whole batch at once: one reading of the logits gives statistics and loss
  const bool at_once = batches.size() == 1;
  BatchStatistics statistics;
  if (at_once && options_.needs_reference()) score_reference(batches.front(), /*policy_follows=*/true);
  if (!at_once) statistics = of_all_ranks(first_pass(batches));
  std::vector<ObjectiveOutput> outputs;
  std::vector<at::Tensor> action_l1;
  int64_t num_clamped_tokens = 0;
  for (MicroBatch& batch : batches) {
    const objective::ScoredBatch scored = score_policy(batch, {.statistics = at_once}, &num_clamped_tokens);
    if (at_once) statistics = of_all_ranks(objective::measure(scored));
    {
      APO_PART_OF_STEP("objective");
      outputs.push_back(objective::evaluate(scored, statistics));
    }
    {
      APO_PART_OF_STEP("backward");
      outputs.back().loss.backward();
    }
    outputs.back().loss = outputs.back().loss.detach();  // frees the graph
    action_l1.push_back(scored.batch.action_l1);
    batch = {};
  }

  if (!group_.is_alone()) {
    APO_PART_OF_STEP("sum of the ranks' gradients");
    sum_gradients(group_, policy_);
  }
  BatchOutcome outcome = outcome_of(outputs, action_l1, num_clamped_tokens, whole.tokens.mask,
                                    options_.needs_reference(), whole.share, group_);
  outcome.pair_accuracy /= outcome.num_pairs;  // none: NaN
  if (options_.needs_pairs()) outcome.num_unpaired = static_cast<double>(whole.num_unpaired);
  outcome.num_clipped_actions = whole.num_clipped_actions;
  outcome.num_cut_answers = whole.num_cut_answers;
  return outcome;
}

}  // namespace apo::training
