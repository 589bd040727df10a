#include "apo/base/hash.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <vector>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "apo/base/error.h"

namespace apo {
namespace {

std::string digits(const XXH128_hash_t& hash) {
  constexpr const char* kDigits = "0123456789abcdef";
  std::string text;
  for (const uint64_t half : {hash.high64, hash.low64})
    for (int shift = 60; shift >= 0; shift -= 4) text += kDigits[(half >> shift) & 15];
  return text;
}

}  // namespace

struct ContentHash::State {
  XXH3_state_t xxh3;
};

ContentHash::ContentHash() : state_(std::make_unique<State>()) { XXH3_128bits_reset(&state_->xxh3); }
ContentHash::~ContentHash() = default;
ContentHash::ContentHash(ContentHash&&) noexcept = default;
ContentHash& ContentHash::operator=(ContentHash&&) noexcept = default;

void ContentHash::add(const void* bytes, size_t size) {
  if (size > 0) XXH3_128bits_update(&state_->xxh3, bytes, size);
}

void ContentHash::add_number(int64_t number) {
  unsigned char bytes[8];
  for (int i = 0; i < 8; ++i) bytes[i] = static_cast<unsigned char>(static_cast<uint64_t>(number) >> (8 * i));
  add(bytes, sizeof bytes);
}

void ContentHash::add_text(std::string_view text) {
  add_number(static_cast<int64_t>(text.size()));
  add(text);
}

std::string ContentHash::text() const { return digits(XXH3_128bits_digest(&state_->xxh3)); }

std::string content_hash(std::string_view bytes) { return digits(XXH3_128bits(bytes.data(), bytes.size())); }

std::string file_hash(const std::filesystem::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  APO_CHECK(DataError, descriptor >= 0, path.string(), ": cannot open: ", strerror(errno));
  ContentHash hash;
  std::vector<char> piece(size_t{1} << 20);
  ssize_t n = 0;
  int error = 0;
  do {
    n = ::read(descriptor, piece.data(), piece.size());
    error = errno;
    if (n > 0) hash.add(piece.data(), static_cast<size_t>(n));
  } while (n > 0 || (n < 0 && error == EINTR));
  ::close(descriptor);
  APO_CHECK(DataError, n == 0, path.string(), ": cannot read: ", strerror(error));
  return hash.text();
}

}  // namespace apo
