// A tokenizer model of any bytes, and any bytes as text for the model that it is.
//   first byte even: the rest is a model;  odd: the rest is a text for the model of the corpus
#include <cstdlib>

#include "apo/base/error.h"
#include "apo/tokenizers/text.h"
#include "input_file.h"

namespace {

// The model of the environment variable APO_FUZZ_MODEL.
const apo::tokenizers::TextTokenizer* good_model() {
  static const char* path = std::getenv("APO_FUZZ_MODEL");
  static const apo::tokenizers::TextTokenizer* model =
      path ? new apo::tokenizers::TextTokenizer(path) : nullptr;
  return model;
}

void use(const apo::tokenizers::TextTokenizer& tokenizer, std::string_view text) {
  const auto ids = tokenizer.encode(text);
  for (const int64_t id : ids)
    if (id < 0 || id >= tokenizer.size()) __builtin_trap();
  tokenizer.decode(ids);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  static const apo::fuzz::InputFile input(".model");
  try {
    if (data[0] % 2 == 1) {
      if (good_model()) use(*good_model(), {reinterpret_cast<const char*>(data) + 1, size - 1});
      return 0;
    }
    const apo::tokenizers::TextTokenizer tokenizer(input.write(data + 1, size - 1));
    use(tokenizer, "lift the red cube");
    apo::tokenizers::openvla_prompt(tokenizer, "lift the red cube");
  } catch (const apo::Error& error) {
    if (*error.what() == '\0') __builtin_trap();
  }
  return 0;
}
