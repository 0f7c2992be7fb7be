// Any bytes as a GGUF file: an Error, or keys and tensors that lie wholly within them, and a tokenizer or an Error.
#include "io/gguf.h"

#include <vector>

#include "bytes.h"
#include "io/tokenizer/gguf_spec.h"
#include "molt/error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const molt::FuzzBytes input(data, size);
  try {
    const molt::GgufFile file = molt::read_gguf(input.bytes(), input.owner(), "fuzz");
    for (const auto& [name, tensor] : file.tensors) {
      if (tensor.type->dequantize == nullptr) continue;
      std::vector<float> values(static_cast<std::size_t>(molt::element_count(tensor.shape)));
      molt::dequantize(*tensor.type, tensor.data, values.data());
    }
    molt::read_gguf_tokenizer(file);
  } catch (const molt::Error&) {
  }
  return 0;
}
