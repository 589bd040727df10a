#include "apo/tokenizers/fast.h"

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <map>
#include <numbers>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "base/json.h"
#include "tokenizers/byte_bpe.h"
#include "tokenizers/fast_state.h"
#include "tokenizers/utf8.h"

namespace apo::tokenizers {
namespace {

namespace fs = std::filesystem;
using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

constexpr int64_t kFirstSurrogate = 0xD800;
constexpr int64_t kLargestExtent = 1 << 16;  // of H and A

// Row k of the orthonormal DCT-II.
Matrix dct_matrix(int64_t size) {
  Matrix matrix(size, size);
  const auto n = static_cast<double>(size);
  for (int64_t k = 0; k < size; ++k)
    for (int64_t i = 0; i < size; ++i)
      matrix(k, i) = std::sqrt((k == 0 ? 1 : 2) / n) *
                     std::cos(std::numbers::pi * static_cast<double>((2 * i + 1) * k) / (2 * n));
  return matrix;
}

std::vector<double> transformed(std::span<const double> numbers, int64_t horizon, bool back) {
  const int64_t size = std::ssize(numbers) / horizon;
  APO_ASSERT(horizon >= 1 && size * horizon == std::ssize(numbers));
  const Eigen::Map<const Matrix> in(numbers.data(), horizon, size);
  std::vector<double> result(numbers.size());
  Eigen::Map<Matrix> out(result.data(), horizon, size);
  const Matrix matrix = dct_matrix(horizon);
  if (back)
    out.noalias() = matrix.transpose() * in;
  else
    out.noalias() = matrix * in;
  return result;
}

}  // namespace

std::vector<double> dct(std::span<const double> numbers, int64_t horizon) {
  return transformed(numbers, horizon, false);
}

std::vector<double> inverse_dct(std::span<const double> coefficients, int64_t horizon) {
  return transformed(coefficients, horizon, true);
}

std::vector<int64_t> rounded_coefficients(std::span<const double> chunk, int64_t horizon, double scale) {
  for (const double number : chunk)
    APO_CHECK(DataError, std::isfinite(number), "FAST tokenizer: expected finite actions, found ", number);
  std::vector<int64_t> coefficients;
  for (const double coefficient : dct(chunk, horizon)) {
    const double rounded = std::nearbyint(coefficient * scale);  // half to even
    APO_CHECK(DataError, std::abs(rounded) < 1e9, "FAST tokenizer: found a coefficient of ", rounded,
              "; are the action statistics those of this robot?");
    coefficients.push_back(static_cast<int64_t>(rounded));
  }
  return coefficients;
}

FastTokenizer FastTokenizer::read(const fs::path& directory) {
  const JsonFile file(directory / "processor_config.json");
  FastConfig config;
  config.scale = file["scale"].get_or(10.0);
  file["scale"].expect(config.scale > 0, "a number > 0");
  config.min_token = file["min_token"].integer(-kFirstSurrogate, kFirstSurrogate);
  const auto extent = [&file](const char* key) {
    return file[key].present() ? file[key].integer(1, kLargestExtent) : 0;
  };
  config.horizon = extent("time_horizon");
  config.action_size = extent("action_dim");
  return FastTokenizer(std::make_shared<const State>(
      State{.config = config, .bpe = ByteBpe::read(directory / "tokenizer.json")}));
}

const FastConfig& FastTokenizer::config() const { return state_->config; }
int64_t FastTokenizer::size() const { return state_->bpe.size(); }

FastTokenizer::Encoded FastTokenizer::encode(std::span<const double> chunk, int64_t horizon) const {
  Encoded encoded;
  std::u32string text;
  for (const int64_t coefficient : rounded_coefficients(chunk, horizon, config().scale)) {
    const int64_t character = coefficient - config().min_token;
    APO_CHECK(DataError, character < kFirstSurrogate, "FAST tokenizer: found a coefficient of ", coefficient,
              ", expected less than ", kFirstSurrogate + config().min_token,
              "; are the action statistics those of this robot?");
    encoded.num_clipped += character < 0;
    text += static_cast<char32_t>(std::max<int64_t>(character, 0));
  }
  ByteBpe::Encoded ids = state_->bpe.encode(text);
  encoded.codes = std::move(ids.ids);
  encoded.num_clipped += ids.num_dropped;
  return encoded;
}

FastTokenizer::Decoded FastTokenizer::decode(std::span<const int64_t> codes, int64_t horizon,
                                             int64_t action_size) const {
  Decoded decoded;
  std::string bytes;
  for (const int64_t code : codes) {
    if (code < 0 || code >= size())
      decoded.malformed = true;
    else
      bytes += state_->bpe.bytes(code);
  }
  std::vector<double> coefficients;
  for (const char32_t character : from_utf8_lossy(bytes)) {
    const bool unreadable = character == kReplacementCharacter;
    decoded.malformed = decoded.malformed || unreadable;
    coefficients.push_back(
        unreadable ? 0 : static_cast<double>(static_cast<int64_t>(character) + config().min_token));
  }
  const auto wanted = static_cast<size_t>(horizon * action_size);
  decoded.malformed = decoded.malformed || coefficients.size() != wanted;
  coefficients.resize(wanted, 0);
  for (double& coefficient : coefficients) coefficient /= config().scale;
  decoded.actions = inverse_dct(coefficients, horizon);
  return decoded;
}

}  // namespace apo::tokenizers
