#include "token_rows.h"

#include "base/fail.h"

namespace molt::cli {

std::vector<std::vector<TokenId>> token_rows(const SafetensorsFile& file, const std::string& name,
                                             const std::string& path) {
  const auto it = file.tensors.find(name);
  if (it == file.tensors.end()) {
    fail("{}: holds no tensor {}; it must be i32 or i64, [sequences, length]", path, name);
  }
  const Tensor& tensor = it->second;
  if (tensor.shape().empty() || tensor.shape().size() > 2 ||
      (tensor.dtype() != DType::i64 && tensor.dtype() != DType::i32)) {
    fail("{}: {} is {} {}; it must be i32 or i64, [sequences, length] or [length]", path, name, name_of(tensor.dtype()),
         to_string(tensor.shape()));
  }
  const std::int64_t length = tensor.shape().back();
  std::vector<std::vector<TokenId>> rows;
  for (std::int64_t at = 0; at < tensor.size(); at += length) {
    std::vector<TokenId>& row = rows.emplace_back();
    for (std::int64_t i = at; i < at + length; ++i) {
      const std::int64_t id =
          tensor.dtype() == DType::i64 ? tensor.as<std::int64_t>()[i] : tensor.as<std::int32_t>()[i];
      if (id < 0 || id > INT32_MAX) fail("{}: {} holds {}, which is no token id", path, name, id);
      row.push_back(static_cast<TokenId>(id));
    }
  }
  return rows;
}

}  // namespace molt::cli
