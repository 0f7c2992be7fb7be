// WriteMaps: the write maps of a surrogate schedule, as a safetensors file holds them.
//
// A map is known by the rule of the schedule that uses it, the block `from` before which its tokens left the stream,
// the block `to` whose state they write to, and a letter that tells full maps from lite ones. Tensors, with PREFIX =
// "RULE.FROM.TO.LETTER.":
//   PREFIX weight [outputs, d_model]  f32 or bf16
//   PREFIX bias   [outputs]           f32
//   PREFIX heads  [n]                 i32, ascending: heads whose x is written; absent for blocks without heads
#pragma once

#include <map>
#include <memory>
#include <string>
#include <tuple>

#include "io/safetensors.h"
#include "model/model.h"

namespace molt {

struct WriteMapKey {
  std::int64_t rule;
  std::int64_t from;
  std::int64_t to;
  char letter;
  auto operator<=>(const WriteMapKey&) const = default;  // NOLINT(modernize-use-nullptr): clang-tidy 14 misreads it
};

/// "0.13.20.W".
std::string to_string(const WriteMapKey& key);

/// A map as it is stored.
struct WriteMapTensors {
  Tensor weight;
  Tensor bias;
  std::vector<std::int64_t> heads;
};

class WriteMaps {
 public:
  /// Reads the maps of `path`, made for `model`. Throws Error when the file is broken, or belongs to another model.
  WriteMaps(const std::string& path, const ModelCore& model);

  /// The map, packed for the model; made when first asked for. Throws Error that lists those that there are.
  std::shared_ptr<const WriteMap> get(const WriteMapKey& key);

  /// Packs a map for a model, checking its shapes against the block that it writes to. `where` begins messages.
  static std::shared_ptr<const WriteMap> pack(const WriteMapTensors& tensors, const WriteMapKey& key,
                                              const ModelCore& model, const std::string& where);

  /// Throws Error when a file lies at `path` that holds no write maps, a model's weights, say: save() would replace it.
  static void check_replaceable(const std::string& path);

  /// Writes maps to a file (atomically), matrices in the model's dtype.
  static void save(const std::string& path, const std::map<WriteMapKey, WriteMapTensors>& maps, const ModelCore& model);

 private:
  std::string path_;
  const ModelCore& model_;
  SafetensorsFile file_;
  std::map<WriteMapKey, std::shared_ptr<const WriteMap>> packed_;
};

}  // namespace molt
