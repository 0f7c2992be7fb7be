#include "kernels/cuda/step_product.h"

#include "kernels/cuda/coded_product.h"
#include "kernels/cuda/matmul_few.h"
#include "kernels/cuda/matmul_stream.h"
#include "kernels/cuda/matmul_tiles.h"
#include "kernels/cuda/narrow_rows.h"

namespace molt::cuda {

void step_product(const Context& context, const __nv_bfloat16* x, std::int64_t rows, const PackedMatrix& w,
                  const StepOutput& out, const StateShift& shift) {
  if (const CodedRows* const coded = CodedRows::of(w)) {
    return coded_product({x, w.in_features()}, rows, *coded, out, shift);
  }
  const PackedRows& packed = PackedRows::of(w);
  if (can_stream(context, rows, packed)) {
    stream_product(context, x, rows, packed, 0, out, shift);
  } else if (are_few(rows, packed)) {
    few_rows({x, packed.stride()}, rows, packed, out, shift);
  } else {
    tile_product(context, x, rows, packed, out, shift);
  }
}

void step_product(const Context& context, const LayerStream& stream, const float* norm, float eps,
                  __nv_bfloat16* normed, const PackedMatrix& w, const StepOutput& out) {
  const Matrix<float> x = stream.residual;
  if (const auto* const packed = dynamic_cast<const PackedRows*>(&w); packed != nullptr && !stream.h_pending) {
    if (can_stream_norm(context, x.rows, *packed)) {
      return stream_product(context, NormedRows{{x.data, x.stride}, norm, eps}, x.rows, *packed, out);
    }
  }
  norm_stream(context, x, stream.h_pending ? &stream.h : nullptr, norm, eps, {normed, w.in_features()});
  step_product(context, normed, x.rows, w, out);
}

}  // namespace molt::cuda
