// Any bytes as a PyTorch archive: an Error, or tensors that lie wholly within them. Most mutations break the zip
// archive, so the input is read as a bare pickle too.
#include "io/torch_zip.h"

#include "bytes.h"
#include "io/unpickler.h"
#include "molt/error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const molt::FuzzBytes input(data, size);
  try {
    molt::touch(molt::read_torch_zip(input.bytes(), input.owner(), "fuzz"));
  } catch (const molt::Error&) {
  }
  try {
    molt::unpickle(input.bytes(), {"torch._utils._rebuild_tensor_v2", "torch.FloatStorage"}, "fuzz");
  } catch (const molt::Error&) {
  }
  return 0;
}
