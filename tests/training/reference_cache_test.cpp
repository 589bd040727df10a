// reference.cache: a run that finds what its reference says is a run that asks it.
#include "training/reference_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <regex>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/base/interrupt.h"
#include "models/openvla_fixture.h"
#include "support/message_of.h"
#include "training/learner.h"
#include "training/recorded_runs.h"
#include "training/reference_scorer.h"

namespace apo::training {
namespace {

namespace fs = std::filesystem;
using apo::testing::expect_near_metrics;
using apo::testing::message_of;
using apo::testing::metrics_of;
using apo::testing::RecordedRuns;
using apo::testing::TempDir;
using objective::ObjectiveType;
using objective::Z0Estimator;
using ::testing::AllOf;
using ::testing::HasSubstr;

// A head on hidden states, and how often each answer was asked.
struct Asked {
  static constexpr int64_t kTokens = 3, kVocabulary = 7;
  at::Tensor weight = at::randn({kVocabulary, 5}), hidden = at::randn({6, kTokens, 5});
  int64_t piece_bytes = Logits::kPieceBytes;
  std::vector<int64_t> lengths = {3, 3, 2, 3, 1, 3};
  std::vector<int64_t> answers;

  models::Score say(const std::vector<int64_t>& which) {
    answers.insert(answers.end(), which.begin(), which.end());
    return {.logits = Logits(
                hidden.index_select(0, at::tensor(which)), kVocabulary,
                [w = weight](const at::Tensor& rows) { return at::linear(rows, w); }, piece_bytes),
            .mismatched_logits = {}};
  }
  at::Tensor logits(ReferenceCache& cache, const std::vector<int64_t>& which) {
    std::vector<AnswerKey> keys;
    for (const int64_t i : which)
      keys.push_back(
          {.text = std::string(31, 'a') + std::to_string(i), .num_tokens = lengths[static_cast<size_t>(i)]});
    return cache
        .score(keys, kTokens, at::kCPU,
               [&](const std::vector<int64_t>& rows) {
                 std::vector<int64_t> some;
                 for (const int64_t row : rows) some.push_back(which[static_cast<size_t>(row)]);
                 return say(some);
               })
        .logits.whole();
  }
  // but for padding
  void expect(const at::Tensor& found, const std::vector<int64_t>& which) const {
    ASSERT_EQ(found.sizes(), at::IntArrayRef({std::ssize(which), kTokens, kVocabulary}));
    for (int64_t i = 0; i < std::ssize(which); ++i) {
      const int64_t answer = which[static_cast<size_t>(i)], length = lengths[static_cast<size_t>(answer)];
      EXPECT_TRUE(at::linear(hidden[answer].narrow(0, 0, length), weight)
                      .allclose(found[i].narrow(0, 0, length), 0, 1e-6));
    }
  }
};

TEST(ReferenceCache, AsksOnceOfEachAnswer) {
  for (const int64_t piece_bytes : {Logits::kPieceBytes, int64_t{1}, Logits::kAtOnce}) {
    SCOPED_TRACE(piece_bytes);
    const TempDir dir;
    Asked asked{.piece_bytes = piece_bytes};
    ReferenceCache cache(dir.path(), "one");
    asked.expect(asked.logits(cache, {0, 1}), {0, 1});
    asked.expect(asked.logits(cache, {1, 2, 0, 3}), {1, 2, 0, 3});
    asked.expect(asked.logits(cache, {4, 2}), {4, 2});
    asked.expect(asked.logits(cache, {0, 1, 2, 3, 4}), {0, 1, 2, 3, 4});
    EXPECT_THAT(asked.answers, ::testing::ElementsAre(0, 1, 2, 3, 4));
    EXPECT_EQ(cache.size(), 5);
    EXPECT_EQ(cache.num_wanted(), 13);
    EXPECT_EQ(cache.num_found(), 8);
  }
}

TEST(ReferenceCache, IsFoundByTheNextRunAndByOneBesideIt) {
  const TempDir dir;
  Asked asked;
  ReferenceCache first(dir.path(), "one"), beside(dir.path(), "one");
  asked.logits(first, {0, 1});
  asked.logits(beside, {2, 3});  // each in a file of its own
  asked.answers.clear();
  ReferenceCache next(dir.path(), "one");
  EXPECT_EQ(next.size(), 4);
  asked.expect(asked.logits(next, {3, 1, 0}), {3, 1, 0});
  EXPECT_THAT(asked.answers, ::testing::ElementsAre(3));  // one, for the head
  EXPECT_EQ(ReferenceCache(dir.path(), "another").size(), 0);
}

int64_t files_in(const fs::path& directory) {
  return std::distance(fs::directory_iterator(directory), fs::directory_iterator());
}

TEST(ReferenceCache, GoesOnInAFileThatNobodyWrites) {
  const TempDir dir;
  Asked asked;
  for (const int64_t answer : {0, 1, 2}) {
    ReferenceCache cache(dir.path(), "one");
    asked.logits(cache, {answer});
  }
  EXPECT_EQ(files_in(dir / "one"), 1);
  // what was cut off is written over
  fs::resize_file(dir / "one/part-0.rows", fs::file_size(dir / "one/part-0.rows") - 1);
  ReferenceCache third(dir.path(), "one"), beside(dir.path(), "one");
  EXPECT_EQ(third.size(), 2);
  asked.logits(third, {3});
  asked.logits(beside, {4});
  EXPECT_EQ(files_in(dir / "one"), 2);
  ReferenceCache last(dir.path(), "one");
  EXPECT_EQ(last.size(), 4);
  asked.expect(asked.logits(last, {0, 1, 3, 4}), {0, 1, 3, 4});
}

TEST(ReferenceCache, IsNotBelievedWhereTheReferenceSaysSomethingElse) {
  const TempDir dir;
  Asked asked;
  {
    ReferenceCache cache(dir.path(), "one");
    asked.logits(cache, {0, 1});
  }
  for (const double change : {0.01, 0.0}) {
    SCOPED_TRACE(change);
    Asked other = asked;
    other.hidden = change > 0 ? asked.hidden + change : asked.hidden.slice(2, 0, 4).contiguous();
    other.weight = change > 0 ? asked.weight : asked.weight.slice(1, 0, 4).contiguous();
    ReferenceCache cache(dir.path(), "one");
    ::testing::internal::CaptureStderr();
    other.expect(other.logits(cache, {0, 1}), {0, 1});
    other.expect(other.logits(cache, {1, 0}), {1, 0});
    EXPECT_THAT(::testing::internal::GetCapturedStderr(), HasSubstr("says something else"));
    EXPECT_EQ(cache.num_found(), 0);
  }
}

TEST(ReferenceCache, APipeAndAFolderAreNoParts) {
  const TempDir dir;
  fs::create_directories(dir / "one");
  ASSERT_EQ(::mkfifo((dir / "one/part-0.rows").c_str(), 0600), 0);
  fs::create_directories(dir / "one/part-1.rows");
  Asked asked;
  ::testing::internal::CaptureStderr();
  ReferenceCache cache(dir.path(), "one");
  EXPECT_THAT(::testing::internal::GetCapturedStderr(),
              AllOf(HasSubstr("part-0.rows: expected a file"), HasSubstr("part-1.rows: expected a file")));
  asked.expect(asked.logits(cache, {0}), {0});
  EXPECT_EQ(ReferenceCache(dir.path(), "one").size(), 1);
}

TEST(ReferenceCache, ReadsWhatIsWholeOfAFileThatIsNot) {
  const TempDir dir;
  Asked asked;
  { ReferenceCache(dir.path(), "one"); }
  {
    ReferenceCache cache(dir.path(), "one");
    asked.logits(cache, {0, 1, 3});
  }
  const fs::path file = dir / "one/part-0.rows";
  const std::string bytes = read_file(file);
  const size_t record = bytes.size() / 3;
  for (const size_t end :
       {size_t{0}, size_t{5}, record - 1, record, record + 1, 2 * record + 90, bytes.size() - 1}) {
    SCOPED_TRACE(end);
    write_file_atomic(file, bytes.substr(0, end));
    EXPECT_EQ(ReferenceCache(dir.path(), "one").size(), static_cast<int64_t>(end / record));
  }
  // damage in the rows is seen when they are read, in what says what they are before; nothing good is lost
  for (const size_t at :
       {size_t{1}, size_t{20}, size_t{50}, size_t{75}, size_t{78}, size_t{79}, size_t{85}, record - 2}) {
    SCOPED_TRACE(at);
    std::string damaged = bytes;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x81);
    write_file_atomic(file, damaged);
    fs::remove(dir / "one/part-1.rows");
    {
      ReferenceCache cache(dir.path(), "one");
      asked.expect(asked.logits(cache, {0, 1, 3}), {0, 1, 3});
    }
    EXPECT_GE(fs::file_size(file), bytes.size());
    EXPECT_TRUE(std::ranges::equal(read_file(file).substr(0, bytes.size()), damaged));
    asked.answers.clear();
    ReferenceCache again(dir.path(), "one");  // what was asked anew is found
    asked.expect(asked.logits(again, {0, 1, 3}), {0, 1, 3});
    EXPECT_EQ(again.num_found(), 3);
  }
}

TEST(ReferenceCache, GoesOnWhereNothingCanBeWritten) {
  const TempDir dir;
  Asked asked;
  ReferenceCache cache(dir.path(), "one");
  fs::remove_all(dir / "one");  // as good as a full disk
  ::testing::internal::CaptureStderr();
  asked.expect(asked.logits(cache, {0, 1}), {0, 1});
  asked.expect(asked.logits(cache, {0, 2}), {0, 2});
  EXPECT_THAT(::testing::internal::GetCapturedStderr(),
              AllOf(HasSubstr("reference.cache"), HasSubstr("part-0.rows"), HasSubstr("asked again")));
  EXPECT_THAT(asked.answers, ::testing::ElementsAre(0, 1, 0, 2));
  write_file_atomic(dir / "file", "");
  EXPECT_THAT(message_of<RunError>([&] { ReferenceCache(dir / "file", "one"); }),
              AllOf(HasSubstr("file/one"), HasSubstr("Not a directory")));
}

TrainingOptions with_draws(TrainingOptions options) {
  options.data.augmentation = {.enabled = true, .shift_px = 1, .draws = 2};
  options.reference.mode = models::ReferenceMode::copy;
  return options;
}

// What is read of it: log-probabilities, those of the next sample's tokens, whole distributions, pairs.
TEST(ReferenceCache, EqualsTheReferenceItself) {
  for (const auto& [type, z0, hold] : std::vector<std::tuple<ObjectiveType, Z0Estimator, double>>{
           {ObjectiveType::apo, Z0Estimator::exact, 3},
           {ObjectiveType::apo, Z0Estimator::shifted_labels, 0},
           {ObjectiveType::kto, Z0Estimator::none, 1},
           {ObjectiveType::tpo, Z0Estimator::none, 0}})
    for (const int64_t micro_batch : {0, 3}) {
      SCOPED_TRACE(concat("objective ", static_cast<int>(type), ", z0 ", static_cast<int>(z0),
                          ", micro-batch ", micro_batch));
      const RecordedRuns runs;
      TrainingOptions options = with_draws(runs.options("asked"));
      options.objective.type = type;
      options.objective.z0 = z0;
      options.objective.reference_kl_weight = hold;
      options.train.micro_batch_size = micro_batch;
      train(options);
      options.reference.cache = (runs / "cache").string();
      for (const char* name : {"fills", "finds"}) {
        options.run.dir = (runs / name).string();
        ::testing::internal::CaptureStderr();
        train(options);
        const std::string log = ::testing::internal::GetCapturedStderr();
        expect_near_metrics(runs / "asked", runs / name);
        std::smatch found;
        ASSERT_TRUE(std::regex_search(log, found, std::regex("found (\\d+) of (\\d+) answers"))) << log;
        EXPECT_EQ(std::string(name) == "finds", found[1] == found[2]) << log;
      }
    }
}

// Its adapter lies on the head, too, which is another one where it is the reference's; prompts of unequal
// length; what is kept are hidden states.
TEST(ReferenceCache, EqualsAnOpenVlasFrozenAdapter) {
  const TempDir dir;
  const models::testing::OpenVlaGolden golden("b");
  const auto samples = [&] {
    const auto seen = golden.observations();
    const auto acted = golden.actions();
    std::vector<data::Sample> all;
    for (size_t i = 0; i < seen.size(); ++i) {
      data::Sample& sample = all.emplace_back();
      sample.observation = seen[i];
      sample.actions = {acted[i]};
      sample.desirable = i % 2 == 0;
      sample.source = i % 2 == 0 ? ActionSource::expert : ActionSource::policy;
    }
    return all;
  };
  const auto learn = [&](bool kept, int64_t micro_batch) {
    const auto policy = golden.policy("adapter_old");
    LiveReference reference(*policy, {.mode = models::ReferenceMode::adapter});
    if (kept) reference.set_cache(std::make_unique<ReferenceCache>(dir.path(), "one"));
    for (auto& [name, tensor] : models::trainable_parameters(*policy)) {
      const at::NoGradGuard no_grad;
      tensor.add_(at::cos(tensor * 9), 0.05);
    }
    auto batch = samples();
    return Learner(*policy, &reference, {.z0 = Z0Estimator::exact}, micro_batch, false).learn(batch);
  };
  const BatchOutcome asked = learn(false, 0);
  EXPECT_GT(asked.z0, 0.01);
  for (const int64_t micro_batch : {1, 0, 1}) {  // fills, then finds
    const BatchOutcome found = learn(true, micro_batch);
    EXPECT_NEAR(found.loss, asked.loss, 1e-5);
    EXPECT_NEAR(found.z0, asked.z0, 1e-5 * asked.z0);
    EXPECT_TRUE(found.reference_log_prob.allclose(asked.reference_log_prob, 1e-5, 1e-5));
  }
}

TEST(ReferenceCache, OneOfAFreshAdapterIsForAnySeed) {
  const RecordedRuns runs;
  TrainingOptions base = runs.options("base");
  base.policy.type = "small";
  base.objective.type = ObjectiveType::sft;
  base.objective.reference_kl_weight = 0;
  train(base);
  TrainingOptions options = with_draws(runs.options("1"));
  options.policy.checkpoint = base.run.dir;
  options.policy.lora.rank = 2;
  options.reference.mode = models::ReferenceMode::adapter;
  options.reference.cache = (runs / "cache").string();
  train(options);
  options.run.dir = (runs / "2").string();
  options.run.seed = 8;
  options.policy.lora.rank = 3;
  train(options);
  EXPECT_EQ(files_in(runs / "cache"), 1);
  // an adapter that has learned something is another reference
  options.run.dir = (runs / "3").string();
  options.policy.checkpoint = (runs / "2").string();
  train(options);
  EXPECT_EQ(files_in(runs / "cache"), 2);
}

TEST(ReferenceCache, OtherWeightsAreNotFound) {
  const RecordedRuns runs;
  TrainingOptions options = with_draws(runs.options("first"));
  options.reference.cache = (runs / "cache").string();
  train(options);
  const auto references = [&] { return files_in(runs / "cache"); };
  EXPECT_EQ(references(), 1);
  options.run.dir = (runs / "same").string();
  options.objective.beta = 0.3;  // of no concern to the reference
  train(options);
  EXPECT_EQ(references(), 1);
  options.run.dir = (runs / "from the first").string();
  options.policy.checkpoint = (runs / "first").string();
  train(options);
  EXPECT_EQ(references(), 2);
}

TEST(ReferenceCache, ResumedEqualsNeverHavingStopped) {
  const RecordedRuns runs;
  TrainingOptions whole = with_draws(runs.options("whole"));
  whole.reference.cache = (runs / "cache of the whole").string();
  train(whole);
  TrainingOptions stopped = with_draws(runs.options("stopped"));
  stopped.reference.cache = (runs / "cache").string();
  stopped.train.eval_every = 3;
  const TrainHooks hooks = {.evaluate = [](models::Policy&, int64_t) -> std::map<std::string, double> {
                              throw Interrupted("in the middle of an episode");
                            },
                            .config_yaml = {}};
  EXPECT_THROW(train(stopped, ExistingRun::refuse, hooks), Interrupted);
  EXPECT_EQ(train(stopped, ExistingRun::resume).steps, 6);
  EXPECT_EQ(metrics_of(runs / "stopped"), metrics_of(runs / "whole"));
}

TEST(ReferenceCache, SaysWhatItCannotDo) {
  const RecordedRuns runs;
  TrainingOptions options = with_draws(runs.options("run"));
  options.reference.cache = (runs / "cache").string();
  options.objective.type = ObjectiveType::kto;
  options.objective.z0 = Z0Estimator::mismatched;
  EXPECT_THAT(message_of<ConfigError>([&] { train(options); }),
              AllOf(HasSubstr("reference.cache"), HasSubstr("objective.z0: mismatched")));
  options.objective.z0 = Z0Estimator::exact;
  options.policy.lora = {.rank = 2, .dropout = 0.1};
  EXPECT_THAT(message_of<ConfigError>([&] { train(options); }),
              AllOf(HasSubstr("policy.lora.dropout"), HasSubstr("reference.cache"), HasSubstr("found 0.1")));
  EXPECT_FALSE(fs::exists(runs / "run"));
  options.policy.lora = {};
  for (const char* place : {"demos.hdf5", "demos.hdf5/below"}) {
    TrainingOptions nowhere = options;
    nowhere.reference.cache = (runs / place).string();
    EXPECT_THAT(message_of<ConfigError>([&] { train(nowhere); }),
                AllOf(HasSubstr(place), HasSubstr("demos.hdf5: no directory")));
  }
  EXPECT_FALSE(fs::exists(runs / "run"));
  options.data.augmentation.draws = 0;
  ::testing::internal::CaptureStderr();
  train(options);
  EXPECT_THAT(::testing::internal::GetCapturedStderr(), HasSubstr("data.augmentation.draws"));
}

}  // namespace
}  // namespace apo::training
