#include "io/checkpoint_copy.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <vector>

#include "base/atomic_file.h"
#include "base/fail.h"
#include "io/crc32.h"
#include "io/safetensors.h"
#include "io/torch_zip.h"
#include "io/untrusted.h"
#include "io/zip_archive.h"

namespace molt {
namespace {

namespace fs = std::filesystem;
using Bytes = std::span<const std::byte>;
using Tensors = std::map<std::string, Tensor>;

/// Bytes that take the place of as many others.
struct Patch {
  std::size_t offset = 0;
  std::vector<std::byte> small;  // owned, or
  Bytes large;                   // borrowed

  Bytes bytes() const { return small.empty() ? large : Bytes(small); }
};

/// Calls body(bytes) with pieces that together are [begin, end) of `bytes` as patched. `patches`: by offset, apart.
template <class Body>
void for_patched(Bytes bytes, const std::vector<Patch>& patches, std::size_t begin, std::size_t end, Body body) {
  for (const Patch& patch : patches) {
    if (patch.offset < begin || patch.offset >= end) continue;
    body(bytes.subspan(begin, patch.offset - begin));
    body(patch.bytes());
    begin = patch.offset + patch.bytes().size();
  }
  body(bytes.subspan(begin, end - begin));
}

std::vector<std::byte> little_endian(std::uint32_t value) {
  std::vector<std::byte> bytes;
  for (int i = 0; i < 4; ++i) bytes.push_back(static_cast<std::byte>(value >> (8 * i) & 0xffU));
  return bytes;
}

/// What `replaced` changes in an archive's tensors.
std::vector<Patch> tensor_patches(Bytes bytes, const Tensors& tensors, const Tensors& replaced,
                                  const std::string& path) {
  std::vector<Patch> patches;
  for (const auto& [name, tensor] : tensors) {
    const auto it = replaced.find(name);
    if (it == replaced.end()) continue;
    const std::byte* const at = tensor.data();
    if (at < bytes.data() || at + tensor.bytes() > bytes.data() + bytes.size()) {
      fail("{}: tensor {} does not lie there in one piece; save the model with contiguous() tensors first", path,
           quote(name));
    }
    for (const auto& [other, sharing] : tensors) {
      if (other != name && sharing.data() < at + tensor.bytes() && at < sharing.data() + sharing.bytes()) {
        fail("{}: tensors {} and {} share their values: one cannot change alone", path, quote(name), quote(other));
      }
    }
    patches.push_back({static_cast<std::size_t>(at - bytes.data()),
                       {},
                       {it->second.data(), static_cast<std::size_t>(it->second.bytes())}});
  }
  std::sort(patches.begin(), patches.end(), [](const Patch& a, const Patch& b) { return a.offset < b.offset; });
  return patches;
}

void copy_torch_zip(Bytes bytes, const Tensors& tensors, const Tensors& replaced, const std::string& from,
                    const std::string& to) {
  std::vector<Patch> patches = tensor_patches(bytes, tensors, replaced, from);
  std::vector<Patch> checksums;
  const auto places = zip_checksums(bytes, from);
  for (const auto& [name, data] : read_zip(bytes, from)) {
    const auto begin = static_cast<std::size_t>(data.data() - bytes.data());
    const std::size_t end = begin + data.size();
    const bool touched = std::any_of(patches.begin(), patches.end(),
                                     [&](const Patch& patch) { return begin <= patch.offset && patch.offset < end; });
    if (!touched) continue;
    std::uint32_t checksum = 0;
    for_patched(bytes, patches, begin, end, [&](Bytes piece) { checksum = crc32(piece, checksum); });
    for (const std::size_t place : places.at(name)) checksums.push_back({place, little_endian(checksum), {}});
  }
  patches.insert(patches.end(), checksums.begin(), checksums.end());
  std::sort(patches.begin(), patches.end(), [](const Patch& a, const Patch& b) { return a.offset < b.offset; });
  AtomicFile file(to);
  for_patched(bytes, patches, 0, bytes.size(), [&file](Bytes piece) { file.write(piece); });
  file.commit();
}

void copy_safetensors(const std::shared_ptr<const MmapFile>& from, const Tensors& replaced, const std::string& to) {
  const SafetensorsFile file = read_safetensors(from->bytes(), from, from->path());
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const auto& [name, tensor] : file.tensors) {
    const auto it = replaced.find(name);
    tensors.emplace_back(name, it == replaced.end() ? tensor : it->second);
  }
  // By falling size of elements: then all of them lie aligned in the file.
  std::stable_sort(tensors.begin(), tensors.end(),
                   [](const auto& a, const auto& b) { return size_of(a.second.dtype()) > size_of(b.second.dtype()); });
  write_safetensors(to, tensors, file.metadata);
}

}  // namespace

void copy_checkpoint(const Checkpoint& checkpoint, const Tensors& replaced, const std::string& folder) {
  for (const auto& [name, tensor] : replaced) {
    const Tensor& original = checkpoint.at(name);
    MOLT_CHECK(original.dtype() == tensor.dtype() && original.shape() == tensor.shape());
  }
  for (const auto& file : checkpoint.files()) {
    const std::string to = (fs::path(folder) / fs::path(file->path()).filename()).string();
    const Bytes bytes = file->bytes();
    if (is_zip(bytes)) {
      copy_torch_zip(bytes, read_torch_zip(bytes, file, file->path()), replaced, file->path(), to);
    } else {
      copy_safetensors(file, replaced, to);
    }
    file->drop_pages();
  }
  if (!checkpoint.index().empty()) {
    const fs::path to = fs::path(folder) / fs::path(checkpoint.index()).filename();
    std::error_code error;
    fs::copy_file(checkpoint.index(), to, error);
    if (error) fail("{}: cannot copy to {}: {}", checkpoint.index(), to.string(), error.message());
  }
}

}  // namespace molt
