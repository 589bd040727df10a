#include "distributed/nccl.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <torch/types.h>

#include <chrono>

#include "apo/base/error.h"
#include "distributed/sums.h"
#include "support/message_of.h"
#include "support/ranks.h"
#include "support/shared_nccl.h"

namespace apo::distributed {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::message_of;
using testing::run_ranks;
using testing::SharedNccl;

// With the processes' tensors summed as those of GPUs are.
std::vector<int> run_nccl_ranks(int64_t size, const std::function<int(Group&)>& body,
                                const DistributedOptions& options = {.timeout_seconds = 60}) {
  return run_ranks(
      size,
      [&](Group& group) {
        testing::use_shared_nccl();
        if (options.backend == "auto") group.connect(at::kCPU);
        return body(group);
      },
      options);
}

TEST(Nccl, SumsGathersAndBroadcasts) {
  for (const int64_t size : {2, 3, 4}) {
    const SharedNccl nccl;
    const std::vector<int> codes = run_nccl_ranks(size, [](Group& group) {
      testing::expect_sums_and_rows(group);
      testing::expect_broadcasts_bit_for_bit(group);
      return 0;
    });
    EXPECT_THAT(codes, Each(0)) << size << " ranks";
    for (int rank = 0; rank < size; ++rank) {  // that it was not Gloo; 4 trials as they joined
      EXPECT_EQ(nccl.said(rank).calls, 4 + testing::kCallsOfSumsAndRows + testing::kCallsOfBroadcasts);
      EXPECT_EQ(nccl.said(rank).destroyed, 1);
      EXPECT_EQ(nccl.said(rank).aborted, 0);
    }
  }
}

TEST(Nccl, GlooIsOneOptionAway) {
  const SharedNccl nccl;
  const std::vector<int> codes = run_nccl_ranks(2,
                                                [](Group& group) {
                                                  group.connect(at::kCPU);
                                                  const at::Tensor ones = at::ones({3});
                                                  group.sum(ones);
                                                  EXPECT_TRUE(ones.eq(2).all().item<bool>());
                                                  return 0;
                                                },
                                                {.timeout_seconds = 60, .backend = "gloo"});
  EXPECT_THAT(codes, Each(0));
  EXPECT_EQ(nccl.said(0).calls, 0);
}

TEST(Nccl, WhereOneRankCannotJoinAllSumThroughTheHostAndSayWhy) {
  for (const char* backend : {"auto", "nccl"}) {
    SharedNccl nccl;
    nccl.refuse_on_rank = 1;
    const bool asked_for = std::string_view(backend) == "nccl";
    const std::vector<int> codes = run_ranks(
        3,
        [asked_for](Group& group) {
          testing::use_shared_nccl();
          ::testing::internal::CaptureStderr();
          std::string said = asked_for ? message_of<RunError>([&] { group.connect(at::kCPU); }) : "";
          if (!asked_for) group.connect(at::kCPU);
          said += ::testing::internal::GetCapturedStderr();
          const std::string reason = "rank 1: NCCL: invalid usage (two ranks on one device)";
          if (asked_for || group.is_first()) {
            EXPECT_THAT(said, AllOf(HasSubstr("distributed.backend"), HasSubstr(reason)));
          } else {
            EXPECT_EQ(said, "");
          }
          const at::Tensor ones = at::ones({3});
          group.sum(ones);
          EXPECT_TRUE(ones.eq(3).all().item<bool>());
          return 0;
        },
        {.timeout_seconds = 60, .backend = backend});
    EXPECT_THAT(codes, Each(0)) << backend;
    EXPECT_EQ(nccl.said(0).calls, 0) << "the others wait for it within NCCL";
  }
}

TEST(Nccl, WhereSomeHaveNoDeviceAllSumThroughTheHost) {
  const SharedNccl nccl;
  const std::vector<int> codes = run_ranks(3, [](Group& group) {
    if (group.rank() != 2) testing::use_shared_nccl();
    ::testing::internal::CaptureStderr();
    group.connect(at::kCPU);
    const std::string said = ::testing::internal::GetCapturedStderr();
    if (group.is_first()) {
      EXPECT_THAT(said, HasSubstr("rank 2: has no GPU"));
    }
    const at::Tensor ones = at::ones({3});
    group.sum(ones);
    EXPECT_TRUE(ones.eq(3).all().item<bool>());
    return 0;
  });
  EXPECT_THAT(codes, Each(0));
}

TEST(Nccl, ARankThatDiesWhileTheyJoinEndsTheOthersAtOnce) {
  const SharedNccl nccl;
  const auto begin = std::chrono::steady_clock::now();
  const std::vector<int> codes = run_ranks(3, [](Group& group) {
    testing::use_shared_nccl();
    if (group.rank() == 1) ::kill(::getpid(), SIGKILL);
    EXPECT_THAT(message_of<RunError>([&] { group.connect(at::kCPU); }), HasSubstr("another rank is gone"));
    return 4;
  });
  EXPECT_THAT(codes, ElementsAre(4, -SIGKILL, 4));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(30));
}

TEST(Nccl, ADeadRankEndsTheOthersAtOnce) {
  for (const int dying : {0, 2}) {
    const SharedNccl nccl;
    const auto begin = std::chrono::steady_clock::now();
    const std::vector<int> codes = run_nccl_ranks(3, [dying](Group& group) {
      const at::Tensor ones = at::ones({3});
      group.sum(ones);
      if (group.rank() == dying) ::kill(::getpid(), SIGKILL);
      EXPECT_THAT(message_of<RunError>([&] { group.sum(ones); }), HasSubstr("another rank is gone"));
      return 4;
    });
    for (int rank = 0; rank < 3; ++rank) {
      EXPECT_EQ(codes[static_cast<size_t>(rank)], rank == dying ? -SIGKILL : 4);
      EXPECT_EQ(nccl.said(rank).aborted, rank == dying ? 0 : 1) << "its device would wait for ever";
    }
    EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(30));  // of a time-out of 60
  }
}

TEST(Nccl, AFailureOnOneRankIsEverybodysWithItsReason) {
  SharedNccl nccl;
  const std::vector<int> codes = run_nccl_ranks(3, [&nccl](Group& group) {
    nccl.fail_on_rank = 1;
    const at::Tensor ones = at::ones({3});
    try {
      group.sum(ones);
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr("rank 1 of 3: NCCL: remote error"));
      if (group.rank() != 1) {
        EXPECT_THAT(error.what(), HasSubstr("ended because of rank 1"));
      }
      group.fail(error);
      return static_cast<int>(error.exit_code());
    }
    return 0;
  });
  EXPECT_THAT(codes, Each(4));
}

TEST(Nccl, ASilentDeviceEndsInTime) {
  const SharedNccl nccl;
  const auto body = [](Group& group) {
    if (group.is_first()) {
      EXPECT_THAT(message_of<RunError>([&] { group.sum(at::ones({3})); }),
                  HasSubstr("5 s (distributed.timeout_seconds)"));
      group.fail(RunError("over"));
      return 4;
    }
    // queues nothing, and answers all the same
    EXPECT_THAT(message_of<RunError>([&] {
                  while (true) group.barrier();
                }),
                HasSubstr("ended because of rank 0: over"));
    return 4;
  };
  EXPECT_THAT(run_nccl_ranks(2, body, {.timeout_seconds = 5}), ElementsAre(4, 4));
  EXPECT_EQ(nccl.said(0).aborted, 1);
}

// NCCL itself, where it is: its functions have the names that we look for, and no GPU is an error, no crash.
TEST(Nccl, TheLibraryItselfIsFoundOrMissed) {
  const NcclFunctions* functions = nullptr;
  try {
    functions = &nccl_functions();
  } catch (const RunError& error) {
    EXPECT_THAT(error.what(), HasSubstr("libnccl.so.2"));
    GTEST_SKIP() << error.what();
  }
  EXPECT_THAT(functions->get_error_string(5), HasSubstr("invalid usage"));
  if (at::hasCUDA()) GTEST_SKIP() << "a GPU is there";
  const CollectivesKind* kind = collectives_for(at::kCUDA);
  ASSERT_NE(kind, nullptr);
  EXPECT_THAT(message_of<RunError>([&] { kind->join(kind->name(), 0, 1, at::Device(at::kCPU)); }),
              HasSubstr("NCCL: "));
}

}  // namespace
}  // namespace apo::distributed
