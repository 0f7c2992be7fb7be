#include "io/torch_zip.h"

#include <array>
#include <cstdint>
#include <cstring>
#include <optional>
#include <set>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/fail.h"
#include "base/mmap_file.h"
#include "io/unpickler.h"
#include "io/untrusted.h"
#include "io/zip_archive.h"

namespace molt {
namespace {

using Kind = PickleNode::Kind;
using Bytes = std::span<const std::byte>;

constexpr std::string_view kPickle = "data.pkl";
constexpr std::string_view kTensor = "torch._utils._rebuild_tensor_v2";
constexpr std::string_view kParameter = "torch._utils._rebuild_parameter";
constexpr std::size_t kMaxRank = 64;  // PyTorch's own limit

struct StorageType {
  std::string_view name;
  DType dtype;
};
constexpr std::array<StorageType, 10> kStorageTypes = {{{"torch.FloatStorage", DType::f32},
                                                        {"torch.HalfStorage", DType::f16},
                                                        {"torch.BFloat16Storage", DType::bf16},
                                                        {"torch.DoubleStorage", DType::f64},
                                                        {"torch.LongStorage", DType::i64},
                                                        {"torch.IntStorage", DType::i32},
                                                        {"torch.ShortStorage", DType::i16},
                                                        {"torch.CharStorage", DType::i8},
                                                        {"torch.ByteStorage", DType::u8},
                                                        {"torch.BoolStorage", DType::boolean}}};

const std::set<std::string, std::less<>>& allowed_globals() {
  static const std::set<std::string, std::less<>> globals = [] {
    std::set<std::string, std::less<>> names = {std::string(kTensor), std::string(kParameter),
                                                "torch.serialization._get_layout"};
    for (const StorageType& type : kStorageTypes) names.emplace(type.name);
    return names;
  }();
  return globals;
}

/// A tensor as the pickle describes it, not yet checked against its storage. Counts are in elements.
struct Layout {
  DType dtype = DType::f32;
  Bytes storage;
  std::int64_t storage_size = 0;
  std::int64_t offset = 0;
  Shape shape;
  Shape strides;
};

bool is_row_major(const Layout& layout) {
  std::int64_t expected = 1;
  for (std::size_t i = layout.shape.size(); i-- > 0;) {
    if (layout.shape[i] == 1) continue;
    if (layout.strides[i] != expected) return false;
    expected *= layout.shape[i];
  }
  return true;
}

/// Copies the elements that `layout` strides over into a contiguous tensor. Bounds have been checked.
Tensor gather(const Layout& layout) {
  Tensor result = Tensor::zeros(layout.dtype, layout.shape);
  const std::int64_t element = size_of(layout.dtype);
  const std::size_t rank = layout.shape.size();
  Shape index(rank, 0);
  std::int64_t source = layout.offset;
  const std::int64_t count = result.size();
  for (std::int64_t i = 0; i < count; ++i) {
    std::memcpy(result.data() + i * element, layout.storage.data() + source * element,
                static_cast<std::size_t>(element));
    for (std::size_t axis = rank; axis-- > 0;) {  // the next index, the last axis running fastest
      if (layout.shape[axis] == 1) continue;      // its stride means nothing and may be anything
      source += layout.strides[axis];
      if (++index[axis] < layout.shape[axis]) break;
      source -= layout.strides[axis] * layout.shape[axis];
      index[axis] = 0;
    }
  }
  return result;
}

/// Turns the pickle of one archive into tensors.
class StateDictReader {
 public:
  StateDictReader(const ZipEntries& entries, std::string prefix, std::size_t file_size,
                  std::shared_ptr<const void> owner, const std::string& file)
      : entries_(entries),
        prefix_(std::move(prefix)),
        // Strided tensors are copied; no real file needs more than a copy of each of its storages.
        copy_budget_(static_cast<std::int64_t>(file_size)),
        owner_(std::move(owner)),
        file_(file),
        graph_(unpickle(entries.at(prefix_ + std::string(kPickle)), allowed_globals(),
                        file + ", " + std::string(kPickle))) {}

  std::map<std::string, Tensor> read() {
    const PickleNode& dict = find_state_dict();
    std::map<std::string, Tensor> tensors;
    for (std::size_t i = 0; i + 1 < dict.items.size(); i += 2) {
      const PickleNode& key = graph_[dict.items[i]];
      if (key.kind == Kind::text && is_tensor(dict.items[i + 1]))
        tensors[key.text] = tensor(key.text, dict.items[i + 1]);
    }
    return tensors;
  }

 private:
  // --- the shape of the pickle

  bool is_call_of(PickleId id, std::string_view function) const {
    const PickleNode& node = graph_[id];
    return node.kind == Kind::call && graph_[node.items[0]].text == function;
  }
  bool is_tensor(PickleId id) const { return is_call_of(id, kTensor) || is_call_of(id, kParameter); }
  const std::vector<PickleId>& arguments(PickleId call) const { return graph_[graph_[call].items[1]].items; }

  /// The dict of tensors: the root, or what it holds under one of the usual keys, which may itself hold one.
  const PickleNode& find_state_dict() const {
    constexpr int kMaxNesting = 3;
    const PickleNode* dict = &graph_[graph_.root];
    for (int depth = 0; depth < kMaxNesting && dict != nullptr && dict->kind == Kind::dict; ++depth) {
      for (std::size_t i = 1; i < dict->items.size(); i += 2) {
        if (is_tensor(dict->items[i])) return *dict;
      }
      dict = inner_dict(*dict);
    }
    fail(
        "{}: holds no dict of tensors, neither at its top nor under \"state_dict\", \"model\" or \"module\"; save "
        "model.state_dict() with torch.save",
        file_);
  }

  const PickleNode* inner_dict(const PickleNode& dict) const {
    for (const std::string_view wanted : {"state_dict", "model", "module"}) {
      for (std::size_t i = 0; i + 1 < dict.items.size(); i += 2) {
        const PickleNode& key = graph_[dict.items[i]];
        const PickleNode& value = graph_[dict.items[i + 1]];
        if (key.kind == Kind::text && key.text == wanted && value.kind == Kind::dict) return &value;
      }
    }
    return nullptr;
  }

  // --- one tensor

  [[noreturn]] void malformed(const std::string& name, std::string_view what) const {
    fail("{}: tensor {}: {}", file_, quote(name), what);
  }

  std::int64_t integer(const std::string& name, PickleId id, std::string_view what) const {
    const PickleNode& node = graph_[id];
    if (node.kind != Kind::integer || node.integer < 0) malformed(name, fmt::format("not a count in its {}", what));
    return node.integer;
  }

  Shape integers(const std::string& name, PickleId id, std::string_view what) const {
    const PickleNode& node = graph_[id];
    if (node.kind != Kind::tuple) malformed(name, fmt::format("its {} is no tuple", what));
    if (node.items.size() > kMaxRank) malformed(name, fmt::format("its {} has {} axes", what, node.items.size()));
    Shape result;
    for (const PickleId item : node.items) result.push_back(integer(name, item, what));
    return result;
  }

  Tensor tensor(const std::string& name, PickleId id) {
    if (is_call_of(id, kParameter)) {
      const auto& wrapped = arguments(id);
      if (wrapped.empty() || !is_call_of(wrapped[0], kTensor)) malformed(name, "a parameter of something else");
      id = wrapped[0];
    }
    const auto known = made_.find(id);
    if (known != made_.end()) return known->second;
    return made_.emplace(id, view(name, layout(name, id))).first->second;
  }

  /// Arguments of _rebuild_tensor_v2: storage, offset, shape, strides, requires_grad, hooks and, since 2.0, metadata.
  Layout layout(const std::string& name, PickleId id) const {
    const auto& args = arguments(id);
    if (args.size() < 6 || args.size() > 7) malformed(name, fmt::format("made of {} arguments", args.size()));
    const bool plain = args.size() == 6 || graph_[args[6]].kind == Kind::none || graph_[args[6]].items.empty();
    if (!plain) malformed(name, "a conjugated, negated or otherwise marked view; save a clone() of it");
    Layout layout = storage(name, graph_[args[0]]);
    layout.offset = integer(name, args[1], "storage offset");
    layout.shape = integers(name, args[2], "shape");
    layout.strides = integers(name, args[3], "strides");
    if (layout.shape.size() != layout.strides.size()) malformed(name, "shape and strides of different length");
    return layout;
  }

  /// A storage's persistent id: ("storage", type, key, device, count of elements).
  Layout storage(const std::string& name, const PickleNode& node) const {
    if (node.kind != Kind::persistent) malformed(name, "no storage");
    const PickleNode& id = graph_[node.items[0]];
    const bool well_formed = id.kind == Kind::tuple && id.items.size() >= 5 && graph_[id.items[0]].kind == Kind::text &&
                             graph_[id.items[0]].text == "storage" && graph_[id.items[1]].kind == Kind::global &&
                             graph_[id.items[2]].kind == Kind::text;
    if (!well_formed) malformed(name, "a storage of unknown form");
    Layout layout;
    layout.dtype = dtype(name, graph_[id.items[1]].text);
    layout.storage_size = integer(name, id.items[4], "storage size");
    const std::string entry = prefix_ + "data/" + graph_[id.items[2]].text;
    const auto it = entries_.find(entry);
    if (it == entries_.end()) {
      malformed(name, fmt::format("its storage {} is not in the archive: save it again", quote(entry)));
    }
    layout.storage = it->second;
    const auto bytes = checked_product(layout.storage_size, size_of(layout.dtype));
    if (!bytes || static_cast<std::uint64_t>(*bytes) > layout.storage.size()) {
      malformed(name, fmt::format("its storage {} holds {} bytes, not {} elements of {}: fetch the file again",
                                  quote(entry), layout.storage.size(), layout.storage_size, name_of(layout.dtype)));
    }
    return layout;
  }

  DType dtype(const std::string& name, const std::string& storage_type) const {
    for (const StorageType& type : kStorageTypes) {
      if (type.name == storage_type) return type.dtype;
    }
    malformed(name, fmt::format("{} is no storage type", quote(storage_type)));
  }

  /// The tensor of `layout`, once it is known to lie within its storage.
  Tensor view(const std::string& name, Layout layout) {
    const auto bytes = checked_bytes(layout.shape, layout.dtype);
    if (!bytes) malformed(name, fmt::format("the impossible shape {}", to_string(layout.shape)));
    if (*bytes == 0) {
      return {layout.dtype, std::move(layout.shape), const_cast<std::byte*>(layout.storage.data()), owner_};
    }
    check_reach(name, layout);
    const bool contiguous = is_row_major(layout);
    const auto data = layout.storage.subspan(static_cast<std::size_t>(layout.offset * size_of(layout.dtype)));
    const bool aligned =
        reinterpret_cast<std::uintptr_t>(data.data()) % static_cast<std::uintptr_t>(size_of(layout.dtype)) == 0;
    if (!(contiguous && aligned)) charge_copy(name, layout, *bytes);
    if (!contiguous) return gather(layout);
    return aligned_view(layout.dtype, std::move(layout.shape), data.first(static_cast<std::size_t>(*bytes)), owner_);
  }

  /// The last element must lie within the storage. No extent is 0 here.
  void check_reach(const std::string& name, const Layout& layout) const {
    std::optional<std::int64_t> last = layout.offset;
    for (std::size_t i = 0; i < layout.shape.size() && last; ++i) {
      const auto step = checked_product(layout.shape[i] - 1, layout.strides[i]);
      std::int64_t sum = 0;
      last = step && !__builtin_add_overflow(*last, *step, &sum) ? std::optional(sum) : std::nullopt;
    }
    if (!last || *last >= layout.storage_size) {
      malformed(name,
                fmt::format("offset {}, shape {} and strides {} reach beyond its storage of {} elements", layout.offset,
                            to_string(layout.shape), to_string(layout.strides), layout.storage_size));
    }
  }

  /// Bounds what a small file can make molt allocate: a stride of 0 turns one element into any number.
  void charge_copy(const std::string& name, const Layout& layout, std::int64_t bytes) {
    if (bytes > copy_budget_) {
      malformed(name, fmt::format("shape {} with strides {} would be copied to {} bytes, more than the file can stand "
                                  "for; save contiguous() tensors",
                                  to_string(layout.shape), to_string(layout.strides), bytes));
    }
    copy_budget_ -= bytes;
  }

  const ZipEntries& entries_;
  std::string prefix_;  // of the archive's names, with its slash
  std::int64_t copy_budget_;
  std::shared_ptr<const void> owner_;
  const std::string& file_;
  PickleGraph graph_;
  std::unordered_map<PickleId, Tensor> made_;  // one tensor under several names is made once
};

void check_is_zip(Bytes bytes, const std::string& name) {
  if (bytes.size() >= 2 && std::memcmp(bytes.data(), "PK", 2) == 0) return;
  const bool pickle = bytes.size() >= 2 && bytes[0] == std::byte{0x80} && bytes[1] <= std::byte{5};
  if (pickle) {
    fail(
        "{}: written by PyTorch before 1.6, or with _use_new_zipfile_serialization=False, or a plain pickle; load it "
        "with torch.load(FILE, weights_only=True) and save it again with torch.save or safetensors.torch.save_file",
        name);
  }
  fail("{}: no PyTorch checkpoint: it does not begin as a zip archive does ({} bytes); fetch it again", name,
       bytes.size());
}

/// "NAME/" of the one entry "NAME/data.pkl".
std::string find_prefix(const ZipEntries& entries, const std::string& name) {
  std::vector<std::string> prefixes;
  for (const auto& [entry, data] : entries) {
    const std::size_t slash = entry.find('/');
    if (slash != std::string::npos && entry.substr(slash + 1) == kPickle)
      prefixes.push_back(entry.substr(0, slash + 1));
  }
  if (prefixes.empty()) {
    fail("{}: a zip archive without NAME/data.pkl, so not one of torch.save; save model.state_dict() with torch.save",
         name);
  }
  if (prefixes.size() > 1) {
    fail("{}: holds several pickles (data.pkl in {} and in {}): which one counts?", name, quote(prefixes[0]),
         quote(prefixes[1]));
  }
  if (entries.contains(prefixes[0] + "constants.pkl")) {
    fail("{}: a TorchScript program; molt runs none: save the model's state_dict() with torch.save", name);
  }
  return prefixes[0];
}

void check_byte_order(const ZipEntries& entries, const std::string& prefix, const std::string& name) {
  const auto it = entries.find(prefix + "byteorder");
  if (it == entries.end()) return;
  const std::string_view order(reinterpret_cast<const char*>(it->second.data()), it->second.size());
  if (order != "little") {
    fail("{}: its byte order is {}; molt reads little-endian files: save it again on such a machine", name,
         quote(order));
  }
}

}  // namespace

std::map<std::string, Tensor> read_torch_zip(std::span<const std::byte> bytes, std::shared_ptr<const void> owner,
                                             const std::string& name) {
  check_is_zip(bytes, name);
  const ZipEntries entries = read_zip(bytes, name);
  std::string prefix = find_prefix(entries, name);
  check_byte_order(entries, prefix, name);
  return StateDictReader(entries, std::move(prefix), bytes.size(), std::move(owner), name).read();
}

std::map<std::string, Tensor> read_torch_zip(const std::string& path) {
  const auto file = MmapFile::open(path);
  return read_torch_zip(file->bytes(), file, path);
}

}  // namespace molt
