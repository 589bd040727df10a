#include "apo/distributed/group.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <torch/types.h>

#include <chrono>
#include <thread>

#include "apo/base/error.h"
#include "distributed/sums.h"
#include "support/message_of.h"
#include "support/ranks.h"

namespace apo::distributed {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::message_of;
using testing::run_ranks;

double seconds_of(const std::function<void()>& body) {
  const auto begin = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

TEST(Group, OfOneDoesNothing) {
  const Group group;
  EXPECT_TRUE(group.is_alone() && group.is_first());
  at::Tensor tensor = at::arange(4);
  group.sum(tensor);
  group.sum(std::vector<at::Tensor>{tensor});
  group.broadcast({tensor}, 0);
  EXPECT_TRUE(at::equal(tensor, at::arange(4)));
  EXPECT_TRUE(at::equal(group.gather_rows(tensor, 0, 4), tensor));
  EXPECT_FALSE(group.any(false));
  EXPECT_TRUE(group.any(true));
  EXPECT_THAT(group.gather("mine"), ElementsAre("mine"));
  group.wait_for_first();
}

TEST(Group, SumsGathersAndAgrees) {
  for (const int64_t size : {2, 3, 4}) {
    const std::vector<int> codes = run_ranks(size, [size](Group& group) {
      const int64_t rank = group.rank();
      testing::expect_sums_and_rows(group);
      EXPECT_TRUE(group.any(rank == size - 1));
      EXPECT_FALSE(group.any(false));
      const auto texts = group.gather(std::string(static_cast<size_t>(rank), 'x'));
      for (size_t r = 0; r < texts.size(); ++r) EXPECT_EQ(texts[r], std::string(r, 'x'));
      EXPECT_EQ(group.from_first(concat("of rank ", rank)), "of rank 0");
      return 0;
    });
    EXPECT_THAT(codes, Each(0)) << size << " ranks";
  }
}

TEST(Group, BroadcastsBitForBit) {
  EXPECT_THAT(run_ranks(3,
                        [](Group& group) {
                          testing::expect_broadcasts_bit_for_bit(group);
                          return 0;
                        }),
              Each(0));
}

TEST(Group, WaitsForTheFirstBeyondTheTimeOut) {
  const std::vector<int> codes = run_ranks(2,
                                           [](Group& group) {
                                             if (group.is_first())
                                               std::this_thread::sleep_for(std::chrono::seconds(4));
                                             group.wait_for_first();
                                             return 0;
                                           },
                                           {.timeout_seconds = 2});
  EXPECT_THAT(codes, ElementsAre(0, 0));
}

TEST(Group, AFailureOfOneIsEverybodysWithItsReason) {
  for (const int64_t failing : {0, 2}) {
    const std::vector<int> codes = run_ranks(3, [failing](Group& group) {
      if (group.rank() == failing) {
        group.barrier();  // all have found each other: whom it reaches before that learns it as it joins
        group.fail(DataError("demo_3: no picture"));
        return 3;
      }
      try {
        while (true) group.barrier();
      } catch (const Error& error) {
        group.fail(error);
        EXPECT_THAT(error.what(), AllOf(HasSubstr(concat("ended because of rank ", failing)),
                                        HasSubstr("demo_3: no picture")));
        return static_cast<int>(error.exit_code());
      }
    });
    EXPECT_THAT(codes, Each(3));
  }
}

// Whoever writes to a rank that has just gone gets this signal, now and then; by default it ends the process.
TEST(Group, IsNotEndedByABrokenPipe) {
  EXPECT_THAT(run_ranks(2,
                        [](Group&) {
                          ::raise(SIGPIPE);
                          return 0;
                        }),
              Each(0));
  static volatile sig_atomic_t handled = 0;
  const auto before = ::signal(SIGPIPE, [](int) { handled = handled + 1; });
  EXPECT_THAT(run_ranks(2,
                        [](Group&) {
                          ::raise(SIGPIPE);
                          return static_cast<int>(handled);
                        }),
              Each(1))
      << "who handles it keeps doing so";
  ::signal(SIGPIPE, before);
}

TEST(Group, ADeadRankEndsTheOthersAtOnceAndASilentOneInTime) {
  for (const int64_t dying : {0, 1}) {
    const double seconds = seconds_of([dying] {
      const std::vector<int> codes = run_ranks(2, [dying](Group& group) {
        if (group.rank() == dying) ::kill(::getpid(), SIGKILL);
        EXPECT_THAT(message_of<RunError>([&] {
                      while (true) group.barrier();
                    }),
                    HasSubstr("another rank is gone"));
        return 4;
      });
      EXPECT_THAT(codes, dying == 0 ? ElementsAre(-SIGKILL, 4) : ElementsAre(4, -SIGKILL));
    });
    EXPECT_LT(seconds, 50);  // of a time-out of 60
  }
  const std::vector<int> codes = run_ranks(2,
                                           [](Group& group) {
                                             if (group.is_first()) {
                                               std::this_thread::sleep_for(std::chrono::seconds(6));
                                               return 4;
                                             }
                                             EXPECT_THAT(message_of<RunError>([&] { group.barrier(); }),
                                                         HasSubstr("distributed.timeout_seconds"));
                                             return 4;
                                           },
                                           {.timeout_seconds = 2});
  EXPECT_THAT(codes, ElementsAre(4, 4));
}

TEST(Group, APortThatIsTakenIsOneSentence) {
  const testing::ListeningPort port;
  const Place first = {.rank = 0, .size = 2, .address = "127.0.0.1", .port = port.number()};
  EXPECT_THAT(
      message_of<RunError>([&] { Group(first, {.timeout_seconds = 2}); }),
      AllOf(HasSubstr("MASTER_PORT"), HasSubstr(concat("port ", port.number())), HasSubstr("is taken")));
  // whoever listens there is no rank 0, and does not answer
  const Place second = {.rank = 1, .size = 2, .address = "127.0.0.1", .port = port.number()};
  const double seconds = seconds_of([&] {
    EXPECT_THAT(message_of<RunError>([&] { Group(second, {.timeout_seconds = 2}); }),
                AllOf(HasSubstr("rank 1 of 2"), HasSubstr("MASTER_ADDR")));
  });
  EXPECT_LT(seconds, 30);
}

TEST(Group, ARankThatDoesNotComeIsNamed) {
  const Place first = {.rank = 0, .size = 2, .address = "127.0.0.1", .port = testing::free_port()};
  EXPECT_THAT(message_of<RunError>([&] { Group(first, {.timeout_seconds = 2}); }),
              AllOf(HasSubstr("found none of rank 1"), HasSubstr("2 s (distributed.timeout_seconds)")));
}

}  // namespace
}  // namespace apo::distributed
