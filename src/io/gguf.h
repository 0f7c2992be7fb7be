// GGUF, the file format of llama.cpp (github.com/ggml-org/ggml, docs/gguf.md), versions 2 and 3, little-endian:
//
//   "GGUF", version, counts of tensors and of keys
//   keys      name, type, value: numbers, booleans, strings, and arrays of those
//   tensors   name, extents (the innermost first), type, offset into the data
//   data      from the next multiple of general.alignment (32 if absent) on; each tensor padded to one
//
// Reading maps the file and copies no data. Everything is checked before the first tensor is handed out: lengths,
// counts, repeated names, types, extents, and that tensors lie one after the other within the file. Tensors and arrays
// are views that stay valid as long as their GgufFile, or a copy of its `owner`.
//
// Thread-safety: immutable after reading.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/mmap_file.h"
#include "io/ggml_type.h"
#include "io/json_file.h"
#include "tensor/tensor.h"

namespace molt {

/// The types of values, as files number them.
enum class GgufType : std::uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, text, array, u64, i64, f64 };

/// An array among the keys, as it lies in the file.
struct GgufArray {
  GgufType type = GgufType::u8;  // of its elements
  std::uint64_t count = 0;
  std::span<const std::byte> bytes;
};

struct GgufTensor {
  const GgmlType* type = nullptr;
  Shape shape;  // the innermost extent last, as everywhere in molt
  std::span<const std::byte> data;
};

struct GgufFile {
  std::string name;                         // its path, for messages
  Json values = Json::object();             // the keys that hold single values
  std::map<std::string, GgufArray> arrays;  // and those that hold arrays
  std::map<std::string, GgufTensor> tensors;
  std::shared_ptr<const void> owner;     // keeps the bytes alive
  std::shared_ptr<const MmapFile> file;  // that same owner, where it is a file

  /// "mamba", "mamba2", ...: general.architecture. Throws Error when it is missing.
  std::string architecture() const;

  /// The array of strings under `key`. Throws Error when it is missing or of another type.
  std::vector<std::string_view> texts(const std::string& key) const;

  /// The array of integers under `key`, empty when it is missing. Throws Error when it is of another type.
  std::vector<std::int64_t> integers(const std::string& key) const;
};

/// Whether these bytes begin as a GGUF file does.
bool is_gguf(std::span<const std::byte> bytes);

/// Whether the file at `path` does; false when it cannot be read.
bool is_gguf_file(const std::string& path);

/// Maps and reads the file at `path`. Throws Error naming the path, the key or tensor, and the value at fault.
GgufFile read_gguf(const std::string& path);

/// Reads a file's bytes, which `owner` keeps alive; `name` stands in messages.
GgufFile read_gguf(std::span<const std::byte> bytes, std::shared_ptr<const void> owner, const std::string& name);

}  // namespace molt
