// Cosines as a product of matrices in bfloat16, a tile at a time: targets are packed into panels as weights are,
// sources pass over them as rows do. What such a cosine can be wrong by is known, so most targets are out of the
// question; those that are not get theirs computed in float32, and of these the greatest counts.
//
// The result is that of float32 for all: a target is left out only where its rounded cosine, plus the error, is below
// another's less the error, or below the best in float32 so far. A source meets its targets in their order. So neither
// the number of threads nor the sizes of the tiles nor the rounded cosines change a bit.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/parallel.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/greatest.h"
#include "kernels/cpu/packed_matrix.h"
#include "kernels/cpu/rounded_rows.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/select.h"
#include "kernels/shapes.h"

namespace molt {
namespace {

/// Bytes of packed targets that are held at a time (whole panels, at least one).
constexpr std::int64_t kMaxPacked = std::int64_t{16} << 20;

/// By how much a cosine of rows rounded to bfloat16 differs from that in float32, at the most: each element by 2^-8 of
/// itself, so the product of two rows of length 1 by 2^-7 and 2^-16 (Cauchy-Schwarz), and each sum by 2^-24 of its
/// terms, of which there are as many as columns.
float largest_error(std::int64_t columns) {
  return 0x1p-7F + 0x1p-15F + static_cast<float>(columns) * 0x1p-22F;
}

/// Sources that pass over a panel together: enough that panels are seldom read again, few enough that there is work
/// for all threads.
std::int64_t tile_rows(std::int64_t sources) {
  constexpr std::int64_t kStep = 32, kMax = 192;  // rows of a band of tiles
  const std::int64_t share = sources / (3 * num_threads());
  return std::clamp((share + kStep - 1) / kStep * kStep, kStep, kMax);
}

/// 1 / max(|x|, 1e-12).
float inverse_length(const Kernels& kernels, const float* x, std::int64_t n) {
  double squares = kernels.sum_squares(x, n);
  if (std::isinf(squares)) {  // of values beyond the square root of the largest float
    squares = 0;
    for (std::int64_t i = 0; i < n; ++i) squares += static_cast<double>(x[i]) * x[i];
  }
  const double length = std::sqrt(squares);
  return static_cast<float>(1.0 / (length < 1e-12 ? 1e-12 : length));
}

void scale(const float* x, float factor, std::int64_t n, float* y) {
  for (std::int64_t i = 0; i < n; ++i) y[i] = x[i] * factor;
}

/// One call's arguments, and the ways through them.
class BestMatch {
 public:
  Matrix<const float> x;
  std::span<const std::int64_t> sources, targets;
  bool later_only;
  std::int64_t* match;
  float* similarity;
  const Kernels& kernels;
  float* factors;  // [targets], scratch: 1 / length

  void run() const {
    thread_local Scratch panel_scratch;
    const auto count = static_cast<std::int64_t>(targets.size());
    const std::int64_t panels = (count + kPanelOutputs - 1) / kPanelOutputs;
    const std::int64_t held =
        std::clamp<std::int64_t>(kMaxPacked / panel_bytes(), 1, std::max<std::int64_t>(1, panels));
    auto* const packed = reinterpret_cast<std::byte*>(
        panel_scratch.get(held * panel_bytes() / static_cast<std::int64_t>(sizeof(float))));
    begin();
    for (std::int64_t first = 0; first < panels; first += held) {
      const std::int64_t end = std::min(first + held, panels);
      parallel_for(end - first, 1, [&](std::int64_t from, std::int64_t to) {
        for (std::int64_t p = from; p < to; ++p) pack(first + p, packed + p * panel_bytes());
      });
      const std::int64_t rows = tile_rows(static_cast<std::int64_t>(sources.size()));
      const std::int64_t tiles = (static_cast<std::int64_t>(sources.size()) + rows - 1) / rows;
      parallel_for(tiles, 1, [&](std::int64_t from, std::int64_t to) {
        for (std::int64_t tile = from; tile < to; ++tile) {
          match_tile(static_cast<std::size_t>(tile * rows),
                     std::min(sources.size(), static_cast<std::size_t>((tile + 1) * rows)), first, end, packed);
        }
      });
    }
  }

 private:
  std::int64_t steps() const { return padded_columns(x.cols) / 2; }
  std::int64_t panel_bytes() const { return std::max<std::int64_t>(1, steps()) * kPanelStepBytes; }

  /// The first target that counts for source i, as an index.
  std::int64_t first_target(std::size_t i) const {
    if (!later_only) return 0;
    return std::upper_bound(targets.begin(), targets.end(), sources[i]) - targets.begin();
  }

  /// Before any cosine is known the first target is the best, at -infinity.
  void begin() const {
    for (std::size_t i = 0; i < sources.size(); ++i) {
      const auto first = static_cast<std::size_t>(first_target(i));
      match[i] = first < targets.size() ? targets[first] : -1;
      similarity[i] = -std::numeric_limits<float>::infinity();
    }
  }

  /// The targets of panel p, scaled to length 1.
  void pack(std::int64_t p, std::byte* panel) const {
    thread_local Scratch scratch;
    const std::int64_t first = p * kPanelOutputs;
    const std::int64_t count = std::min<std::int64_t>(kPanelOutputs, static_cast<std::int64_t>(targets.size()) - first);
    float* const units = scratch.get(count * x.cols);
    for (std::int64_t j = 0; j < count; ++j) {
      const float* const from = row(targets, first + j);
      factors[first + j] = inverse_length(kernels, from, x.cols);
      scale(from, factors[first + j], x.cols, units + j * x.cols);
    }
    pack_bf16_panel(units, x.cols, static_cast<int>(count), panel);
  }

  const float* row(std::span<const std::int64_t> rows, std::int64_t i) const {
    return x.row(rows[static_cast<std::size_t>(i)]);
  }

  /// Sources [begin, end) against panels [first, last), of which `packed` holds the first.
  void match_tile(std::size_t begin, std::size_t end, std::int64_t first, std::int64_t last,
                  const std::byte* packed) const {
    thread_local Scratch unit_scratch, rounded_scratch;
    const auto rows = static_cast<std::int64_t>(end - begin);
    float* const units = unit_scratch.get(rows * (x.cols + kPanelOutputs));
    float* const cosines = units + rows * x.cols;
    const RoundedRows rounded(kernels, x.cols, rows, rounded_scratch);
    std::int64_t earliest = static_cast<std::int64_t>(targets.size());
    for (std::int64_t r = 0; r < rows; ++r) {
      const float* from = row(sources, static_cast<std::int64_t>(begin) + r);
      scale(from, inverse_length(kernels, from, x.cols), x.cols, units + r * x.cols);
      rounded.round(r, units + r * x.cols);
      earliest = std::min(earliest, first_target(begin + static_cast<std::size_t>(r)));
    }
    for (std::int64_t p = std::max(first, earliest / kPanelOutputs); p < last; ++p) {
      const std::int64_t target = p * kPanelOutputs;
      const auto count =
          static_cast<int>(std::min<std::int64_t>(kPanelOutputs, static_cast<std::int64_t>(targets.size()) - target));
      kernels.multiply_panel_bf16({
          .x = rounded.row(0),
          .x_stride = rounded.stride(),
          .rows = rows,
          .panel = packed + (p - first) * panel_bytes(),
          .next = p + 1 < last ? packed + (p + 1 - first) * panel_bytes() : nullptr,
          .steps = steps(),
          .outputs = count,
          .bias = nullptr,
          .y = cosines,
          .y_stride = kPanelOutputs,
      });
      for (std::int64_t r = 0; r < rows; ++r) {
        keep_best(begin + static_cast<std::size_t>(r), units + r * x.cols, target, count, cosines + r * kPanelOutputs);
      }
    }
  }

  /// Source i, scaled to length 1, and `count` targets from index `first` on, with the rounded `cosines` between them.
  /// A NaN is never greater.
  void keep_best(std::size_t i, const float* unit, std::int64_t first, int count, const float* cosines) const {
    const std::int64_t skipped = std::clamp<std::int64_t>(first_target(i) - first, 0, count);
    const float error = largest_error(x.cols);
    const float most_alike = greatest(cosines + skipped, count - skipped);
    const float least = std::max(most_alike - 2 * error, similarity[i] - error);  // of those who may be the best
    if (!(most_alike >= least)) return;
    for (std::int64_t j = skipped; j < count; ++j) {
      if (!(cosines[j] >= least)) continue;
      const float cosine = kernels.sum_products(unit, row(targets, first + j), factors[first + j], x.cols);
      if (cosine > similarity[i]) {
        match[i] = targets[static_cast<std::size_t>(first + j)];
        similarity[i] = cosine;
      }
    }
  }
};

}  // namespace

void CpuBackend::best_match(Matrix<const float> x, std::span<const std::int64_t> sources,
                            std::span<const std::int64_t> targets, bool later_only, std::int64_t* match,
                            float* similarity) const {
  shapes::check_best_match(x, sources, targets);
  thread_local Scratch factors;
  BestMatch{x,     sources,    targets,          later_only,
            match, similarity, select_kernels(), factors.get(static_cast<std::int64_t>(targets.size()))}
      .run();
}

}  // namespace molt
