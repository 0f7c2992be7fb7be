#include "io/safetensors.h"

#include <algorithm>
#include <array>
#include <optional>
#include <set>
#include <string_view>

#include "base/atomic_file.h"
#include "base/fail.h"
#include "base/mmap_file.h"
#include "io/json_file.h"
#include "io/untrusted.h"

namespace molt {
namespace {

constexpr std::size_t kLengthWord = 8;
constexpr std::uint64_t kMaxHeader = 100'000'000;  // the official reader's limit
constexpr const char* kMetadata = "__metadata__";

struct NamedDType {
  std::string_view name;
  DType dtype;
};
constexpr std::array<NamedDType, 10> kDTypes = {{{"F32", DType::f32},
                                                 {"F16", DType::f16},
                                                 {"BF16", DType::bf16},
                                                 {"F64", DType::f64},
                                                 {"I64", DType::i64},
                                                 {"I32", DType::i32},
                                                 {"I16", DType::i16},
                                                 {"I8", DType::i8},
                                                 {"U8", DType::u8},
                                                 {"BOOL", DType::boolean}}};

/// An entry of the header, its sizes checked.
struct Entry {
  DType dtype = DType::f32;
  Shape shape;
  std::int64_t begin = 0;  // offsets into the data
  std::int64_t end = 0;
};

/// Reads and checks the entries of one file's header.
class HeaderReader {
 public:
  HeaderReader(const std::string& file, std::size_t data_size) : file_(file), data_size_(data_size) {}

  Entry entry(const std::string& name, const Json& value) const {
    const std::string tensor = quote(name);
    if (!value.is_object())
      fail("{}: the entry of tensor {} must be an object, not {}", file_, tensor, describe(value));
    for (const char* key : {"dtype", "shape", "data_offsets"}) {
      if (!value.contains(key)) fail("{}: tensor {} has no \"{}\"", file_, tensor, key);
    }
    Entry entry;
    entry.dtype = dtype(tensor, value["dtype"]);
    entry.shape = integers(tensor, "shape", value["shape"]);
    const Shape offsets = integers(tensor, "data_offsets", value["data_offsets"]);
    if (offsets.size() != 2) fail("{}: \"data_offsets\" of tensor {} must hold two numbers", file_, tensor);
    entry.begin = offsets[0];
    entry.end = offsets[1];
    check_extent(tensor, entry);
    return entry;
  }

 private:
  DType dtype(const std::string& tensor, const Json& value) const {
    if (!value.is_string()) fail("{}: \"dtype\" of tensor {} must be a string, not {}", file_, tensor, describe(value));
    const auto& name = value.get_ref<const std::string&>();
    std::string known;
    for (const NamedDType& candidate : kDTypes) {
      if (candidate.name == name) return candidate.dtype;
      known += fmt::format("{}{}", known.empty() ? "" : ", ", candidate.name);
    }
    fail("{}: tensor {} has the dtype {}; molt reads {}: convert it first", file_, tensor, quote(name), known);
  }

  Shape integers(const std::string& tensor, const char* key, const Json& value) const {
    if (!value.is_array())
      fail("{}: \"{}\" of tensor {} must be an array, not {}", file_, key, tensor, describe(value));
    Shape result;
    for (const Json& item : value) {
      const auto number = item.is_number_integer() ? integer_of(item) : std::nullopt;
      if (!number || *number < 0) {
        fail("{}: \"{}\" of tensor {} must hold non-negative integers, not {}", file_, key, tensor, describe(item));
      }
      result.push_back(*number);
    }
    return result;
  }

  void check_extent(const std::string& tensor, const Entry& entry) const {
    if (entry.begin > entry.end || static_cast<std::uint64_t>(entry.end) > data_size_) {
      fail(
          "{}: tensor {} claims the bytes [{}, {}) of {} bytes of data: the file is truncated or corrupt; fetch it "
          "again",
          file_, tensor, entry.begin, entry.end, data_size_);
    }
    const auto bytes = checked_bytes(entry.shape, entry.dtype);
    if (!bytes) fail("{}: tensor {} has the impossible shape {}", file_, tensor, to_string(entry.shape));
    if (*bytes != entry.end - entry.begin) {
      fail("{}: tensor {} of shape {} and dtype {} needs {} bytes, but data_offsets [{}, {}] give it {}", file_, tensor,
           to_string(entry.shape), name_of(entry.dtype), *bytes, entry.begin, entry.end, entry.end - entry.begin);
    }
  }

  const std::string& file_;
  std::uint64_t data_size_;
};

/// The header's text; checks the length word.
std::string_view header_text(std::span<const std::byte> bytes, const std::string& name) {
  if (bytes.size() < kLengthWord) {
    fail("{}: {} bytes are too few for a safetensors file; fetch it again", name, bytes.size());
  }
  const auto length = load_little_endian<std::uint64_t>(bytes, 0);
  if (length > kMaxHeader) {
    fail("{}: not a safetensors file (its header would take {} bytes; at most {} are allowed)", name, length,
         kMaxHeader);
  }
  if (length > bytes.size() - kLengthWord) {
    fail("{}: the header takes {} bytes, but the file has {}: it is truncated or no safetensors file; fetch it again",
         name, length, bytes.size());
  }
  return {reinterpret_cast<const char*>(bytes.data()) + kLengthWord, static_cast<std::size_t>(length)};
}

std::map<std::string, std::string> read_metadata(const Json& value, const std::string& name) {
  std::map<std::string, std::string> metadata;
  if (value.is_null()) return metadata;
  if (!value.is_object()) fail("{}: \"{}\" must be an object, not {}", name, kMetadata, describe(value));
  for (const auto& [key, text] : value.items()) {
    if (!text.is_string()) {
      fail("{}: {} in \"{}\" must be a string, not {}", name, quote(key), kMetadata, describe(text));
    }
    metadata[key] = text.get<std::string>();
  }
  return metadata;
}

/// The tensors must cover the data without holes or overlaps, as the format demands: nothing can hide between them.
void check_coverage(const std::map<std::string, Entry>& entries, std::size_t data_size, const std::string& name) {
  std::vector<const std::pair<const std::string, Entry>*> order;
  for (const auto& entry : entries) order.push_back(&entry);
  std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
    return std::pair(a->second.begin, a->second.end) < std::pair(b->second.begin, b->second.end);
  });
  std::int64_t covered = 0;
  for (const auto* item : order) {
    const auto& [tensor, entry] = *item;
    if (entry.begin != covered) {
      fail("{}: tensor {} begins at byte {} of the data, but the one before it ends at {}: {} are not allowed", name,
           quote(tensor), entry.begin, covered, entry.begin < covered ? "overlaps" : "holes");
    }
    covered = entry.end;
  }
  if (static_cast<std::uint64_t>(covered) != data_size) {
    fail("{}: the tensors take {} bytes of data, but the file has {}: it is corrupt; fetch it again", name, covered,
         data_size);
  }
}

}  // namespace

SafetensorsFile read_safetensors(std::span<const std::byte> bytes, const std::shared_ptr<const void>& owner,
                                 const std::string& name) {
  const std::string_view text = header_text(bytes, name);
  const auto data = bytes.subspan(kLengthWord + text.size());
  const JsonOptions strict{.max_depth = 8, .non_finite = false, .duplicate_keys = false};
  const Json header = parse_json(text, name + " (header)", strict);
  if (!header.is_object()) fail("{}: the header must be a JSON object, not {}", name, describe(header));

  SafetensorsFile file;
  std::map<std::string, Entry> entries;
  const HeaderReader reader(name, data.size());
  for (const auto& [key, value] : header.items()) {
    if (key == kMetadata) {
      file.metadata = read_metadata(value, name);
    } else {
      entries.emplace(key, reader.entry(key, value));
    }
  }
  check_coverage(entries, data.size(), name);
  for (auto& [tensor, entry] : entries) {
    const auto view =
        data.subspan(static_cast<std::size_t>(entry.begin), static_cast<std::size_t>(entry.end - entry.begin));
    file.tensors.emplace(tensor, aligned_view(entry.dtype, std::move(entry.shape), view, owner));
  }
  return file;
}

SafetensorsFile read_safetensors(const std::string& path) {
  const auto file = MmapFile::open(path);
  return read_safetensors(file->bytes(), file, path);
}

void write_safetensors(const std::string& path, const std::vector<std::pair<std::string, Tensor>>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  auto header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header[kMetadata] = metadata;
  std::int64_t offset = 0;
  std::set<std::string_view> names;
  for (const auto& [name, tensor] : tensors) {
    MOLT_CHECK(name != kMetadata && names.insert(name).second);
    const auto* dtype = std::find_if(kDTypes.begin(), kDTypes.end(),
                                     [&tensor = tensor](const NamedDType& d) { return d.dtype == tensor.dtype(); });
    MOLT_CHECK(dtype != kDTypes.end());
    const std::int64_t end = offset + tensor.bytes();
    header.push_back({name, {{"dtype", dtype->name}, {"shape", tensor.shape()}, {"data_offsets", {offset, end}}}});
    offset = end;
  }
  std::string text = header.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  text.resize((text.size() + 7) / 8 * 8, ' ');

  AtomicFile file(path);
  std::array<std::byte, kLengthWord> length{};
  for (std::size_t i = 0; i < length.size(); ++i) length[i] = static_cast<std::byte>((text.size() >> (8 * i)) & 0xff);
  file.write(length);
  file.write(text);
  for (const auto& [name, tensor] : tensors) {
    file.write(std::span<const std::byte>(tensor.data(), static_cast<std::size_t>(tensor.bytes())));
  }
  file.commit();
}

}  // namespace molt
