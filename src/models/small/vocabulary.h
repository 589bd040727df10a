// Words as token ids: the vocabulary of a policy that reads nothing but its own data's instructions.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace apo::models {

/// Lower-case words of a text; everything but letters, digits and bytes beyond ASCII separates.
std::vector<std::string> split_words(std::string_view text);

class Vocabulary {
 public:
  static constexpr int64_t kPadding = 0, kUnknown = 1;

  /// All words of the texts, sorted, after "<pad>" and "<unk>".
  static Vocabulary from_texts(const std::vector<std::string>& texts);
  /// From a checkpoint's list; DataError naming `where` unless it begins with "<pad>", "<unk>" and has no
  /// duplicates.
  Vocabulary(std::vector<std::string> words, const std::string& where);

  int64_t size() const { return static_cast<int64_t>(words_.size()); }
  const std::vector<std::string>& words() const { return words_; }
  /// At least one id: a text without words is one unknown word. A warning names each unknown word once.
  std::vector<int64_t> encode(std::string_view text) const;

 private:
  struct Warned;
  std::vector<std::string> words_;
  std::map<std::string, int64_t> ids_;
  std::shared_ptr<Warned> warned_;
};

}  // namespace apo::models
