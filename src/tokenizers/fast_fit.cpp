// How a FAST tokenizer is made of chunks, and written.
#include <algorithm>
#include <cmath>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "base/json.h"
#include "tokenizers/fast_state.h"

namespace apo::tokenizers {
namespace {

constexpr int64_t kRarestPair = 2;
constexpr int64_t kFirstSurrogate = 0xD800;

}  // namespace

FastTokenizer FastTokenizer::fit(std::span<const std::vector<double>> chunks, int64_t horizon,
                                 int64_t action_size, int64_t vocabulary, double scale) {
  APO_CHECK(DataError, !chunks.empty(), "FAST tokenizer: expected chunks to make it of, found none");
  APO_CHECK(ConfigError, scale > 0 && std::isfinite(scale), "FAST tokenizer: expected a scale > 0, found ",
            scale);
  std::vector<std::vector<int64_t>> all;
  int64_t smallest = INT64_MAX, largest = INT64_MIN;
  for (const std::vector<double>& chunk : chunks) {
    APO_CHECK(DataError, std::ssize(chunk) == horizon * action_size, "FAST tokenizer: expected chunks of ",
              horizon, " x ", action_size, " numbers, found ", chunk.size());
    all.push_back(rounded_coefficients(chunk, horizon, scale));
    const auto [low, high] = std::ranges::minmax(all.back());
    smallest = std::min(smallest, low), largest = std::max(largest, high);
  }
  const int64_t alphabet_size = largest - smallest + 1;
  APO_CHECK(ConfigError, alphabet_size <= std::min(vocabulary, kFirstSurrogate),
            "FAST tokenizer: coefficients reach from ", smallest, " to ", largest, ", which takes ",
            alphabet_size, " pieces; expected at most ", vocabulary,
            ". Take a larger vocabulary, a smaller scale, or look for outliers in the actions");
  const auto character = [smallest](int64_t coefficient) {
    return static_cast<char32_t>(coefficient - smallest);
  };
  std::vector<std::u32string> texts;
  for (const std::vector<int64_t>& coefficients : all) {
    std::u32string& text = texts.emplace_back();
    for (const int64_t coefficient : coefficients) text += character(coefficient);
  }
  std::u32string alphabet;
  for (int64_t coefficient = smallest; coefficient <= largest; ++coefficient)
    alphabet += character(coefficient);
  return FastTokenizer(std::make_shared<const State>(
      State{.config = {.scale = scale, .min_token = smallest, .horizon = horizon, .action_size = action_size},
            .bpe = train_byte_bpe(texts, alphabet, vocabulary, kRarestPair)}));
}

void FastTokenizer::write(const std::filesystem::path& directory) const {
  using nlohmann::ordered_json;
  const auto extent = [](int64_t size) { return size > 0 ? ordered_json(size) : ordered_json(nullptr); };
  state_->bpe.write(directory / "tokenizer.json");
  write_json(directory / "processor_config.json",
             {{"action_dim", extent(config().action_size)},
              {"auto_map", {{"AutoProcessor", "processing_action_tokenizer.UniversalActionProcessor"}}},
              {"min_token", config().min_token},
              {"processor_class", "UniversalActionProcessor"},
              {"scale", config().scale},
              {"time_horizon", extent(config().horizon)},
              {"vocab_size", size()}});
  write_json(directory / "tokenizer_config.json",
             {{"clean_up_tokenization_spaces", false}, {"tokenizer_class", "PreTrainedTokenizerFast"}});
  write_json(directory / "special_tokens_map.json", ordered_json::object());
}

}  // namespace apo::tokenizers
