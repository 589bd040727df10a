// Token log-probabilities: the fused rows against the plain composition, and what they promise at the edges.
#include "apo/objective/log_prob.h"

#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>

#include "apo/base/device.h"
#include "apo/base/location.h"
#include "objective/batch.h"
#include "objective/kernels/launch.h"
#include "objective/log_prob_plain.h"

namespace apo::objective {
namespace {

using ::testing::AllOf;
using testing::distance;
using ::testing::HasSubstr;
using testing::leaf;
using testing::message_of;
using testing::number;

struct Case {
  at::Tensor logits, tokens, mask, other_tokens, upstream;
};

Case make_case(at::ScalarType type, int64_t samples, int64_t tokens, int64_t vocabulary, uint64_t seed = 3) {
  auto random = at::make_generator<at::CPUGeneratorImpl>(seed);
  return {.logits = (at::randn({samples, tokens, vocabulary}, random, at::kDouble) * 3).to(type),
          .tokens = at::randint(0, vocabulary, {samples, tokens}, random, at::kLong),
          .mask = at::rand({samples, tokens}, random, at::kFloat).gt(0.3),
          .other_tokens = at::randint(0, vocabulary, {samples, tokens}, random, at::kLong),
          .upstream =
              at::randn({samples, tokens}, random, at::kDouble).to(type == at::kDouble ? type : at::kFloat)};
}

at::Tensor gradient_of(const at::Tensor& scores, const at::Tensor& logits, const at::Tensor& upstream) {
  return torch::autograd::grad({scores}, {logits}, {upstream})[0];
}

TEST(TokenLogProbs, ByHand) {
  // softmax(ln 3, 0) = (3/4, 1/4); softmax(0, 0) = (1/2, 1/2)
  const at::Tensor logits = at::tensor({std::log(3.0), 0.0, 0.0, 0.0}, at::kDouble).view({1, 2, 2});
  const at::Tensor tokens = at::tensor({1, 0}, at::kLong).view({1, 2});
  const at::Tensor input = leaf(logits);
  const at::Tensor scores = token_log_probs(input, tokens);
  EXPECT_NEAR(number(scores[0][0]), std::log(0.25), 1e-12);
  EXPECT_NEAR(number(scores[0][1]), std::log(0.5), 1e-12);
  // d log p_1 / d logits = (-3/4, 1 - 1/4); d log p_0 = (1 - 1/2, -1/2)
  scores.sum().backward();
  const at::Tensor expected = at::tensor({-0.75, 0.75, 0.5, -0.5}, at::kDouble).view({1, 2, 2});
  EXPECT_LT(distance(input.grad(), expected), 1e-12);
}

TEST(TokenLogProbs, SmoothLabelByHand) {
  // sigma 1, bins 0..2, token 0: q ~ (1, e^-0.5, e^-2) = (1, 0.60653066, 0.13533528) / 1.74186594
  // uniform logits over 4: every log p is -ln 4, so the score is -ln 4 whatever q; with log p = (a, b, c, d)
  // it is q.log p
  const at::Tensor logits = at::tensor({1.0, 2.0, 3.0, 4.0}, at::kDouble).view({1, 1, 4});
  const at::Tensor log_p = at::log_softmax(logits, -1).view({4});
  const at::Tensor tokens = at::zeros({1, 1}, at::kLong);
  const double want =
      (number(log_p[0]) + 0.60653066 * number(log_p[1]) + 0.13533528 * number(log_p[2])) / 1.74186594;
  EXPECT_NEAR(number(token_log_probs(logits, tokens, {}, {1.0, 0, 2})), want, 1e-7);
  // token 3 is outside the bins: hard
  EXPECT_NEAR(number(token_log_probs(logits, tokens + 3, {}, {1.0, 0, 2})), number(log_p[3]), 1e-12);
}

// equal roads: fused = plain, values and gradients, for every type, odd widths, hard and smooth labels
TEST(TokenLogProbs, FusedEqualsPlain) {
  struct Tolerance {
    at::ScalarType type;
    double value, gradient;
  };
  for (const auto& [type, value, gradient] :
       {Tolerance{at::kFloat, 4e-6, 1e-6}, Tolerance{at::kDouble, 1e-12, 1e-13},
        Tolerance{at::kBFloat16, 4e-6, 1.0 / 128}})
    for (const int64_t vocabulary : {1, 2, 31, 32, 33, 257, 4097, 9001})
      for (const double sigma : {0.0, 0.4, 3.0}) {
        SCOPED_TRACE(concat(type, " V=", vocabulary, " sigma=", sigma));
        const Case x = make_case(type, 3, 5, vocabulary);
        const LabelSmoothing smoothing{sigma, vocabulary / 4, vocabulary - 1};
        const at::Tensor fused_logits = leaf(x.logits), plain_logits = leaf(x.logits);
        const at::Tensor fused = token_log_probs(fused_logits, x.tokens, x.mask, smoothing);
        const at::Tensor plain = plain::token_log_probs(plain_logits, x.tokens, x.mask, smoothing);
        EXPECT_EQ(fused.scalar_type(), plain.scalar_type());
        EXPECT_LT(distance(fused, plain), value * (1 + number(plain.abs().max())));
        EXPECT_LT(distance(gradient_of(fused, fused_logits, x.upstream),
                           gradient_of(plain, plain_logits, x.upstream)),
                  gradient * (1 + number(x.upstream.abs().max())));
      }
}

TEST(TokenLogProbs, NumericGradient) {
  for (const double sigma : {0.0, 1.0}) {
    const Case x = make_case(at::kDouble, 2, 3, 7);
    const LabelSmoothing smoothing{sigma, 1, 5};
    const at::Tensor logits = leaf(x.logits);
    const auto f = [&](const at::Tensor& l) {
      return number((token_log_probs(l, x.tokens, x.mask, smoothing) * x.upstream).sum());
    };
    const at::Tensor analytic =
        gradient_of(token_log_probs(logits, x.tokens, x.mask, smoothing), logits, x.upstream);
    for (int64_t i = 0; i < logits.numel(); ++i) {
      at::Tensor up = x.logits.clone(), down = x.logits.clone();
      up.view(-1)[i] += 1e-5, down.view(-1)[i] -= 1e-5;
      EXPECT_NEAR(number(analytic.view(-1)[i]), (f(up) - f(down)) / 2e-5, 1e-8);
    }
  }
}

TEST(TokenLogProbs, BothLabelsInOnePassEqualTwoPasses) {
  const Case x = make_case(at::kFloat, 4, 3, 300);
  const at::Tensor other_mask = x.mask.logical_not();
  const auto [own, other] = token_log_probs(leaf(x.logits), x.tokens, x.mask, x.other_tokens, other_mask);
  EXPECT_TRUE(at::equal(own, token_log_probs(x.logits, x.tokens, x.mask)));
  EXPECT_TRUE(at::equal(other, token_log_probs(x.logits, x.other_tokens, other_mask)));
  EXPECT_TRUE(own.requires_grad());
  EXPECT_FALSE(other.requires_grad());
}

TEST(TokenLogProbs, GradientFlowsWithBothLabels) {
  const Case x = make_case(at::kDouble, 2, 3, 9);
  const at::Tensor one = leaf(x.logits), two = leaf(x.logits);
  const auto [own, other] = token_log_probs(one, x.tokens, x.mask, x.other_tokens, x.mask);
  EXPECT_TRUE(at::equal(gradient_of(own, one, x.upstream),
                        gradient_of(token_log_probs(two, x.tokens, x.mask), two, x.upstream)));
}

TEST(TokenLogProbs, MaskedPositionsAreNeverRead) {
  const Case x = make_case(at::kFloat, 3, 4, 50);
  at::Tensor poisoned = x.logits.clone(), wild_tokens = x.tokens.clone();
  poisoned.masked_fill_(x.mask.logical_not().unsqueeze(-1), std::nan(""));
  wild_tokens.masked_fill_(x.mask.logical_not(), -100);
  for (const bool fused : {true, false}) {
    const at::Tensor clean_logits = leaf(x.logits), poisoned_logits = leaf(poisoned);
    const auto f = [&](const at::Tensor& logits, const at::Tensor& tokens) {
      return fused ? token_log_probs(logits, tokens, x.mask)
                   : plain::token_log_probs(logits, tokens, x.mask, {});
    };
    const at::Tensor clean = f(clean_logits, x.tokens), with_nan = f(poisoned_logits, wild_tokens);
    EXPECT_TRUE(at::equal(clean, with_nan));
    EXPECT_TRUE(at::equal(gradient_of(clean, clean_logits, x.upstream),
                          gradient_of(with_nan, poisoned_logits, x.upstream)));
    EXPECT_EQ(number(with_nan.masked_select(x.mask.logical_not()).abs().sum()), 0);
  }
}

TEST(TokenLogProbs, AnUnmaskedNaNIsNotHidden) {
  for (const double bad : {std::nan(""), static_cast<double>(INFINITY)}) {
    at::Tensor logits = at::zeros({1, 1, 100}, at::kFloat);
    logits[0][0][57] = bad;
    EXPECT_TRUE(std::isnan(number(token_log_probs(logits, at::zeros({1, 1}, at::kLong))))) << bad;
  }
}

TEST(TokenLogProbs, ForbiddenTokensAndHugeLogitsAreFine) {
  at::Tensor logits = at::full({1, 1, 64}, -1e4, at::kFloat);
  logits[0][0][3] = 1e4;
  logits[0][0][40] = -INFINITY;
  const at::Tensor input = leaf(logits);
  const at::Tensor certain = token_log_probs(input, at::full({1, 1}, 3, at::kLong));
  EXPECT_EQ(number(certain), 0);
  certain.sum().backward();
  EXPECT_TRUE(number(at::isfinite(input.grad()).all()));
  EXPECT_EQ(number(token_log_probs(logits, at::full({1, 1}, 5, at::kLong))), -2e4);
}

TEST(TokenLogProbs, WholeBlocksOfForbiddenTokensAddNothing) {
  // 20,000 logits of which only the last two are allowed, as when decoding is restricted to action bins
  at::Tensor logits = at::full({1, 1, 20000}, -std::numeric_limits<float>::infinity());
  logits.narrow(2, 19998, 2).copy_(torch::tensor({1.0f, 1.0f}));
  const at::Tensor tokens = torch::tensor({{19999}}, torch::kLong);
  EXPECT_NEAR(token_log_probs(logits, tokens, at::ones({1, 1}, at::kBool)).item<double>(), -std::log(2.0),
              1e-6);
  logits[0][0][5] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(std::isnan(token_log_probs(logits, tokens, at::ones({1, 1}, at::kBool)).item<double>()));
}

TEST(TokenLogProbs, ReadsSlicesInPlace) {
  // the answer's positions of a longer sequence: rows contiguous, samples and tokens strided
  const at::Tensor sequence = make_case(at::kFloat, 3, 9, 40).logits;
  const at::Tensor whole = leaf(sequence);
  const at::Tensor slice = whole.slice(1, 4, 8);
  const Case x = make_case(at::kFloat, 3, 4, 40);
  const at::Tensor copy = leaf(slice);
  const at::Tensor scores = token_log_probs(slice, x.tokens, x.mask);
  EXPECT_TRUE(at::equal(scores, token_log_probs(copy, x.tokens, x.mask)));
  scores.backward(x.upstream);
  token_log_probs(copy, x.tokens, x.mask).backward(x.upstream);
  EXPECT_TRUE(at::equal(whole.grad().slice(1, 4, 8), copy.grad()));
  // rows that are not contiguous are copied
  const at::Tensor transposed = sequence.transpose(1, 2).contiguous().transpose(1, 2).slice(1, 4, 8);
  EXPECT_TRUE(at::equal(token_log_probs(transposed, x.tokens, x.mask), scores));
}

TEST(TokenLogProbs, ThreadsDoNotChangeTheNumbers) {
  const Case x = make_case(at::kFloat, 16, 4, 9001);
  const int before = at::get_num_threads();
  at::set_num_threads(1);
  const at::Tensor one_logits = leaf(x.logits), two_logits = leaf(x.logits);
  const at::Tensor one = token_log_probs(one_logits, x.tokens, x.mask);
  one.backward(x.upstream);
  at::set_num_threads(2);
  const at::Tensor two = token_log_probs(two_logits, x.tokens, x.mask);
  two.backward(x.upstream);
  at::set_num_threads(before);
  EXPECT_TRUE(at::equal(one, two));
  EXPECT_TRUE(at::equal(one_logits.grad(), two_logits.grad()));
}

TEST(TokenLogProbs, AnEmptyBatchIsFine) {
  const at::Tensor logits = leaf(at::zeros({0, 3, 5}, at::kFloat));
  const at::Tensor scores = token_log_probs(logits, at::zeros({0, 3}, at::kLong));
  EXPECT_EQ(scores.sizes(), (at::IntArrayRef{0, 3}));
  scores.sum().backward();
  EXPECT_EQ(logits.grad().numel(), 0);
}

TEST(TokenLogProbs, SaysWhatIsWrong) {
  const at::Tensor logits = at::zeros({2, 3, 5}), tokens = at::zeros({2, 3}, at::kLong);
  EXPECT_THAT(message_of<RunError>([&] {
                token_log_probs(at::zeros({2, 3}), tokens);
              }),
              AllOf(HasSubstr("logits"), HasSubstr("[samples, tokens, vocabulary]"), HasSubstr("[2, 3]")));
  EXPECT_THAT(message_of<RunError>([&] { token_log_probs(logits.to(at::kInt), tokens); }),
              AllOf(HasSubstr("logits"), HasSubstr("bfloat16"), HasSubstr("Int")));
  EXPECT_THAT(message_of<RunError>([&] {
                token_log_probs(logits, at::zeros({2, 4}, at::kLong));
              }),
              AllOf(HasSubstr("tokens"), HasSubstr("[2, 3]"), HasSubstr("[2, 4]")));
  EXPECT_THAT(message_of<RunError>([&] {
                token_log_probs(logits, tokens, at::ones({2, 3}));
              }),
              AllOf(HasSubstr("mask"), HasSubstr("Bool"), HasSubstr("Float")));
  at::Tensor wild = tokens.clone();
  wild[1][2] = 5;
  EXPECT_THAT(message_of<DataError>([&] { token_log_probs(logits, wild); }),
              AllOf(HasSubstr("tokens[1, 2]"), HasSubstr("0..4"), HasSubstr("found 5")));
  wild[1][2] = -1;
  EXPECT_THAT(message_of<DataError>([&] { token_log_probs(logits, wild); }), HasSubstr("found -1"));
  EXPECT_THAT(message_of<RunError>([&] {
                token_log_probs(logits, tokens, {}, {1.0, 2, 5});
              }),
              AllOf(HasSubstr("first_action_token"), HasSubstr("2..5")));
  const at::Tensor input = leaf(logits);
  EXPECT_THAT(message_of<RunError>([&] {
                torch::autograd::grad({token_log_probs(input, tokens).sum()}, {input}, {}, true, true);
              }),
              HasSubstr("second derivative"));
}

TEST(TokenKl, ByHand) {
  // p = (3/4, 1/4), q = (1/2, 1/2): 0.75 ln 1.5 + 0.25 ln 0.5 = 0.13081204
  const at::Tensor policy = at::tensor({std::log(3.0), 0.0}, at::kDouble).view({1, 1, 2});
  EXPECT_NEAR(number(token_kl(policy, at::zeros({1, 1, 2}, at::kDouble))), 0.13081204, 1e-8);
  EXPECT_EQ(number(token_kl(policy, policy)), 0);
}

TEST(TokenKl, FusedEqualsPlainAndIsNeverNegative) {
  for (const auto type : {at::kFloat, at::kDouble, at::kBFloat16})
    for (const int64_t vocabulary : {1, 33, 5003}) {
      const Case x = make_case(type, 3, 4, vocabulary, 5), y = make_case(type, 3, 4, vocabulary, 6);
      const at::Tensor kl = token_kl(x.logits, y.logits, x.mask);
      EXPECT_LT(distance(kl, plain::token_kl(x.logits, y.logits, x.mask)),
                type == at::kDouble ? 1e-12 : 2e-5);
      EXPECT_GE(number(kl.min()), 0);
      EXPECT_GE(number(token_kl(x.logits, x.logits + 1e-4).min()), 0);
      EXPECT_EQ(number(token_kl(x.logits, x.logits).abs().max()), 0);
      EXPECT_EQ(number(kl.masked_select(x.mask.logical_not()).abs().sum()), 0);
    }
}

TEST(GreedyTokens, StayWithinTheActionTokens) {
  const at::Tensor logits = at::tensor({9.0, 1.0, 3.0, 2.0, 8.0}).view({1, 1, 5});
  EXPECT_EQ(number(greedy_tokens(logits)), 0);
  EXPECT_EQ(number(greedy_tokens(logits, 1, 3)), 2);
  EXPECT_EQ(number(greedy_tokens(logits, 3, 4)), 4);
  EXPECT_THAT(message_of<RunError>([&] { greedy_tokens(logits, 1, 5); }), HasSubstr("1..5"));
}

// The kernels are a library of their own (libapo_cuda.so), loaded at the first launch.
TEST(RowKernels, OfCudaAreLoadedOrSaidToBeMissing) {
  const bool built = find_beside({"libapo_cuda.so", "../lib/libapo_cuda.so"}).has_value();
  if (built) {
    EXPECT_NO_THROW(launch_scores({}, nullptr));  // no rows: nothing is launched
    EXPECT_NO_THROW(launch_score_gradient({}, nullptr));
    EXPECT_NO_THROW(launch_kl({}, nullptr));
  }
  if (cuda_state().devices > 0) return;
  ScoreJob job;
  job.logits.count = 1;
  EXPECT_THAT(message_of<RunError>([&] { launch_scores(job, nullptr); }),
              HasSubstr(built ? "CUDA kernel scores did not start, or an earlier"
                              : "the CUDA kernels cannot be loaded"));
  EXPECT_EQ(cuda_kernels_are_there(), built);
}

// This program again, where the kernels beside it are those of another version.
TEST(RowKernels, OfAnotherVersionAreRefused) {
  namespace fs = std::filesystem;
  const fs::path build = own_file().parent_path().parent_path(), other = build / "other_module";
  if (build.filename() == "other_module") {
    EXPECT_THAT(message_of<RunError>([] { launch_kl({}, nullptr); }),
                AllOf(HasSubstr("expected the kernels of apo"), HasSubstr("found those of 0.0.9")));
    EXPECT_FALSE(cuda_kernels_are_there());
    return;
  }
  if (!fs::exists(other / "lib/libapo_cuda.so"))
    GTEST_SKIP() << "there are no such kernels beside this program";
  fs::create_directories(other / "bin");
  const fs::path copy = other / "bin" / own_file().filename();
  fs::copy_file(own_file(), copy, fs::copy_options::overwrite_existing);
  const std::string command = copy.string() + " --gtest_filter=RowKernels.OfAnotherVersionAreRefused";
  EXPECT_EQ(std::system((command + " >/dev/null 2>&1").c_str()), 0) << command;
}

TEST(RowKernels, OnCudaEqualThoseOnTheCpu) {
  if (cuda_state().devices == 0) GTEST_SKIP() << "no CUDA device: " << cuda_state().problem;
  for (const auto type : {at::kFloat, at::kDouble, at::kBFloat16})
    for (const int64_t vocabulary : {1, 31, 257, 9001})
      for (const double sigma : {0.0, 3.0}) {
        const Case x = make_case(type, 3, 5, vocabulary);
        const LabelSmoothing smoothing{sigma, vocabulary / 4, vocabulary - 1};
        const at::Tensor host = leaf(x.logits), device = leaf(x.logits.cuda());
        const at::Tensor on_host = token_log_probs(host, x.tokens, x.mask, smoothing);
        const at::Tensor on_device = token_log_probs(device, x.tokens.cuda(), x.mask.cuda(), smoothing);
        EXPECT_LT(distance(on_host, on_device.cpu()), type == at::kDouble ? 1e-11 : 2e-5);
        EXPECT_LT(distance(gradient_of(on_host, host, x.upstream),
                           gradient_of(on_device, device, x.upstream.cuda()).cpu()),
                  type == at::kBFloat16 ? 1.0 / 64 : 1e-5);
        EXPECT_LT(distance(token_kl(x.logits, x.logits.flip(0)),
                           token_kl(x.logits.cuda(), x.logits.flip(0).cuda()).cpu()),
                  1e-4);
      }
}

}  // namespace
}  // namespace apo::objective
