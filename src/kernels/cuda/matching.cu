// Which rows matter, and which are alike. Similarities are matrix products, of several sequences in one go
// (match_groups.h): in float32 of rows scaled to length 1; in bfloat16 of rows as they are, for a scan's outputs that a
// layer as a whole computed are exact in it, and their lengths come behind the product.
#include <algorithm>
#include <limits>
#include <vector>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/match_groups.h"
#include "kernels/cuda/products.h"
#include "kernels/cuda/scratch.h"
#include "kernels/shapes.h"

namespace molt {
namespace cuda {
namespace {

constexpr int kThreads = 256;

__device__ float weigh(Importance metric, float v) {
  switch (metric) {
    case Importance::clip: return v < 0 ? 0 : v;
    case Importance::l1: return fabsf(v);
    case Importance::l2: return v * v;
    case Importance::signed_mean: break;
  }
  return v;
}

__global__ void __launch_bounds__(kThreads)
    importance_kernel(Rows<const float> y, int cols, Importance metric, float* scores) {
  __shared__ float room[32];
  float sum = 0;
  for (int i = threadIdx.x; i < cols; i += kThreads) sum += weigh(metric, y.row(blockIdx.x)[i]);
  const float mean = block_sum(sum, room) / static_cast<float>(cols);
  if (threadIdx.x == 0) scores[blockIdx.x] = metric == Importance::l2 ? sqrtf(mean) : mean;
}

__device__ inline float inverse_length(float squares) {
  const float length = sqrtf(squares);
  return 1.0F / (length < 1e-12F ? 1e-12F : length);  // a NaN stays one
}

/// to[i] = x[rows[i]] scaled to length 1, padded with zeros to `to_cols`. Where rows[i] is negative, nothing is
/// written: what lies there meets nothing but padding.
__global__ void __launch_bounds__(kThreads)
    unit_kernel(Rows<const float> x, int cols, const std::int32_t* rows, float* to, int to_cols) {
  __shared__ float room[32];
  const int row = rows[blockIdx.x];
  if (row < 0) return;
  const float* const from = x.row(row);
  float squares = 0;
  for (int i = threadIdx.x; i < cols; i += kThreads) squares += from[i] * from[i];
  const float scale = inverse_length(block_sum(squares, room));
  float* const unit = to + blockIdx.x * static_cast<std::int64_t>(to_cols);
  for (int i = threadIdx.x; i < to_cols; i += kThreads) unit[i] = i < cols ? from[i] * scale : 0.0F;
}

/// to[i] = x[rows[i]] in bfloat16, padded with zeros to `to_cols`, and one by its length; in the same places. kFours:
/// rows of x are read four at a time.
template <bool kFours>
__global__ void __launch_bounds__(kThreads) narrow_kernel(Rows<const float> x, int cols, const std::int32_t* rows,
                                                          __nv_bfloat16* to, int to_cols, float* inverse) {
  __shared__ float room[32];
  const int row = rows[blockIdx.x];
  if (row < 0) return;
  const float* const from = x.row(row);
  __nv_bfloat16* const narrow = to + blockIdx.x * static_cast<std::int64_t>(to_cols);
  float squares = 0;
  const auto round = [&](float v) {
    const __nv_bfloat16 rounded = __float2bfloat16_rn(v);
    const float kept = __bfloat162float(rounded);
    squares += kept * kept;
    return rounded;
  };
  int done = 0;
  if constexpr (kFours) {
    done = cols / 4 * 4;
    for (int i = static_cast<int>(threadIdx.x) * 4; i < done; i += 4 * kThreads) {
      const float4 v = *reinterpret_cast<const float4*>(from + i);
      alignas(8) const __nv_bfloat16 four[4] = {round(v.x), round(v.y), round(v.z), round(v.w)};
      *reinterpret_cast<uint2*>(narrow + i) = *reinterpret_cast<const uint2*>(four);
    }
  }
  for (int i = done + static_cast<int>(threadIdx.x); i < to_cols; i += kThreads) {
    narrow[i] = round(i < cols ? from[i] : 0.0F);
  }
  squares = block_sum(squares, room);
  if (threadIdx.x == 0) inverse[blockIdx.x] = inverse_length(squares);
}

struct Found {
  float similarity;
  int target;  // its place among the targets; -1: none yet

  /// Whether `this` is to be taken before `other`: the greater, of equals the first.
  __device__ bool before(const Found& other) const {
    if (target < 0) return false;
    if (other.target < 0) return true;
    return similarity > other.similarity || (similarity == other.similarity && target < other.target);
  }
};

/// A group's products, and what it takes to read them: rows of x by their places in the product, sources of all pieces
/// first, negative where there is padding; one by their lengths, or null where they were scaled before.
struct Products {
  const float* similarities;  // [pieces, sources, targets]
  const std::int32_t* rows;   // [pieces * sources + pieces * targets]
  const float* inverse;
  int pieces, sources, targets;
};

/// The best of a row of similarities.
__global__ void __launch_bounds__(kThreads) best_kernel(const Products p, bool later_only, Found* found) {
  __shared__ Found room[kThreads / 32];
  const int source = p.rows[blockIdx.x];
  if (source < 0) return;
  const std::int64_t first = std::int64_t{p.pieces} * p.sources + std::int64_t{blockIdx.x} / p.sources * p.targets;
  const std::int32_t* const target_rows = p.rows + first;
  const float* const row = p.similarities + std::int64_t{blockIdx.x} * p.targets;
  const float own = p.inverse == nullptr ? 1.0F : p.inverse[blockIdx.x];
  Found best{-INFINITY, -1};
  for (int j = threadIdx.x; j < p.targets; j += kThreads) {
    if (target_rows[j] < 0 || (later_only && target_rows[j] <= source)) continue;
    const float similarity = p.inverse == nullptr ? row[j] : row[j] * p.inverse[first + j] * own;
    const Found here{isnan(similarity) ? -INFINITY : similarity, j};
    if (here.before(best)) best = here;
  }
  for (int step = 16; step > 0; step /= 2) {
    const Found other{__shfl_xor_sync(kAllLanes, best.similarity, step), __shfl_xor_sync(kAllLanes, best.target, step)};
    if (other.before(best)) best = other;
  }
  if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = best;
  __syncthreads();
  if (threadIdx.x > 0) return;
  for (const Found& other : room) {
    if (other.before(best)) best = other;
  }
  found[blockIdx.x] = best;
}

/// The rows of x that stand in a group's products.
std::vector<std::int32_t> rows_of(const MatchGroup& group, std::span<const MatchSearch> searches) {
  std::vector<std::int32_t> rows(static_cast<std::size_t>(group.rows()), -1);
  auto source = rows.begin(), target = rows.begin() + group.found();
  for (const MatchGroup::Piece& piece : group.pieces) {
    const MatchSearch& search = searches[piece.search];
    const auto row_of = [&](std::int64_t row) { return static_cast<std::int32_t>(search.first + row); };
    const auto sources = search.sources.subspan(static_cast<std::size_t>(piece.begin));
    std::transform(sources.begin(), sources.begin() + piece.count, source, row_of);
    std::transform(search.targets.begin(), search.targets.end(), target, row_of);
    source += group.sources;
    target += group.targets;
  }
  return rows;
}

/// Scratch memory of a call.
struct MatchRoom {
  explicit MatchRoom(std::byte* at, const MatchGroups& groups, DType precision)
      : found(reinterpret_cast<Found*>(at)),
        rows(at + aligned_scratch(8 * groups.found())),
        inverse(reinterpret_cast<float*>(rows + aligned_scratch(groups.rows() * groups.width() * size_of(precision)))),
        similarities(inverse + aligned_scratch(4 * groups.rows()) / 4) {}

  Found* found;     // of all groups
  std::byte* rows;  // as they are multiplied
  float* inverse;
  float* similarities;
};

/// What the sources of a group match, to `found`.
void match(Context& context, Matrix<const float> x, const MatchGroup& group, std::span<const std::int32_t> rows_there,
           std::int64_t width, DType precision, bool later_only, const MatchRoom& room, Found* found) {
  const cudaStream_t stream = context.stream();
  const std::int32_t* const rows = context.hand_over(rows_there.data(), std::ssize(rows_there));
  const auto all = static_cast<unsigned>(group.rows());
  const int cols = static_cast<int>(x.cols), to_cols = static_cast<int>(width);
  const bool narrow = precision == DType::bf16;
  if (narrow) {
    const auto kernel = in_fours(x) ? narrow_kernel<true> : narrow_kernel<false>;
    kernel<<<all, kThreads, 0, stream>>>(x, cols, rows, reinterpret_cast<__nv_bfloat16*>(room.rows), to_cols,
                                         room.inverse);
  } else {
    unit_kernel<<<all, kThreads, 0, stream>>>(x, cols, rows, reinterpret_cast<float*>(room.rows), to_cols);
  }
  products(context,
           {.count = group.count(), .rows = group.sources, .out = group.targets, .in = width, .dtype = precision},
           room.rows, room.rows + group.found() * width * size_of(precision), room.similarities);
  const Products made{room.similarities,
                      rows,
                      narrow ? room.inverse : nullptr,
                      static_cast<int>(group.count()),
                      static_cast<int>(group.sources),
                      static_cast<int>(group.targets)};
  best_kernel<<<static_cast<unsigned>(group.found()), kThreads, 0, stream>>>(made, later_only, found);
  check_launch("best_match");
}

}  // namespace
}  // namespace cuda

void CudaBackend::importance(Matrix<const float> y, Importance metric, float* scores) const {
  if (y.rows == 0) return;
  cuda::Context& context = cuda::Context::get().to_measure(y.data);
  auto* const there = reinterpret_cast<float*>(context.scratch(y.rows * 4));
  cuda::importance_kernel<<<static_cast<unsigned>(y.rows), cuda::kThreads, 0, context.stream()>>>(
      y, static_cast<int>(y.cols), metric, there);
  cuda::check_launch("importance");
  context.bring(there, scores, y.rows * 4);
}

void CudaBackend::best_match(Matrix<const float> x, std::span<const std::int64_t> sources,
                             std::span<const std::int64_t> targets, bool later_only, std::int64_t* match,
                             float* similarity) const {
  const MatchSearch search{0, sources, targets, match, similarity};
  best_matches(x, {&search, 1}, later_only);
}

void CudaBackend::best_matches(Matrix<const float> x, std::span<const MatchSearch> searches, bool later_only) const {
  for (const MatchSearch& search : searches) {
    shapes::check_best_match(x.row_range(search.first, x.rows), search.sources, search.targets);
    std::fill_n(search.match, search.sources.size(), -1);
    std::fill_n(search.similarity, search.sources.size(), -std::numeric_limits<float>::infinity());
  }
  MOLT_CHECK(x.rows <= std::numeric_limits<std::int32_t>::max());
  const cuda::MatchGroups groups(searches, x.cols, precision_);
  if (groups.found() == 0) return;
  cuda::Context& context = cuda::Context::get().to_measure(x.data);
  const cuda::MatchRoom room(context.scratch(groups.bytes()), groups, precision_);
  std::int64_t begun = 0;
  for (const cuda::MatchGroup& group : groups.groups()) {
    const std::vector<std::int32_t> rows = cuda::rows_of(group, searches);
    cuda::match(context, x, group, rows, groups.width(), precision_, later_only, room, room.found + begun);
    begun += group.found();
  }
  std::vector<cuda::Found> found(static_cast<std::size_t>(begun));
  context.bring(room.found, found.data(), begun * std::int64_t{sizeof(cuda::Found)});
  auto next = found.begin();
  for (const cuda::MatchGroup& group : groups.groups()) {
    for (const cuda::MatchGroup::Piece& piece : group.pieces) {
      const MatchSearch& search = searches[piece.search];
      for (std::int64_t i = 0; i < piece.count; ++i) {
        const cuda::Found& best = next[i];
        if (best.target >= 0) search.match[piece.begin + i] = search.targets[static_cast<std::size_t>(best.target)];
        search.similarity[piece.begin + i] = best.similarity;
      }
      next += group.sources;
    }
  }
}

}  // namespace molt
