// Chooses between rows and chunks.
#include "kernels/cuda/ssd.h"

#include <limits>

#include "kernels/cuda/cuda_backend.h"

namespace molt {
namespace {

/// Up to so many rows the recurrence itself is faster than chunks.
constexpr int kMostStepRows = 8;

}  // namespace

void CudaBackend::ssd(Matrix<const float> x, Matrix<const float> dt, std::span<const float> A, Matrix<const float> B,
                      Matrix<const float> C, std::int64_t groups, std::span<const float> D, const ScanRows& rows,
                      Matrix<float> y) const {
  const shapes::SsdShape shape = shapes::check_ssd(x, dt, A, B, C, groups, D, rows, y);
  if (x.rows == 0 || x.cols == 0) return;
  cuda::Context& context = cuda::Context::get();
  context.leave_scan(nullptr);
  if (!cuda::can_step(static_cast<int>(shape.states))) {
    return StagedBackend::ssd(x, dt, A, B, C, groups, D, rows, y);
  }
  const auto hand_over = [&](auto* numbers) {
    return numbers == nullptr ? nullptr : context.hand_over(numbers, x.rows);
  };
  const cuda::Ssd call{x,
                       dt,
                       A.data(),
                       B,
                       C,
                       D.empty() ? nullptr : D.data(),
                       hand_over(rows.multiplicity),
                       hand_over(rows.wanted),
                       y,
                       static_cast<int>(shape.heads),
                       static_cast<int>(shape.channels),
                       static_cast<int>(shape.states),
                       static_cast<int>(shape.groups)};
  const bool rounded = !rows.rounded.empty();
  const bool narrow = precision_ == DType::bf16;
  const int most_steps = cuda::can_chunk(context, call, narrow) ? kMostStepRows : std::numeric_limits<int>::max();
  cuda::for_tables(rows, [&](const cuda::SequenceTable& table, int longest) {
    bool any_short = false;
    for (int s = 0; s < table.count; ++s) any_short |= table.length(s) > 0 && table.length(s) <= most_steps;
    if (any_short) cuda::ssd_steps(context, table, call, rounded, most_steps);
    if (longest > most_steps) cuda::ssd_chunks(context, table, call, rounded, narrow, most_steps);
  });
}

}  // namespace molt
