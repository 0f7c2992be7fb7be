#include "io/torch_zip.h"

#include "base/fail.h"
#include "base/mmap_file.h"

namespace molt {

std::map<std::string, Tensor> read_torch_zip(std::span<const std::byte>, std::shared_ptr<const void>,
                                             const std::string& name) {
  fail("{}: PyTorch checkpoints are not read yet", name);
}

std::map<std::string, Tensor> read_torch_zip(const std::string& path) {
  const auto file = MmapFile::open(path);
  return read_torch_zip(file->bytes(), file, path);
}

}  // namespace molt
