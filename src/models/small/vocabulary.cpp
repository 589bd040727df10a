#include "models/small/vocabulary.h"

#include <cctype>
#include <mutex>
#include <set>

#include "apo/base/error.h"
#include "apo/base/log.h"

namespace apo::models {

struct Vocabulary::Warned {
  std::mutex mutex;
  std::set<std::string> words;
};

std::vector<std::string> split_words(std::string_view text) {
  std::vector<std::string> words;
  bool inside = false;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool letter = byte >= 0x80 || std::isalnum(byte);
    if (letter && !inside) words.emplace_back();
    if (letter) words.back() += static_cast<char>(byte < 0x80 ? std::tolower(byte) : byte);
    inside = letter;
  }
  return words;
}

Vocabulary Vocabulary::from_texts(const std::vector<std::string>& texts) {
  std::set<std::string> distinct;
  for (const std::string& text : texts)
    for (const std::string& word : split_words(text)) distinct.insert(word);
  std::vector<std::string> words{"<pad>", "<unk>"};
  words.insert(words.end(), distinct.begin(), distinct.end());
  return Vocabulary(std::move(words), "vocabulary");
}

Vocabulary::Vocabulary(std::vector<std::string> words, const std::string& where)
    : words_(std::move(words)), warned_(std::make_shared<Warned>()) {
  APO_CHECK(DataError, words_.size() >= 2 && words_[0] == "<pad>" && words_[1] == "<unk>", where,
            ": expected a list of words that begins with \"<pad>\", \"<unk>\", found ", words_.size(),
            " words", words_.empty() ? "" : " beginning with \"" + words_[0] + "\"");
  for (size_t i = 0; i < words_.size(); ++i)
    APO_CHECK(DataError, ids_.emplace(words_[i], static_cast<int64_t>(i)).second, where, ": the word \"",
              words_[i], "\" is there twice");
}

std::vector<int64_t> Vocabulary::encode(std::string_view text) const {
  std::vector<int64_t> ids;
  for (const std::string& word : split_words(text)) {
    const auto found = ids_.find(word);
    ids.push_back(found == ids_.end() ? kUnknown : found->second);
    if (found != ids_.end()) continue;
    const std::lock_guard lock(warned_->mutex);
    if (warned_->words.size() < 100 && warned_->words.insert(word).second)
      log_warn("the policy does not know the word \"", word, "\" of the instruction \"", text, "\"");
  }
  if (ids.empty()) ids.push_back(kUnknown);
  return ids;
}

}  // namespace apo::models
