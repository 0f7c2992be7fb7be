// Cosines as a product of matrices, a tile at a time: targets are packed into panels as weights are, sources pass over
// them as rows do, and of each tile of cosines only every source's best is kept.
//
// A cosine is one sum in the order of the columns, whatever tile it falls into; a source meets its targets in their
// order. So neither the number of threads nor the sizes of the tiles change a bit.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/parallel.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/grain.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/select.h"
#include "kernels/shapes.h"

namespace molt {
namespace {

/// Floats of packed targets that are held at a time (whole panels, at least one).
constexpr std::int64_t kMaxPacked = std::int64_t{8} << 20;

/// Sources that pass over a panel together: enough that panels are seldom read again, few enough that there is work
/// for all threads.
std::int64_t tile_rows(std::int64_t sources) {
  constexpr std::int64_t kStep = 6, kMax = 192;  // rows of the largest register tile
  const std::int64_t share = sources / (3 * num_threads());
  return std::clamp((share + kStep - 1) / kStep * kStep, 4 * kStep, kMax);
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

  void run() const {
    thread_local Scratch panel_scratch;
    const auto count = static_cast<std::int64_t>(targets.size());
    const std::int64_t panels = (count + kPanelOutputs - 1) / kPanelOutputs;
    const std::int64_t held = std::clamp<std::int64_t>(kMaxPacked / std::max<std::int64_t>(1, panel_floats()), 1,
                                                       std::max<std::int64_t>(1, panels));
    float* const packed = panel_scratch.get(held * panel_floats());
    begin();
    for (std::int64_t first = 0; first < panels; first += held) {
      const std::int64_t end = std::min(first + held, panels);
      parallel_for(end - first, 1, [&](std::int64_t from, std::int64_t to) {
        for (std::int64_t p = from; p < to; ++p) pack(first + p, packed + p * panel_floats());
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
  std::int64_t panel_floats() const { return x.cols * kPanelOutputs; }

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

  /// The targets of panel p, scaled to length 1, as steps of one column each; zeros where there are fewer.
  void pack(std::int64_t p, float* panel) const {
    constexpr std::int64_t kSteps = 64;  // that stay in the cache while 64 rows are scattered over them
    const std::int64_t first = p * kPanelOutputs;
    const std::int64_t count = std::min<std::int64_t>(kPanelOutputs, static_cast<std::int64_t>(targets.size()) - first);
    float factors[kPanelOutputs];
    for (std::int64_t j = 0; j < count; ++j) factors[j] = inverse_length(kernels, row(targets, first + j), x.cols);
    for (std::int64_t k = 0; k < x.cols; k += kSteps) {
      const std::int64_t end = std::min(k + kSteps, x.cols);
      for (std::int64_t j = 0; j < kPanelOutputs; ++j) {
        const float* from = j < count ? row(targets, first + j) : nullptr;
        for (std::int64_t i = k; i < end; ++i) panel[i * kPanelOutputs + j] = j < count ? from[i] * factors[j] : 0;
      }
    }
  }

  const float* row(std::span<const std::int64_t> rows, std::int64_t i) const {
    return x.row(rows[static_cast<std::size_t>(i)]);
  }

  /// Sources [begin, end) against panels [first, last), of which `packed` holds the first.
  void match_tile(std::size_t begin, std::size_t end, std::int64_t first, std::int64_t last,
                  const float* packed) const {
    thread_local Scratch scratch;
    const auto rows = static_cast<std::int64_t>(end - begin);
    float* const units = scratch.get(rows * (x.cols + kPanelOutputs));
    float* const cosines = units + rows * x.cols;
    std::int64_t earliest = static_cast<std::int64_t>(targets.size());
    for (std::int64_t r = 0; r < rows; ++r) {
      const float* from = row(sources, static_cast<std::int64_t>(begin) + r);
      scale(from, inverse_length(kernels, from, x.cols), x.cols, units + r * x.cols);
      earliest = std::min(earliest, first_target(begin + static_cast<std::size_t>(r)));
    }
    for (std::int64_t p = std::max(first, earliest / kPanelOutputs); p < last; ++p) {
      const std::int64_t target = p * kPanelOutputs;
      const auto count =
          static_cast<int>(std::min<std::int64_t>(kPanelOutputs, static_cast<std::int64_t>(targets.size()) - target));
      kernels.multiply_panel_f32({
          .x = units,
          .x_stride = x.cols,
          .rows = rows,
          .panel = packed + (p - first) * panel_floats(),
          .next = p + 1 < last ? packed + (p + 1 - first) * panel_floats() : nullptr,
          .steps = x.cols,
          .outputs = count,
          .bias = nullptr,
          .y = cosines,
          .y_stride = kPanelOutputs,
      });
      for (std::int64_t r = 0; r < rows; ++r) {
        keep_best(begin + static_cast<std::size_t>(r), target, count, cosines + r * kPanelOutputs);
      }
    }
  }

  /// Source i's cosines with `count` targets from index `first` on. A NaN is never greater.
  void keep_best(std::size_t i, std::int64_t first, int count, const float* cosines) const {
    const std::int64_t skipped = std::clamp<std::int64_t>(first_target(i) - first, 0, count);
    std::int64_t best = -1;
    float greatest = similarity[i];
    for (std::int64_t j = skipped; j < count; ++j) {
      if (cosines[j] > greatest) {
        greatest = cosines[j];
        best = j;
      }
    }
    if (best < 0) return;
    match[i] = targets[static_cast<std::size_t>(first + best)];
    similarity[i] = greatest;
  }
};

}  // namespace

void CpuBackend::best_match(Matrix<const float> x, std::span<const std::int64_t> sources,
                            std::span<const std::int64_t> targets, bool later_only, std::int64_t* match,
                            float* similarity) const {
  shapes::check_best_match(x, sources, targets);
  BestMatch{x, sources, targets, later_only, match, similarity, select_kernels()}.run();
}

}  // namespace molt
