// Any bytes as a tokenizer model: refused with one sentence, or loaded by SentencePiece and able to encode
// and give back.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "core/base/error.h"
#include "data/tokenizer/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const std::string model(reinterpret_cast<const char*>(data), size);
    const toroid::Tokenizer tokenizer = toroid::Tokenizer::from_bytes(model, "fuzz");
    toroid::Encoder encoder(tokenizer);
    const std::string probe = "Hi  there\n\tx=12 <bos> \xc3\xa9\xff\xe2\x96\x81 \xe7\x94\x9f";
    const auto ids = encoder.encode(probe);
    (void)tokenizer.decode(ids);
  } catch (const toroid::UserError&) {  // what a bad model is answered with
  }
  return 0;
}
