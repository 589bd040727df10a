// Comparisons as Markdown.
#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <utility>

#include "apo/base/error.h"
#include "apo/base/proportions.h"
#include "apo/loop/comparison.h"
#include "results/table.h"

namespace apo::loop {
namespace {

using results::corrected;
using results::corrected_for;

// What is counted of a result, trial by trial or episode by episode.
using Bits = std::function<std::vector<bool>(const MethodResult&)>;

std::vector<bool> success(const MethodResult& result) { return result.success; }
std::vector<bool> unaided(const MethodResult& result) { return result.unaided; }
Bits for_reason(const std::string& reason) {
  return [reason](const MethodResult& result) { return corrected_for(result, reason); };
}

int64_t count(const std::vector<bool>& bits) { return std::count(bits.begin(), bits.end(), true); }

// One method after one round in all loops.
using Row = std::vector<const MethodResult*>;

// What is one observation. Trials have the same seeds in all loops: a seed's outcomes are alike, and make one
// cluster. Each loop's deployments have their own seeds: every episode counts.
enum class Units { seeds, episodes };

// Wilson's interval depends on z² / n alone: z √deff is the interval of the effective sample n / deff.
Rate pooled(const Row& row, const Bits& bits, Units units) {
  std::vector<std::vector<bool>> outcomes;
  int64_t n = 0, total = 0;
  for (const MethodResult* result : row) {
    outcomes.push_back(bits(*result));
    n += count(outcomes.back());
    total += std::ssize(outcomes.back());
  }
  const double effect = units == Units::seeds ? design_effect(outcomes) : 1;
  return wilson(n, total, kQuantile95 * std::sqrt(effect));
}

std::string rate_cell(const Row& row, const Bits& bits, Units units) {
  const Rate rate = pooled(row, bits, units);
  return concat(results::fixed(rate.rate, 3), " [", results::fixed(rate.low, 2), ", ",
                results::fixed(rate.high, 2), "]");
}

std::string loops_cell(const Row& row, const Bits& bits) {
  std::string text;
  for (const MethodResult* result : row)
    append_item(text, " / ", results::fixed(pooled({result}, bits, Units::episodes).rate, 2));
  return text;
}

// A unit counts once, for whichever of the two did it in more loops.
PairedTest pooled_test(const Row& row, const Row& other, const Bits& bits, Units units) {
  std::vector<int64_t> balance;  // by unit: how much more often the first did it
  int64_t sum = 0, pairs = 0;
  for (size_t loop = 0; loop < row.size(); ++loop) {
    const std::vector<bool> first = bits(*row[loop]), second = bits(*other[loop]);
    const size_t begin = units == Units::seeds ? 0 : balance.size(),
                 n = std::min(first.size(), second.size());
    balance.resize(begin + n);
    for (size_t i = 0; i < n; ++i) {
      const int64_t more = int64_t{first[i]} - int64_t{second[i]};
      balance[begin + i] += more;
      sum += more;
    }
    pairs += static_cast<int64_t>(n);
  }
  PairedTest test;
  test.pairs = pairs;
  test.only_first = std::count_if(balance.begin(), balance.end(), [](int64_t b) { return b > 0; });
  test.only_second = std::count_if(balance.begin(), balance.end(), [](int64_t b) { return b < 0; });
  if (pairs > 0) test.difference = static_cast<double>(sum) / static_cast<double>(pairs);
  test.p = mcnemar_exact(test.only_first, test.only_second);
  return test;
}

// "+25.3, p < 0.001"
std::string test_cell(const Row& row, const Row& other, const Bits& bits, Units units) {
  if (row.front()->method == other.front()->method) return "–";
  const PairedTest test = pooled_test(row, other, bits, units);
  return concat(test.difference >= 0 ? "+" : "−", results::fixed(std::abs(100 * test.difference), 1), ", ",
                p_text(test.p));
}

// Of the trials in which the base succeeded (or did not), the share in which this one does. "–" for the base
// itself.
std::string among_cell(const Row& row, const Row* base, bool base_succeeded) {
  if (base == nullptr || row.front()->method == base->front()->method) return "–";
  int64_t successes = 0, total = 0;
  for (size_t loop = 0; loop < row.size(); ++loop) {
    const std::vector<bool>&now = row[loop]->success, &before = (*base)[loop]->success;
    for (size_t i = 0; i < std::min(now.size(), before.size()); ++i)
      if (before[i] == base_succeeded) ++total, successes += now[i] ? 1 : 0;
  }
  return total == 0 ? "–" : results::fixed(static_cast<double>(successes) / static_cast<double>(total), 2);
}

// "+2.8 [−8.5, 14.0]": the difference in success, bases as the units.
std::string over_bases_cell(const Row& row, const Row& other) {
  if (row.front()->method == other.front()->method) return "–";
  std::vector<double> differences;
  for (size_t loop = 0; loop < row.size(); ++loop)
    differences.push_back(100 * paired_test(row[loop]->success, other[loop]->success).difference);
  const auto points = [](double value) {
    return concat(value < 0 ? "−" : "", results::fixed(std::min(100.0, std::abs(value)), 1));
  };
  const MeanOverBases over = mean_over_bases(differences);
  return concat(over.mean < 0 ? "" : "+", points(over.mean), " [", points(over.low), ", ", points(over.high),
                "]");
}

// All loops as one: rows by round and method, checked to belong together.
class Merged {
 public:
  Merged(std::span<const Comparison> loops, std::span<const std::string> names)
      : against_(loops[0].against), take_overs_(loops[0].take_overs) {
    for (size_t i = 0; i < loops.size(); ++i) {
      check_alike(loops[0], loops[i], names[0], names[i]);
      for (const MethodResult& result : loops[i].results) add(result);
    }
  }

  std::string markdown() const {
    std::string out;
    int64_t last = 0;
    for (const auto& [key, row] : rows_)
      if (std::exchange(last, key.first) != key.first) out += section(key.first);
    return out;
  }

 private:
  using Key = std::pair<int64_t, size_t>;  // round, place of the method

  void add(const MethodResult& result) {
    auto place = std::find(methods_.begin(), methods_.end(), result.method);
    if (place == methods_.end()) place = methods_.insert(place, result.method);
    rows_[{result.round, static_cast<size_t>(place - methods_.begin())}].push_back(&result);
  }

  static void check_alike(const Comparison& first, const Comparison& other, const std::string& first_name,
                          const std::string& name) {
    const auto describe = [](const Comparison& loop) {
      std::string text = concat("eval.seed ", loop.eval_seed);
      for (const MethodResult& r : loop.results) {
        text += concat("; ", r.method, " after round ", r.round, " with ", r.success.size(), " trials and ");
        text += loop.take_overs > 0 ? concat(loop.take_overs, " take-overs")
                                    : concat(r.take_overs.size(), " episodes");
      }
      return text;
    };
    const std::string expected = describe(first), found = describe(other);
    APO_CHECK(DataError, expected == found, name,
              ": expected the same methods, rounds, trials and episodes as in ", first_name, " (", expected,
              "), found ", found);
  }

  // Reasons for taking over, the base's most frequent first.
  std::vector<std::string> reasons(int64_t round) const {
    std::map<std::string, int64_t> all, of_base;
    for (const auto& [key, row] : rows_) {
      if (key.first != round) continue;
      for (const MethodResult* result : row)
        for (const auto& episode : result->take_overs)
          for (const std::string& reason : episode) {
            ++all[reason];
            if (result->method == "base") ++of_base[reason];
          }
    }
    std::vector<std::string> sorted;
    for (const auto& [reason, n] : all) sorted.push_back(reason);
    std::stable_sort(sorted.begin(), sorted.end(),
                     [&](const std::string& a, const std::string& b) { return of_base[a] > of_base[b]; });
    return sorted;
  }

  const Row* row_of(const std::string& method, int64_t round) const {
    const auto place = std::find(methods_.begin(), methods_.end(), method);
    const auto row = rows_.find({round, static_cast<size_t>(place - methods_.begin())});
    return row != rows_.end() ? &row->second : nullptr;
  }

  std::vector<std::pair<std::string, const Row*>> opponents(int64_t round) const {
    std::vector<std::pair<std::string, const Row*>> found;
    for (const std::string& name : against_)
      if (const Row* row = row_of(name, round)) found.emplace_back(name, row);
    return found;
  }

  std::string section(int64_t round) const {
    const auto others = opponents(round);
    const Row* base = row_of("base", round);
    const std::vector<std::string> kinds = reasons(round);
    results::TableRows trials = {{"method", "success", "each base", "unaided", "kept", "learned"}};
    results::TableRows episodes = {{"method", "episodes with a take-over", "each base"}};
    for (const auto& [name, row] : others) {
      trials[0].push_back(concat("success against ", results::escaped(name)));
      if (row->size() > 1) trials[0].push_back(concat("against ", results::escaped(name), ", over bases"));
    }
    for (const std::string& kind : kinds) episodes[0].push_back(results::escaped(kind));
    for (const char* column : {"lost", "episodes", "take-overs", "human steps"})
      episodes[0].emplace_back(column);
    for (const auto& [name, row] : others) {
      episodes[0].push_back(concat("take-overs against ", results::escaped(name)));
      if (!kinds.empty())
        episodes[0].push_back(concat(results::escaped(kinds[0]), " against ", results::escaped(name)));
    }
    size_t num_loops = 0, num_trials = 0, num_episodes = 0;
    for (const auto& [key, row] : rows_) {
      if (key.first != round) continue;
      num_loops = row.size(), num_trials = row[0]->success.size(), num_episodes = row[0]->take_overs.size();
      trials.push_back(trial_row(row, base, others));
      episodes.push_back(episode_row(row, kinds, others));
    }
    return concat("## After ", round, round == 1 ? " round" : " rounds", "\n\n", num_loops,
                  num_loops == 1 ? " base" : " freshly trained bases", ", ", num_trials,
                  " trials of each policy.\n\n", results::markdown_table(trials), "\nThe next deployment: ",
                  take_overs_ > 0 ? concat(take_overs_, " take-overs") : concat(num_episodes, " episodes"),
                  " of each policy under the human's eyes",
                  take_overs_ > 0 ? ", or as many episodes as allowed" : "", ".\n\n",
                  results::markdown_table(episodes), "\n");
  }

  static std::vector<std::string> trial_row(const Row& row, const Row* base,
                                            const std::vector<std::pair<std::string, const Row*>>& others) {
    std::vector<std::string> cells = {results::escaped(row[0]->method), rate_cell(row, success, Units::seeds),
                                      loops_cell(row, success),         rate_cell(row, unaided, Units::seeds),
                                      among_cell(row, base, true),      among_cell(row, base, false)};
    for (const auto& [name, other] : others) {
      cells.push_back(test_cell(row, *other, success, Units::seeds));
      if (row.size() > 1) cells.push_back(over_bases_cell(row, *other));
    }
    return cells;
  }

  static std::vector<std::string> episode_row(const Row& row, const std::vector<std::string>& kinds,
                                              const std::vector<std::pair<std::string, const Row*>>& others) {
    std::vector<std::string> cells = {results::escaped(row[0]->method),
                                      rate_cell(row, corrected, Units::episodes), loops_cell(row, corrected)};
    for (const std::string& kind : kinds) cells.push_back(rate_cell(row, for_reason(kind), Units::episodes));
    int64_t lost = 0, total = 0;
    for (const MethodResult* result : row) lost += result->lost, total += std::ssize(result->take_overs);
    cells.push_back(
        results::fixed(total > 0 ? static_cast<double>(lost) / static_cast<double>(total) : 0, 3));
    cells.push_back(concat(total));
    add_human(row, cells);
    for (const auto& [name, other] : others) {
      cells.push_back(test_cell(row, *other, corrected, Units::episodes));
      if (!kinds.empty()) cells.push_back(test_cell(row, *other, for_reason(kinds[0]), Units::episodes));
    }
    return cells;
  }

  // What the human did in all loops: take-overs and steps.
  static void add_human(const Row& row, std::vector<std::string>& cells) {
    int64_t take_overs = 0, steps = 0;
    bool known = true;
    for (const MethodResult* result : row) {
      for (const auto& reasons : result->take_overs) take_overs += std::ssize(reasons);
      known = known && result->human_steps.has_value();
      steps += result->human_steps.value_or(0);
    }
    cells.push_back(concat(take_overs));
    cells.push_back(known ? concat(steps) : "–");
  }

  std::vector<std::string> against_, methods_;
  int64_t take_overs_ = 0;
  std::map<Key, Row> rows_;
};

const char* const kOneLoop =
    "Success and take-overs are shares of all trials or episodes, with Wilson's 95 % interval. Kept and "
    "learned: the share "
    "of successes among the trials that the base masters, and among the others. "
    "Differences are in points (hundredths), with the two-sided p of McNemar's exact test over the "
    "common seeds, not corrected for the number of tests.\n";
const char* const kSeveralLoops =
    "Success and take-overs are shares of all trials or episodes, with Wilson's 95 % interval. Kept and "
    "learned: the share "
    "of successes among the trials that the base masters, and among the others. All "
    "bases are tried on the same seeds, so the intervals of success are as wide as the effective "
    "number of trials makes them (Kish's design effect, from how alike the bases' outcomes on a seed "
    "are); they leave out the spread between bases. Differences are in points (hundredths), with the "
    "two-sided p of McNemar's exact test over the common seeds, not corrected for the number of tests. "
    "In the test of success each seed counts once, for the method that succeeded there with more of "
    "the bases; where both did with as many, it does not count. Over bases: the mean of the bases' "
    "differences "
    "with Student's 95 % interval, which alone says what to expect of another base.\n";

}  // namespace

std::string comparison_markdown(std::span<const Comparison> loops, std::span<const std::string> names) {
  APO_ASSERT(!loops.empty() && loops.size() == names.size());
  return concat(Merged(loops, names).markdown(), loops.size() == 1 ? kOneLoop : kSeveralLoops);
}

}  // namespace apo::loop
