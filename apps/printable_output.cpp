#include "printable_output.h"

#include <ostream>
#include <string_view>

#include "apo/base/text.h"

namespace apo::apps {
namespace {

constexpr size_t kWaiting = 1 << 16;  // bytes

}  // namespace

PrintableOutput::PrintableOutput(std::ostream& stream) : stream_(stream), target_(stream.rdbuf(this)) {}

PrintableOutput::~PrintableOutput() {
  send(waiting_.size());
  target_->pubsync();
  stream_.rdbuf(target_);
}

PrintableOutput::int_type PrintableOutput::overflow(int_type character) {
  if (traits_type::eq_int_type(character, traits_type::eof())) return traits_type::not_eof(character);
  const char byte = traits_type::to_char_type(character);
  return xsputn(&byte, 1) == 1 ? character : traits_type::eof();
}

std::streamsize PrintableOutput::xsputn(const char* bytes, std::streamsize count) {
  waiting_.append(bytes, static_cast<size_t>(count));
  if (waiting_.size() < kWaiting) return count;
  return send(waiting_.size() - unfinished_character(waiting_)) ? count : 0;
}

int PrintableOutput::sync() {
  const bool sent = send(waiting_.size() - unfinished_character(waiting_));
  return target_->pubsync() == 0 && sent ? 0 : -1;
}

// The first `count` of the waiting bytes.
bool PrintableOutput::send(size_t count) {
  const std::string shown = printable(std::string_view(waiting_).substr(0, count), NewLines::kept);
  waiting_.erase(0, count);
  const auto size = static_cast<std::streamsize>(shown.size());
  return target_->sputn(shown.data(), size) == size;
}

}  // namespace apo::apps
