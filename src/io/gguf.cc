#include "io/gguf.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "base/fail.h"
#include "io/untrusted.h"

namespace molt {
namespace {

constexpr std::string_view kMagic = "GGUF";
constexpr std::uint64_t kDefaultAlignment = 32;
constexpr std::uint64_t kMaxAlignment = 1 << 20;
constexpr std::uint32_t kMaxRank = 4;  // ggml's own limit
constexpr int kMaxNesting = 4;         // of arrays in arrays

/// Bytes of a number or boolean; 0 for strings and arrays.
std::size_t size_of(GgufType type) {
  switch (type) {
    case GgufType::u8:
    case GgufType::i8:
    case GgufType::boolean: return 1;
    case GgufType::u16:
    case GgufType::i16: return 2;
    case GgufType::u32:
    case GgufType::i32:
    case GgufType::f32: return 4;
    case GgufType::u64:
    case GgufType::i64:
    case GgufType::f64: return 8;
    case GgufType::text:
    case GgufType::array: break;
  }
  return 0;
}

bool is_integer(GgufType type) {
  return size_of(type) > 0 && type != GgufType::f32 && type != GgufType::f64 && type != GgufType::boolean;
}

/// A number or boolean at the start of `bytes`.
Json number_at(GgufType type, std::span<const std::byte> bytes) {
  switch (type) {
    case GgufType::u8: return load_little_endian<std::uint8_t>(bytes, 0);
    case GgufType::i8: return static_cast<std::int8_t>(load_little_endian<std::uint8_t>(bytes, 0));
    case GgufType::u16: return load_little_endian<std::uint16_t>(bytes, 0);
    case GgufType::i16: return static_cast<std::int16_t>(load_little_endian<std::uint16_t>(bytes, 0));
    case GgufType::u32: return load_little_endian<std::uint32_t>(bytes, 0);
    case GgufType::i32: return static_cast<std::int32_t>(load_little_endian<std::uint32_t>(bytes, 0));
    case GgufType::u64: return load_little_endian<std::uint64_t>(bytes, 0);
    case GgufType::i64: return static_cast<std::int64_t>(load_little_endian<std::uint64_t>(bytes, 0));
    case GgufType::f32: return std::bit_cast<float>(load_little_endian<std::uint32_t>(bytes, 0));
    case GgufType::f64: return std::bit_cast<double>(load_little_endian<std::uint64_t>(bytes, 0));
    case GgufType::boolean: return load_little_endian<std::uint8_t>(bytes, 0) != 0;
    case GgufType::text:
    case GgufType::array: break;
  }
  MOLT_CHECK(!"not a number");
}

/// Walks through the header. Every step is checked against the file's end.
class Cursor {
 public:
  Cursor(std::span<const std::byte> bytes, const std::string& file) : bytes_(bytes), file_(file) {}

  std::size_t at() const { return at_; }

  std::span<const std::byte> take(std::uint64_t size, const std::string& what) {
    if (size > bytes_.size() - at_) {
      fail("{}: {} needs {} bytes at byte {} of {}: the file is truncated or corrupt; fetch it again", file_, what,
           size, at_, bytes_.size());
    }
    const auto taken = bytes_.subspan(at_, static_cast<std::size_t>(size));
    at_ += taken.size();
    return taken;
  }

  template <class T>
  T integer(const std::string& what) {
    return load_little_endian<T>(take(sizeof(T), what), 0);
  }

  std::string_view text(const std::string& what) {
    const auto length = integer<std::uint64_t>(what);
    const auto bytes = take(length, what);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }

  GgufType type(const std::string& what) {
    const auto number = integer<std::uint32_t>(what);
    if (number > static_cast<std::uint32_t>(GgufType::f64)) {
      fail("{}: {} has the unknown value type {}", file_, what, number);
    }
    return static_cast<GgufType>(number);
  }

  /// An array: its elements' type, their count, and the bytes that they take.
  GgufArray array(const std::string& what, int depth = 0) {
    if (depth == kMaxNesting) fail("{}: {}: arrays are nested too deep", file_, what);
    GgufArray array;
    array.type = type(what);
    array.count = integer<std::uint64_t>(what);
    const std::size_t begin = at_;
    const std::size_t size = size_of(array.type);
    if (size > 0) {
      if (array.count > (bytes_.size() - at_) / size) {
        fail("{}: {} claims {} elements, more than the file has bytes for: it is truncated or corrupt", file_, what,
             array.count);
      }
      take(array.count * size, what);
    } else {
      for (std::uint64_t i = 0; i < array.count; ++i) {  // ends with the file at the latest: each takes 8 bytes or more
        array.type == GgufType::text ? static_cast<void>(text(what)) : static_cast<void>(this->array(what, depth + 1));
      }
    }
    array.bytes = bytes_.subspan(begin, at_ - begin);
    return array;
  }

 private:
  std::span<const std::byte> bytes_;
  const std::string& file_;
  std::size_t at_ = 0;
};

/// Reads the parts of one file in their order.
class Reader {
 public:
  Reader(std::span<const std::byte> bytes, std::shared_ptr<const void> owner, const std::string& name)
      : bytes_(bytes), cursor_(bytes, name) {
    file_.name = name;
    file_.owner = std::move(owner);
  }

  GgufFile read() {
    if (!is_gguf(bytes_)) fail("{}: not a GGUF file: it does not begin with \"{}\"", file_.name, kMagic);
    cursor_.take(kMagic.size(), "the magic");
    check_version(cursor_.integer<std::uint32_t>("the version"));
    const auto tensors = cursor_.integer<std::uint64_t>("the count of tensors");
    const auto keys = cursor_.integer<std::uint64_t>("the count of keys");
    // Absurd counts need no check of their own: reading ends with the file.
    for (std::uint64_t i = 0; i < keys; ++i) read_key(i);
    check_parts();
    for (std::uint64_t i = 0; i < tensors; ++i) read_tensor(i);
    place_tensors();
    return std::move(file_);
  }

 private:
  struct Place {
    std::string name;
    std::uint64_t offset;
    std::int64_t bytes;
  };

  void check_version(std::uint32_t version) const {
    if (version == 2 || version == 3) return;
    if ((version & 0xffffU) == 0) {
      fail("{}: a big-endian GGUF file; molt reads little-endian ones: convert it again", file_.name);
    }
    fail("{}: GGUF version {}; molt reads versions 2 and 3: convert the original model again", file_.name, version);
  }

  void read_key(std::uint64_t index) {
    const std::string key(cursor_.text(fmt::format("key {}", index)));
    const std::string what = "key " + quote(key);
    const GgufType type = cursor_.type(what);
    const bool fresh = !file_.values.contains(key) && !file_.arrays.contains(key);
    if (type == GgufType::array) {
      file_.arrays.emplace(key, cursor_.array(what));
    } else if (type == GgufType::text) {
      file_.values[key] = std::string(cursor_.text(what));
    } else {
      file_.values[key] = number_at(type, cursor_.take(size_of(type), what));
    }
    if (!fresh) fail("{}: {} is there twice", file_.name, what);
  }

  /// A model in several files cannot be read from one of them.
  void check_parts() const {
    const std::int64_t parts = get_int(file_.values, "split.count", 1, file_.name);
    if (parts > 1) {
      fail("{}: one of {} parts of a model; join them first (llama-gguf-split --merge)", file_.name, parts);
    }
  }

  void read_tensor(std::uint64_t index) {
    const std::string name(cursor_.text(fmt::format("the name of tensor {}", index)));
    const std::string what = "tensor " + quote(name);
    const auto rank = cursor_.integer<std::uint32_t>(what);
    if (rank > kMaxRank) fail("{}: {} has {} extents; at most {} are allowed", file_.name, what, rank, kMaxRank);
    GgufTensor tensor;
    for (std::uint32_t d = 0; d < rank; ++d) {
      tensor.shape.insert(tensor.shape.begin(), static_cast<std::int64_t>(cursor_.integer<std::uint64_t>(what)));
    }
    const auto type = cursor_.integer<std::uint32_t>(what);
    tensor.type = find_ggml_type(type);
    if (tensor.type == nullptr) {
      fail("{}: {} has the type {}; molt reads {}: convert the model to one of them (q8_0, say)", file_.name, what,
           describe_ggml_type(type), known_ggml_types());
    }
    const auto offset = cursor_.integer<std::uint64_t>(what);
    places_.push_back({name, offset, data_bytes(what, tensor)});
    if (!file_.tensors.emplace(name, std::move(tensor)).second) fail("{}: {} is there twice", file_.name, what);
  }

  std::int64_t data_bytes(const std::string& what, const GgufTensor& tensor) const {
    const std::int64_t row = tensor.shape.empty() ? 1 : tensor.shape.back();
    const auto elements = checked_bytes(tensor.shape, DType::u8);
    if (!elements || *elements > (std::int64_t{1} << 56)) {
      fail("{}: {} has the impossible shape {}", file_.name, what, to_string(tensor.shape));
    }
    if (row % tensor.type->block_elements != 0) {
      fail("{}: {} of type {} has rows of {} elements; its blocks take {}", file_.name, what, tensor.type->name, row,
           tensor.type->block_elements);
    }
    return *elements / tensor.type->block_elements * tensor.type->block_bytes;
  }

  std::uint64_t alignment() const {
    const std::int64_t alignment = get_int(file_.values, "general.alignment", kDefaultAlignment, file_.name);
    if (alignment < 1 || static_cast<std::uint64_t>(alignment) > kMaxAlignment ||
        !std::has_single_bit(static_cast<std::uint64_t>(alignment))) {
      fail("{}: general.alignment is {}; it must be a power of two up to {}", file_.name, alignment, kMaxAlignment);
    }
    return static_cast<std::uint64_t>(alignment);
  }

  /// Gives each tensor its bytes. They lie in the order of their names, each padded to the alignment.
  void place_tensors() {
    const std::uint64_t padding = alignment() - 1;
    const std::uint64_t begin = (cursor_.at() + padding) & ~padding;
    std::uint64_t expected = 0;
    for (const Place& place : places_) {
      if (place.offset != expected) {
        fail("{}: tensor {} begins at byte {} of the data, where the one before it ends at {}: the file is corrupt",
             file_.name, quote(place.name), place.offset, expected);
      }
      const auto size = static_cast<std::uint64_t>(place.bytes);
      if (begin > bytes_.size() || place.offset > bytes_.size() - begin ||
          size > bytes_.size() - begin - place.offset) {
        fail("{}: tensor {} claims {} bytes at byte {} of {}: the file is truncated or corrupt; fetch it again",
             file_.name, quote(place.name), size, begin + place.offset, bytes_.size());
      }
      file_.tensors.at(place.name).data =
          bytes_.subspan(static_cast<std::size_t>(begin + place.offset), static_cast<std::size_t>(size));
      expected = (place.offset + size + padding) & ~padding;
    }
  }

  std::span<const std::byte> bytes_;
  Cursor cursor_;
  GgufFile file_;
  std::vector<Place> places_;  // in the file's order
};

}  // namespace

std::string GgufFile::architecture() const {
  return get_string(values, "general.architecture", required, name);
}

std::vector<std::string_view> GgufFile::texts(const std::string& key) const {
  const auto it = arrays.find(key);
  if (it == arrays.end() || it->second.type != GgufType::text) {
    fail("{}: {} {}; an array of strings is needed", name, key,
         it == arrays.end() ? "is missing" : "is of another type");
  }
  Cursor cursor(it->second.bytes, name);
  std::vector<std::string_view> texts;
  for (std::uint64_t i = 0; i < it->second.count; ++i) texts.push_back(cursor.text(key));
  return texts;
}

std::vector<std::int64_t> GgufFile::integers(const std::string& key) const {
  std::vector<std::int64_t> numbers;
  const auto it = arrays.find(key);
  if (it == arrays.end()) return numbers;
  const GgufArray& array = it->second;
  if (!is_integer(array.type)) fail("{}: {} must be an array of integers", name, key);
  const std::size_t size = size_of(array.type);
  for (std::uint64_t i = 0; i < array.count; ++i) {
    const auto number =
        integer_of(number_at(array.type, array.bytes.subspan(static_cast<std::size_t>(i) * size, size)));
    if (!number) fail("{}: {}[{}] is out of range", name, key, i);
    numbers.push_back(*number);
  }
  return numbers;
}

bool is_gguf(std::span<const std::byte> bytes) {
  return bytes.size() >= kMagic.size() && std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) == 0;
}

bool is_gguf_file(const std::string& path) {
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(path, ignored)) return false;  // reading from a pipe would take from it
  std::ifstream file(path, std::ios::binary);
  std::array<char, kMagic.size()> start{};
  return file.read(start.data(), start.size()) && std::string_view(start.data(), start.size()) == kMagic;
}

GgufFile read_gguf(const std::string& path) {
  const auto file = MmapFile::open(path);
  GgufFile result = read_gguf(file->bytes(), file, path);
  result.file = file;
  return result;
}

GgufFile read_gguf(std::span<const std::byte> bytes, std::shared_ptr<const void> owner, const std::string& name) {
  return Reader(bytes, std::move(owner), name).read();
}

}  // namespace molt
