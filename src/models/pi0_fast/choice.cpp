#include "models/pi0_fast/choice.h"

#include <torch/types.h>

#include <limits>
#include <memory>
#include <vector>

namespace apo::models {
namespace {

using tokenizers::FastCodec;
using tokenizers::FastGrammar;

enum class Part { prefix, codes, end, behind };

// Where one answer stands.
struct Row {
  Part part = Part::prefix;
  size_t t = 0;
  FastGrammar::Place place = {};
};

class Chooser {
 public:
  Chooser(const FastCodec& codec, const FastGrammar* valid, TokenChooser choose)
      : codec_(codec), valid_(valid), choose_(std::move(choose)) {}

  at::Tensor operator()(const at::Tensor& logits) {
    if (rows_.empty()) {
      rows_.resize(static_cast<size_t>(logits.size(0)));
      for (Row& row : rows_) {
        if (valid_ != nullptr) row.place = valid_->start();
        skip_empty_prefix(row);
      }
    }
    at::Tensor allowed = at::zeros(logits.sizes(), at::kBool);
    for (size_t i = 0; i < rows_.size(); ++i) allow(rows_[i], allowed[static_cast<int64_t>(i)]);
    const at::Tensor chosen = choose_(logits.masked_fill(allowed.to(logits.device()).logical_not(),
                                                         -std::numeric_limits<double>::infinity()));
    const at::Tensor here = chosen.to(at::kCPU);
    for (size_t i = 0; i < rows_.size(); ++i) go_on(rows_[i], here.const_data_ptr<int64_t>()[i]);
    return chosen;
  }

 private:
  void skip_empty_prefix(Row& row) const {
    if (row.part == Part::prefix && row.t == codec_.answer().prefix.size()) row.part = Part::codes;
  }

  void allow(const Row& row, const at::Tensor& allowed) const {
    const tokenizers::FastAnswer& answer = codec_.answer();
    bool* may = allowed.data_ptr<bool>();
    switch (row.part) {
      case Part::prefix:
        may[answer.prefix[row.t]] = true;
        break;
      case Part::end:
        may[answer.end] = true;
        break;
      case Part::behind:
        may[answer.padding] = true;
        break;
      case Part::codes:
        if (valid_ == nullptr) {
          may[answer.bar] = true;
          for (int64_t code = 0; code < codec_.tokenizer().size(); ++code)
            may[answer.first_code - code] = true;
        } else if (valid_->is_complete(row.place)) {
          may[answer.bar] = true;
        } else {
          for (const int64_t code : valid_->allowed(row.place)) may[answer.first_code - code] = true;
        }
    }
  }

  void go_on(Row& row, int64_t id) const {
    const tokenizers::FastAnswer& answer = codec_.answer();
    ++row.t;
    skip_empty_prefix(row);
    if (row.part == Part::end) {
      row.part = Part::behind;
    } else if (row.part == Part::codes && row.t > answer.prefix.size()) {
      if (id == answer.bar)
        row.part = Part::end;
      else if (valid_ != nullptr)
        row.place = valid_->after(row.place, *codec_.code_of(id));
    }
  }

  const FastCodec& codec_;
  const FastGrammar* valid_;
  TokenChooser choose_;
  std::vector<Row> rows_;
};

}  // namespace

TokenChooser answers_only(const FastCodec& codec, const FastGrammar* valid, TokenChooser choose) {
  auto* const token_probs = choose.token_probs;
  // the function may be copied, where rows stand may not
  const auto chooser = std::make_shared<Chooser>(codec, valid, std::move(choose));
  return {[chooser](const at::Tensor& logits) { return (*chooser)(logits); }, token_probs};
}

}  // namespace apo::models
