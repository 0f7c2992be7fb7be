// Short sequences run row by row. Longer ones run in chunks, in two passes: what all heads of a group share (B
// transposed and C B^T, of every chunk), then every head through its chunks.
#include <algorithm>
#include <vector>

#include "base/parallel.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/grain.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/select.h"
#include "kernels/shapes.h"

namespace molt {
namespace {

/// Up to so many rows the recurrence itself is faster than chunks.
constexpr std::int64_t kMaxStepRows = 6;

/// Rows of a batch whose shared parts are held at a time (whole sequences, at least one).
constexpr std::int64_t kMaxPreparedRows = 8192;

/// One call's arguments and the shared parts of the sequences at hand.
class Ssd {
 public:
  Matrix<const float> x, dt;
  std::span<const float> A;
  Matrix<const float> B, C;
  std::span<const float> D;
  const float* m;
  Offsets offsets;
  std::span<float* const> states;
  Matrix<float> y;
  shapes::SsdShape shape;
  const Kernels& kernels;

  /// Runs sequences [begin, end).
  void run(std::size_t begin, std::size_t end) const {
    thread_local Scratch prepared_scratch;
    thread_local std::vector<Chunk> chunks;
    thread_local std::vector<std::int64_t> first_chunks;
    chunks.clear();
    first_chunks.clear();
    for (std::size_t s = begin; s < end; ++s) {
      first_chunks.push_back(static_cast<std::int64_t>(chunks.size()));
      if (!in_chunks(s)) continue;
      for (std::int64_t row = offsets[s]; row < offsets[s + 1]; row += kSsdChunk) {
        chunks.push_back({row, std::min(kSsdChunk, offsets[s + 1] - row)});
      }
    }
    const auto count = static_cast<std::int64_t>(chunks.size());
    float* prepared = prepared_scratch.get(count * shape.groups * ssd_prepared_size(shape.states));
    prepare(chunks, prepared);
    // Captured by reference from this thread: the workers have thread_local vectors of their own.
    const std::int64_t* first = first_chunks.data();
    const auto sequences = static_cast<std::int64_t>(end - begin);
    const std::int64_t mean_rows = (offsets[end] - offsets[begin]) / std::max<std::int64_t>(1, sequences);
    const std::int64_t cost = 4 * shape.states * shape.channels * mean_rows;
    parallel_for(sequences * shape.heads, grain_for(cost), [&](std::int64_t from, std::int64_t to) {
      for (std::int64_t i = from; i < to; ++i) {
        const std::int64_t s = i / shape.heads;
        run_head(begin + static_cast<std::size_t>(s), i % shape.heads, prepared_part(prepared, first[s], 0));
      }
    });
  }

 private:
  struct Chunk {
    std::int64_t row, rows;
  };

  bool in_chunks(std::size_t s) const { return offsets[s + 1] - offsets[s] > kMaxStepRows; }

  float* prepared_part(float* prepared, std::int64_t chunk, std::int64_t group) const {
    return prepared + (chunk * shape.groups + group) * ssd_prepared_size(shape.states);
  }

  void prepare(std::span<const Chunk> chunks, float* prepared) const {
    const std::int64_t cost = kSsdChunk * kSsdChunk * shape.states;
    const std::int64_t parts = static_cast<std::int64_t>(chunks.size()) * shape.groups;
    parallel_for(parts, grain_for(cost), [&](std::int64_t from, std::int64_t to) {
      for (std::int64_t i = from; i < to; ++i) {
        const std::int64_t group = i % shape.groups;
        const Chunk& chunk = chunks[static_cast<std::size_t>(i / shape.groups)];
        kernels.ssd_prepare({
            .B = B.row(chunk.row) + group * shape.states,
            .B_stride = B.stride,
            .C = C.row(chunk.row) + group * shape.states,
            .C_stride = C.stride,
            .rows = chunk.rows,
            .states = shape.states,
            .prepared = prepared_part(prepared, i / shape.groups, group),
        });
      }
    });
  }

  void run_head(std::size_t s, std::int64_t h, const float* prepared) const {
    const std::int64_t first = offsets[s];
    const std::int64_t group = h / shape.heads_per_group();
    const std::int64_t column = h * shape.channels;
    SsdHead head{
        .x = x.row(first) + column,
        .x_stride = x.stride,
        .dt = dt.row(first) + h,
        .dt_stride = dt.stride,
        .A = A[static_cast<std::size_t>(h)],
        .B = B.row(first) + group * shape.states,
        .B_stride = B.stride,
        .C = C.row(first) + group * shape.states,
        .C_stride = C.stride,
        .D = D.empty() ? nullptr : D.data() + column,
        .m = m == nullptr ? nullptr : m + first,
        .state = states[s] + h * shape.states * shape.channels,
        .y = y.row(first) + column,
        .y_stride = y.stride,
        .rows = offsets[s + 1] - first,
        .channels = shape.channels,
        .states = shape.states,
        .prepared = prepared + group * ssd_prepared_size(shape.states),
        .prepared_stride = shape.groups * ssd_prepared_size(shape.states),
        .scratch = nullptr,
    };
    if (!in_chunks(s)) return kernels.ssd_steps(head);
    thread_local Scratch scratch;
    head.scratch = scratch.get(ssd_scratch_size(shape.states, shape.channels));
    kernels.ssd_chunks(head);
  }
};

}  // namespace

void CpuBackend::ssd(Matrix<const float> x, Matrix<const float> dt, std::span<const float> A, Matrix<const float> B,
                     Matrix<const float> C, std::int64_t groups, std::span<const float> D, const float* m,
                     Offsets offsets, std::span<float* const> states, Matrix<float> y) const {
  const shapes::SsdShape shape = shapes::check_ssd(x, dt, A, B, C, groups, D, offsets, states, y);
  const Ssd ssd{x, dt, A, B, C, D, m, offsets, states, y, shape, select_kernels()};
  for (std::size_t begin = 0, end; begin < states.size(); begin = end) {
    end = begin + 1;
    while (end < states.size() && offsets[end + 1] - offsets[begin] <= kMaxPreparedRows) ++end;
    ssd.run(begin, end);
  }
}

}  // namespace molt
