// FAST: chunks of actions as the byte pairs of their rounded frequencies.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <vector>

namespace apo::tokenizers {

/// What a FAST tokenizer says of itself beside its pieces (processor_config.json).
struct FastConfig {
  double scale = 10;        ///< coefficients are rounded after multiplication with it
  int64_t min_token = 0;    ///< the coefficient that character 0 stands for
  int64_t horizon = 0;      ///< H that it was made for; 0: any
  int64_t action_size = 0;  ///< A that it was made for; 0: any
};

/// A chunk becomes characters, one a coefficient: along each dimension the orthonormal DCT-II, times `scale`,
/// rounded half to even; all dimensions of frequency 0, then of frequency 1 ...; coefficient q is the
/// character q − min_token, at least 0. A byte-level BPE makes codes of them. Const members may be called
/// from any thread.
///
/// Source  Pertsch et al. 2025 (arXiv 2501.09747) and the processor of physical-intelligence/fast
class FastTokenizer {
 public:
  /// `directory` holds tokenizer.json (BPE with ByteLevel before and behind it) and processor_config.json
  /// (scale, min_token, time_horizon and action_dim or null). DataError naming file and key.
  static FastTokenizer read(const std::filesystem::path& directory);
  /// Made from normalised chunks, as the processor's `fit` makes it: the alphabet reaches from their smallest
  /// to their largest coefficient, and pairs that occur twice or more are joined until there are
  /// `vocabulary` pieces.
  ///
  /// Shapes  chunks [N][H · A], time outside
  /// Errors  ConfigError for an alphabet larger than the vocabulary; DataError for no chunk, one of another
  ///         size, or a number that is not finite
  static FastTokenizer fit(std::span<const std::vector<double>> chunks, int64_t horizon, int64_t action_size,
                           int64_t vocabulary = 1024, double scale = 10);
  /// Writes the files that `read` reads, and Python's AutoProcessor beside its code
  /// (processing_action_tokenizer.py).
  void write(const std::filesystem::path& directory) const;

  const FastConfig& config() const;
  int64_t size() const;  ///< how many codes there are

  struct Encoded {
    std::vector<int64_t> codes;
    /// coefficients below min_token, which became it, and bytes that have no piece, which vanished
    int64_t num_clipped = 0;
  };
  /// Shapes  chunk [H · A], time outside
  /// Errors  DataError for a number that is not finite, and for a coefficient beyond what a character can
  ///         be: statistics of another robot
  Encoded encode(std::span<const double> chunk, int64_t horizon) const;

  struct Decoded {
    std::vector<double> actions;  ///< [H · A], time outside
    bool malformed = false;       ///< the codes are no code of H · A coefficients
  };
  /// Whatever the codes are: those that there are not vanish, bytes that are no UTF-8 are coefficient 0, and
  /// what is missing or too much of H · A coefficients is filled up with 0 or cut.
  Decoded decode(std::span<const int64_t> codes, int64_t horizon, int64_t action_size) const;

 private:
  friend class FastGrammar;
  struct State;
  explicit FastTokenizer(std::shared_ptr<const State> state) : state_(std::move(state)) {}
  std::shared_ptr<const State> state_;
};

/// Which codes may follow so that an answer becomes exactly so many coefficients, for decoding that cannot go
/// wrong.
class FastGrammar {
 public:
  /// ConfigError if no sequence of codes makes so many coefficients.
  FastGrammar(const FastTokenizer& tokenizer, int64_t coefficients);

  /// Where an answer stands.
  struct Place {
    int64_t state = 0;      ///< which bytes of a character have begun
    int64_t remaining = 0;  ///< coefficients
  };
  Place start() const { return {0, coefficients_}; }
  bool is_complete(const Place& place) const { return place.state == 0 && place.remaining == 0; }
  /// The codes that may follow, ascending; none where the answer is complete.
  std::vector<int64_t> allowed(const Place& place) const;
  /// Behind an allowed code. Bug for another one.
  Place after(const Place& place, int64_t code) const;

 private:
  struct Step {
    int64_t state = -1;  // behind the code; -1: it is not allowed
    int64_t characters = 0;
  };
  bool reaches_end(int64_t state, int64_t remaining) const {
    return ends_[static_cast<size_t>(state)][static_cast<size_t>(remaining)];
  }

  int64_t coefficients_;
  std::vector<std::vector<Step>> steps_;  // [states][codes]
  std::vector<std::vector<bool>> ends_;   // [states][remaining]
};

/// The orthonormal DCT-II along the first dimension of [H, A] numbers, and its inverse.
std::vector<double> dct(std::span<const double> numbers, int64_t horizon);
std::vector<double> inverse_dct(std::span<const double> coefficients, int64_t horizon);

}  // namespace apo::tokenizers
