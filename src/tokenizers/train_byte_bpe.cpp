#include <algorithm>
#include <map>
#include <queue>
#include <set>

#include "apo/base/error.h"
#include "tokenizers/byte_bpe.h"
#include "tokenizers/utf8.h"

namespace apo::tokenizers {
namespace {

using Pair = std::pair<int64_t, int64_t>;

struct Word {
  std::vector<int64_t> symbols;
  int64_t count = 0;
};

// A pair that may become a piece, and the words in which it was seen.
struct Candidate {
  Pair pair;
  int64_t count = 0;
  std::set<size_t> words;
  // the last one comes first out of a queue
  bool operator<(const Candidate& other) const {
    return count != other.count ? count < other.count : pair > other.pair;
  }
};

// Joins every `pair` of a word, from its begin on, and tells how many more there are of the pairs beside it.
template <class Tell>
void join_in(Word& word, const Pair& pair, int64_t joined, Tell tell) {
  std::vector<int64_t>& symbols = word.symbols;
  for (size_t i = 0; i + 1 < symbols.size(); ++i) {
    if (symbols[i] != pair.first || symbols[i + 1] != pair.second) continue;
    if (i > 0) {
      tell(Pair{symbols[i - 1], pair.first}, -1);
      tell(Pair{symbols[i - 1], joined}, 1);
    }
    symbols[i] = joined;
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(i) + 1);
    if (i + 1 < symbols.size()) {
      tell(Pair{pair.second, symbols[i + 1]}, -1);
      tell(Pair{joined, symbols[i + 1]}, 1);
    }
  }
}

class Trainer {
 public:
  Trainer(const std::vector<std::u32string>& texts, const std::u32string& alphabet) {
    std::map<std::u32string, int64_t> counts;  // by the characters that stand for a word's bytes
    std::set<char32_t> characters(alphabet.begin(), alphabet.end());
    for (const std::u32string& text : texts)
      for (const auto& [begin, end] : split_words_as_gpt2(text)) {
        std::string bytes;
        for (size_t i = begin; i < end; ++i) append_utf8(bytes, text[i]);
        std::u32string word;
        for (const char byte : bytes) word += character_of_byte(static_cast<unsigned char>(byte));
        characters.insert(word.begin(), word.end());
        ++counts[word];
      }
    std::map<char32_t, int64_t> ids;
    for (const char32_t character : characters) {
      ids[character] = std::ssize(pieces_);
      std::string piece;
      append_utf8(piece, character);
      id_of(piece);
    }
    for (const auto& [text, count] : counts) {
      Word& word = words_.emplace_back();
      word.count = count;
      for (const char32_t character : text) word.symbols.push_back(ids.at(character));
    }
  }

  ByteBpe run(int64_t size, int64_t min_count) {
    for (size_t w = 0; w < words_.size(); ++w)
      for (size_t i = 0; i + 1 < words_[w].symbols.size(); ++i)
        count({words_[w].symbols[i], words_[w].symbols[i + 1]}, words_[w].count, w);
    queue_what_grew();
    while (std::ssize(pieces_) < size && !queue_.empty()) {
      Candidate best = queue_.top();
      queue_.pop();
      if (best.count != counts_[best.pair]) {  // has changed since
        best.count = counts_[best.pair];
        queue_.push(std::move(best));
        continue;
      }
      if (best.count < std::max<int64_t>(min_count, 1)) break;
      const auto [left, right] = best.pair;
      const int64_t joined = id_of(pieces_[static_cast<size_t>(left)] + pieces_[static_cast<size_t>(right)]);
      merges_.push_back(best.pair);
      for (const size_t w : best.words)
        join_in(words_[w], best.pair, joined,
                [&](const Pair& pair, int64_t change) { count(pair, change * words_[w].count, w); });
      queue_what_grew();
    }
    return {std::move(pieces_), std::move(merges_)};
  }

 private:
  int64_t id_of(const std::string& piece) {
    const auto [place, is_new] = ids_.try_emplace(piece, std::ssize(pieces_));
    if (is_new) pieces_.push_back(piece);
    return place->second;
  }

  void count(const Pair& pair, int64_t change, size_t word) {
    counts_[pair] += change;
    if (change > 0) grown_[pair].insert(word);
  }

  void queue_what_grew() {
    for (auto& [pair, words] : grown_)
      if (counts_[pair] > 0) queue_.push({pair, counts_[pair], std::move(words)});
    grown_.clear();
  }

  std::vector<Word> words_;
  std::vector<std::string> pieces_;
  std::unordered_map<std::string, int64_t> ids_;
  std::vector<Pair> merges_;
  std::map<Pair, int64_t> counts_;
  std::map<Pair, std::set<size_t>> grown_;
  std::priority_queue<Candidate> queue_;
};

}  // namespace

ByteBpe train_byte_bpe(const std::vector<std::u32string>& texts, const std::u32string& alphabet, int64_t size,
                       int64_t min_count) {
  return Trainer(texts, alphabet).run(size, min_count);
}

}  // namespace apo::tokenizers
