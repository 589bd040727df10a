// Standard output as people may see it: whatever a file says, it draws nothing on their terminal.
#pragma once

#include <iosfwd>
#include <streambuf>
#include <string>

namespace apo::apps {

/// While it lives, what goes to the stream passes through `printable` (line feeds and tabs are kept).
class PrintableOutput : public std::streambuf {
 public:
  explicit PrintableOutput(std::ostream& stream);
  ~PrintableOutput() override;
  PrintableOutput(const PrintableOutput&) = delete;
  PrintableOutput& operator=(const PrintableOutput&) = delete;

 protected:
  int_type overflow(int_type character) override;
  std::streamsize xsputn(const char* bytes, std::streamsize count) override;
  int sync() override;

 private:
  bool send(size_t count);

  std::ostream& stream_;
  std::streambuf* target_;
  std::string waiting_;
};

}  // namespace apo::apps
