// Short sequences run row by row. Longer ones run in chunks, in two passes: what all heads of a group share (B
// transposed and C B^T, of every chunk), then every head through its chunks. Chunks that only write the state need no
// C B^T, and a head skips those of them in which its steps are zero. States in bfloat16 are stepped through by a single
// row as they lie; for several rows, some heads at a time are widened.
#include <algorithm>
#include <vector>

#include "base/parallel.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/grain.h"
#include "kernels/cpu/rounded_state.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/select.h"
#include "kernels/shapes.h"

namespace molt {
namespace {

/// Up to so many rows the recurrence itself is faster than chunks.
constexpr std::int64_t kMaxStepRows = 6;

/// Heads that a thread takes at a time: neighbours in the rows of x and y, which share B and C; their states must fit
/// the second-level cache together.
constexpr std::int64_t kHeadBlock = 8;

/// Rows of a batch whose shared parts are held at a time (whole sequences, at least one).
constexpr std::int64_t kMaxPreparedRows = 8192;

/// One call's arguments and the shared parts of the sequences at hand.
class Ssd {
 public:
  Matrix<const float> x, dt;
  std::span<const float> A;
  Matrix<const float> B, C;
  std::span<const float> D;
  const ScanRows& rows;
  Matrix<float> y;
  shapes::SsdShape shape;
  const Kernels& kernels;
  bool rounded;  // whether products are in bfloat16

  /// Runs sequences [begin, end).
  void run(std::size_t begin, std::size_t end) const {
    const Offsets offsets = rows.offsets;
    thread_local Scratch prepared_scratch;
    thread_local std::vector<Chunk> chunks;
    thread_local std::vector<std::int64_t> first_chunks;
    chunks.clear();
    first_chunks.clear();
    for (std::size_t s = begin; s < end; ++s) {
      first_chunks.push_back(static_cast<std::int64_t>(chunks.size()));
      if (!in_chunks(s)) continue;
      for (std::int64_t row = offsets[s]; row < offsets[s + 1]; row += kSsdChunk) {
        const std::int64_t end_row = std::min(row + kSsdChunk, offsets[s + 1]);
        chunks.push_back({row, end_row, any_wanted(row, end_row)});
      }
    }
    const auto count = static_cast<std::int64_t>(chunks.size());
    float* prepared = prepared_scratch.get(count * shape.groups * ssd_prepared_size(shape.states));
    prepare(chunks, prepared);
    // Captured by reference from this thread: the workers have thread_local vectors of their own.
    const std::int64_t* first = first_chunks.data();
    const Chunk* all = chunks.data();
    const auto sequences = static_cast<std::int64_t>(end - begin);
    const std::int64_t mean_rows = (offsets[end] - offsets[begin]) / std::max<std::int64_t>(1, sequences);
    const std::int64_t cost = 4 * shape.states * shape.channels * mean_rows;
    // A head is computed alone, so how many a thread takes changes no bit: as many as leave every thread two turns.
    const std::int64_t turn = std::min(kHeadBlock, sequences * shape.heads / (2 * num_threads()));
    parallel_for(sequences * shape.heads, std::max(turn, grain_for(cost)), [&](std::int64_t from, std::int64_t to) {
      while (from < to) {
        const std::int64_t s = from / shape.heads;
        const std::int64_t h = from - s * shape.heads;
        const std::int64_t heads = std::min(to - from, shape.heads - h);
        const std::int64_t end_chunk = s + 1 < sequences ? first[s + 1] : count;
        const std::span<const Chunk> own(all + first[s], all + end_chunk);
        run_heads(begin + static_cast<std::size_t>(s), h, h + heads, own, prepared_part(prepared, first[s], 0));
        from += heads;
      }
    });
  }

 private:
  struct Chunk {
    std::int64_t begin, end;  // rows
    bool wanted;              // whether y is, of any of them
  };

  bool in_chunks(std::size_t s) const { return rows.offsets[s + 1] - rows.offsets[s] > kMaxStepRows; }

  bool any_wanted(std::int64_t begin, std::int64_t end) const {
    return rows.wanted == nullptr || std::any_of(rows.wanted + begin, rows.wanted + end, [](auto w) { return w != 0; });
  }

  /// Whether rows [begin, end) leave the state of head h as it is.
  bool all_steps_zero(std::int64_t begin, std::int64_t end, std::int64_t h) const {
    for (std::int64_t t = begin; t < end; ++t) {
      if (dt(t, h) != 0) return false;
    }
    return true;
  }

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
        const SsdGroupChunk part{
            .B = B.row(chunk.begin) + group * shape.states,
            .B_stride = B.stride,
            .C = chunk.wanted ? C.row(chunk.begin) + group * shape.states : nullptr,
            .C_stride = C.stride,
            .rows = chunk.end - chunk.begin,
            .states = shape.states,
            .prepared = prepared_part(prepared, i / shape.groups, group),
        };
        kernels.ssd_prepare(part);
        if (rounded) kernels.ssd_round(part);
      }
    });
  }

  std::int64_t head_size() const { return shape.states * shape.channels; }

  /// Heads [begin, end) of sequence s; `prepared` is of the first of its chunks.
  void run_heads(std::size_t s, std::int64_t begin, std::int64_t end, std::span<const Chunk> chunks,
                 const float* prepared) const {
    if (rows.rounded.empty()) {
      run_heads_from(rows.states[s] + begin * head_size(), s, begin, end, chunks, prepared);
      return;
    }
    const RoundedState& state = rows.rounded[s];
    if (rows.offsets[s + 1] - rows.offsets[s] == 1) {
      for (std::int64_t h = begin; h < end; ++h) {
        SsdHead head = head_rows(nullptr, h, rows.offsets[s], rows.offsets[s + 1]);
        head.rounded = elements_at(state, h * head_size(), h * shape.channels);
        kernels.ssd_steps(head);
      }
      return;
    }
    thread_local Scratch scratch;
    float* wide = scratch.get((end - begin) * head_size());
    const auto columns = [&](std::int64_t h) {
      return RoundedColumns{state, h * head_size(), shape.channels, h * shape.channels, shape.channels, shape.states};
    };
    for (std::int64_t h = begin; h < end; ++h) columns(h).widen(kernels, wide + (h - begin) * head_size());
    run_heads_from(wide, s, begin, end, chunks, prepared);
    for (std::int64_t h = begin; h < end; ++h) columns(h).round_back(kernels, wide + (h - begin) * head_size());
  }

  /// The same; `states` is where the first of these heads has its own.
  void run_heads_from(float* states, std::size_t s, std::int64_t begin, std::int64_t end, std::span<const Chunk> chunks,
                      const float* prepared) const {
    const auto state_of = [&](std::int64_t h) { return states + (h - begin) * head_size(); };
    if (!in_chunks(s)) {
      for (std::int64_t h = begin; h < end; ++h) {
        kernels.ssd_steps(head_rows(state_of(h), h, rows.offsets[s], rows.offsets[s + 1]));
      }
      return;
    }
    thread_local Scratch scratch;
    // Chunks outermost: what a chunk's heads share stays in the cache, and so do the states of some heads.
    for (const Chunk& chunk : chunks) {
      for (std::int64_t h = begin; h < end; ++h) {
        if (!chunk.wanted && all_steps_zero(chunk.begin, chunk.end, h)) continue;
        SsdHead head = head_rows(state_of(h), h, chunk.begin, chunk.end);
        if (!chunk.wanted) head.y = nullptr;
        head.prepared = prepared + h / shape.heads_per_group() * ssd_prepared_size(shape.states);
        head.scratch = scratch.get(ssd_scratch_size(shape.states, shape.channels));
        rounded ? kernels.ssd_chunk_rounded(head) : kernels.ssd_chunk(head);
      }
      prepared += shape.groups * ssd_prepared_size(shape.states);
    }
  }

  /// Rows [begin, end) of head h, whose state is `state`.
  SsdHead head_rows(float* state, std::int64_t h, std::int64_t begin, std::int64_t end) const {
    const std::int64_t column = h * shape.channels;
    const std::int64_t group_column = h / shape.heads_per_group() * shape.states;
    return {
        .x = x.row(begin) + column,
        .x_stride = x.stride,
        .dt = dt.row(begin) + h,
        .dt_stride = dt.stride,
        .A = A[static_cast<std::size_t>(h)],
        .B = B.row(begin) + group_column,
        .B_stride = B.stride,
        .C = C.row(begin) + group_column,
        .C_stride = C.stride,
        .D = D.empty() ? nullptr : D.data() + column,
        .m = rows.multiplicity == nullptr ? nullptr : rows.multiplicity + begin,
        .wanted = rows.wanted == nullptr ? nullptr : rows.wanted + begin,
        .state = state,
        .rounded = {},
        .y = y.row(begin) + column,
        .y_stride = y.stride,
        .rows = end - begin,
        .channels = shape.channels,
        .states = shape.states,
        .prepared = nullptr,
        .scratch = nullptr,
    };
  }
};

}  // namespace

void CpuBackend::ssd(Matrix<const float> x, Matrix<const float> dt, std::span<const float> A, Matrix<const float> B,
                     Matrix<const float> C, std::int64_t groups, std::span<const float> D, const ScanRows& rows,
                     Matrix<float> y) const {
  const shapes::SsdShape shape = shapes::check_ssd(x, dt, A, B, C, groups, D, rows, y);
  const Kernels& kernels = select_kernels();
  const bool rounded =
      rounds_scans_ && kernels.ssd_chunk_rounded != nullptr && shape.states % 32 == 0 && shape.channels % 16 == 0;
  const Ssd ssd{x, dt, A, B, C, D, rows, y, shape, kernels, rounded};
  const Offsets offsets = rows.offsets;
  for (std::size_t begin = 0, end; begin < rows.sequences(); begin = end) {
    end = begin + 1;
    while (end < rows.sequences() && offsets[end + 1] - offsets[begin] <= kMaxPreparedRows) ++end;
    ssd.run(begin, end);
  }
}

}  // namespace molt
