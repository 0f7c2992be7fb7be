// Any bytes as a safetensors file: an Error, or tensors that lie wholly within them.
#include "io/safetensors.h"

#include "bytes.h"
#include "molt/error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const molt::FuzzBytes input(data, size);
  try {
    molt::touch(molt::read_safetensors(input.bytes(), input.owner(), "fuzz").tensors);
  } catch (const molt::Error&) {
  }
  return 0;
}
