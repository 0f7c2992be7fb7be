#include <cstring>

#include "base/parallel.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/grain.h"
#include "kernels/cpu/quantized_panels.h"
#include "kernels/cpu/select.h"
#include "kernels/shapes.h"

namespace molt {

void CpuBackend::embed(const Tensor& table, std::span<const TokenId> ids, Matrix<float> y) const {
  shapes::check_embed(table, ids, y);
  const Kernels& kernels = select_kernels();
  const std::int64_t row_bytes = y.cols * size_of(table.dtype());
  parallel_for(y.rows, grain_for(4 * y.cols), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t) {
      const std::byte* row = table.data() + ids[static_cast<std::size_t>(t)] * row_bytes;
      if (table.dtype() == DType::f32) {
        std::memcpy(y.row(t), row, static_cast<std::size_t>(row_bytes));
      } else if (table.dtype() == DType::f16) {
        kernels.f16_to_f32(row, y.row(t), y.cols);
      } else {
        kernels.bf16_to_f32(row, y.row(t), y.cols);
      }
    }
  });
}

void CpuBackend::embed(const PackedMatrix& table, std::span<const TokenId> ids, Matrix<float> y) const {
  shapes::check_embed(table, ids, y);
  const auto* panels = dynamic_cast<const QuantizedPanels*>(&table);
  MOLT_CHECK(panels != nullptr);      // packed by this backend
  constexpr std::int64_t kCost = 40;  // of an element: alone in its cache line, nearly
  parallel_for(y.rows, grain_for(kCost * y.cols), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t) panels->read_row(ids[static_cast<std::size_t>(t)], y.row(t));
  });
}

}  // namespace molt
