#include <algorithm>
#include <map>
#include <numeric>
#include <optional>

#include "apo/base/error.h"
#include "tokenizers/fast_state.h"
#include "tokenizers/utf8.h"

namespace apo::tokenizers {
namespace {

struct Outcome {
  Utf8Pending pending;
  int64_t characters = 0;
};

// Behind the bytes of a piece; nothing if they are no UTF-8 there, or stand for what cannot be read.
std::optional<Outcome> read_piece(Utf8Pending pending, const std::string& bytes) {
  Outcome outcome{pending};
  for (const char byte : bytes) {
    char32_t character = 0;
    switch (take_byte(outcome.pending, static_cast<unsigned char>(byte), character)) {
      case Utf8Step::invalid:
        return std::nullopt;
      case Utf8Step::pending:
        break;
      case Utf8Step::whole:
        if (character == kReplacementCharacter) return std::nullopt;
        ++outcome.characters;
    }
  }
  return outcome;
}

}  // namespace

// States are found from the first one on; an answer's end is reached from where a code leads to it. Codes
// that complete no character lead to more pending bytes, so that states with more of them are looked at
// first.
FastGrammar::FastGrammar(const FastTokenizer& tokenizer, int64_t coefficients) : coefficients_(coefficients) {
  APO_ASSERT(coefficients >= 1);
  const ByteBpe& bpe = tokenizer.state_->bpe;
  std::vector<Utf8Pending> states{{}};
  const auto number_of = [&states](const Utf8Pending& pending) {
    const auto found = std::ranges::find(states, pending);
    if (found != states.end()) return found - states.begin();
    states.push_back(pending);
    return std::ssize(states) - 1;
  };
  for (size_t s = 0; s < states.size(); ++s) {
    steps_.emplace_back(static_cast<size_t>(bpe.size()));
    for (int64_t code = 0; code < bpe.size(); ++code) {
      if (bpe.bytes(code).empty()) continue;
      if (const auto outcome = read_piece(states[s], bpe.bytes(code)))
        steps_[s][static_cast<size_t>(code)] = {number_of(outcome->pending), outcome->characters};
    }
  }

  std::vector<size_t> order(states.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, [&states](size_t a, size_t b) { return states[a].size > states[b].size; });
  // the steps of a state without their codes
  std::vector<std::vector<Step>> kinds(states.size());
  for (size_t s = 0; s < states.size(); ++s)
    for (const Step& step : steps_[s]) {
      const auto same = [&step](const Step& other) {
        return other.state == step.state && other.characters == step.characters;
      };
      if (step.state >= 0 && std::ranges::none_of(kinds[s], same)) kinds[s].push_back(step);
    }
  ends_.assign(states.size(), std::vector<bool>(static_cast<size_t>(coefficients) + 1));
  for (int64_t remaining = 0; remaining <= coefficients; ++remaining)
    for (const size_t s : order)
      ends_[s][static_cast<size_t>(remaining)] =
          (s == 0 && remaining == 0) || std::ranges::any_of(kinds[s], [&](const Step& step) {
            return step.characters <= remaining && reaches_end(step.state, remaining - step.characters);
          });
  APO_CHECK(ConfigError, reaches_end(0, coefficients), "FAST tokenizer: no sequence of its ", bpe.size(),
            " codes makes ", coefficients, " coefficients");
}

std::vector<int64_t> FastGrammar::allowed(const Place& place) const {
  std::vector<int64_t> codes;
  const std::vector<Step>& steps = steps_[static_cast<size_t>(place.state)];
  for (size_t code = 0; code < steps.size(); ++code)
    if (steps[code].state >= 0 && steps[code].characters <= place.remaining &&
        reaches_end(steps[code].state, place.remaining - steps[code].characters))
      codes.push_back(static_cast<int64_t>(code));
  return codes;
}

FastGrammar::Place FastGrammar::after(const Place& place, int64_t code) const {
  const Step& step = steps_[static_cast<size_t>(place.state)].at(static_cast<size_t>(code));
  APO_ASSERT(step.state >= 0 && step.characters <= place.remaining);
  return {step.state, place.remaining - step.characters};
}

}  // namespace apo::tokenizers
