// Cosines as a product of matrices in bfloat16, a tile at a time: targets are packed into panels as weights are,
// sources pass over them as rows do. What such a cosine can be wrong by is known, so most targets are out of the
// question; those that are not get theirs computed in float32, and of these the greatest counts.
//
// The result is that of float32 for all: a target is left out only where its rounded cosine, plus the error, is below
// another's less the error, or below the best in float32 so far. A source meets its targets in their order. So neither
// the number of threads nor the sizes of the tiles nor the rounded cosines change a bit.
//
// The product is so fast where there are tiles that all else must be: rows are read once for what becomes of them,
// fetched while the one before is worked on (they are often not neighbours), and float32 waits until all panels have
// been seen, when few targets are left.
#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "base/parallel.h"
#include "kernels/cpu/cpu_backend.h"
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
  constexpr std::int64_t kStep = 32, kMax = 256;  // rows of a band of tiles
  const std::int64_t share = sources / (3 * num_threads());
  return std::clamp((share + kStep - 1) / kStep * kStep, kStep, kMax);
}

/// Asks for a row, which is read soon.
void fetch(const float* x, std::int64_t n) {
  constexpr std::int64_t kLine = 16;  // floats
  for (std::int64_t i = 0; i < n; i += kLine) __builtin_prefetch(x + i, 0, 2);
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

/// A target that may be the best of a tile's row, and its rounded cosine.
struct Candidate {
  std::int64_t row;
  std::int64_t target;  // as an index
  float cosine;
};

/// So many are decided on at a time, about: where many rows are alike.
constexpr std::size_t kMaxCandidates = 1 << 16;

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

  const float* row(std::span<const std::int64_t> rows, std::int64_t i) const {
    return x.row(rows[static_cast<std::size_t>(i)]);
  }

  /// inverse_length of row `rows[i]`, while the next is fetched.
  float measure(std::span<const std::int64_t> rows, std::int64_t i) const {
    if (i + 1 < static_cast<std::int64_t>(rows.size())) fetch(row(rows, i + 1), x.cols);
    return inverse_length(kernels, row(rows, i), x.cols);
  }

  /// The targets of panel p, scaled to length 1.
  void pack(std::int64_t p, std::byte* panel) const {
    const std::int64_t first = p * kPanelOutputs;
    const std::int64_t count = std::min<std::int64_t>(kPanelOutputs, static_cast<std::int64_t>(targets.size()) - first);
    const float* rows[kPanelOutputs];
    for (std::int64_t j = 0; j < count; ++j) {
      rows[j] = row(targets, first + j);
      factors[first + j] = measure(targets, first + j);
    }
    kernels.pack_scaled_rows(rows, factors + first, static_cast<int>(count), x.cols, steps(), panel);
  }

  /// A tile: sources [begin, end), and what is known of them.
  struct Tile {
    std::size_t begin, end;
    float* factors;                      // [rows]: 1 / length
    float* alike;                        // [rows], the greatest rounded cosines so far
    std::vector<Candidate>& candidates;  // their targets ascend

    std::int64_t rows() const { return static_cast<std::int64_t>(end - begin); }
    std::size_t source(std::int64_t row) const { return begin + static_cast<std::size_t>(row); }
  };

  /// Sources [begin, end) against panels [first, last), of which `packed` holds the first.
  void match_tile(std::size_t begin, std::size_t end, std::int64_t first, std::int64_t last,
                  const std::byte* packed) const {
    thread_local Scratch scratch, rounded_scratch;
    thread_local std::vector<Candidate> candidates;
    candidates.clear();
    const auto rows = static_cast<std::int64_t>(end - begin);
    float* const cosines = scratch.get(rows * (kPanelOutputs + 2));
    const Tile tile{begin, end, cosines + rows * kPanelOutputs, cosines + rows * (kPanelOutputs + 1), candidates};
    const RoundedRows rounded(kernels, x.cols, rows, rounded_scratch);
    std::int64_t earliest = static_cast<std::int64_t>(targets.size());
    for (std::int64_t r = 0; r < rows; ++r) {
      const auto i = static_cast<std::int64_t>(tile.source(r));
      tile.factors[r] = measure(sources, i);
      tile.alike[r] = -std::numeric_limits<float>::infinity();
      rounded.round(r, row(sources, i), tile.factors[r]);
      earliest = std::min(earliest, first_target(tile.source(r)));
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
      note(tile, target, count, cosines);
      if (candidates.size() > kMaxCandidates) decide(tile);
    }
    decide(tile);
  }

  /// Notes which of `count` targets from index `first` on may be the best of the tile's rows, by the rounded `cosines`
  /// between them. A NaN is never greater.
  void note(const Tile& tile, std::int64_t first, int count, const float* cosines) const {
    thread_local Scratch scratch;
    float* const most_alike = scratch.get(tile.rows());
    kernels.greatest_of_rows(cosines, kPanelOutputs, tile.rows(), count, most_alike);
    for (std::int64_t r = 0; r < tile.rows(); ++r) {
      const std::size_t i = tile.source(r);
      const float* const own = cosines + r * kPanelOutputs;
      const std::int64_t skipped = later_only ? std::clamp<std::int64_t>(first_target(i) - first, 0, count) : 0;
      if (skipped > 0) kernels.greatest_of_rows(own + skipped, kPanelOutputs, 1, count - skipped, &most_alike[r]);
      tile.alike[r] = std::max(tile.alike[r], most_alike[r]);
      const float enough = least(tile, r);
      if (!(most_alike[r] >= enough)) continue;
      std::uint64_t may_be = kernels.at_least(own + skipped, count - skipped, enough);
      for (; may_be != 0; may_be &= may_be - 1) {
        const std::int64_t j = skipped + std::countr_zero(may_be);
        tile.candidates.push_back({r, first + j, own[j]});
      }
    }
  }

  /// The least rounded cosine of targets that may be the best of the tile's row r, by what is known of it.
  float least(const Tile& tile, std::int64_t r) const {
    const float error = largest_error(x.cols);
    return std::max(tile.alike[r] - 2 * error, similarity[tile.source(r)] - error);
  }

  /// Chooses the best of the candidates, which are none afterwards.
  void decide(const Tile& tile) const {
    const auto is_out = [&](const Candidate& c) { return !(c.cosine >= least(tile, c.row)); };
    std::erase_if(tile.candidates, is_out);
    for (std::size_t k = 0; k < tile.candidates.size(); ++k) {
      if (k + 1 < tile.candidates.size()) fetch(row(targets, tile.candidates[k + 1].target), x.cols);
      const Candidate& c = tile.candidates[k];
      if (is_out(c)) continue;
      const std::size_t i = tile.source(c.row);
      const float cosine = kernels.sum_products(row(sources, static_cast<std::int64_t>(i)), tile.factors[c.row],
                                                row(targets, c.target), factors[c.target], x.cols);
      if (cosine > similarity[i]) {
        match[i] = targets[static_cast<std::size_t>(c.target)];
        similarity[i] = cosine;
      }
    }
    tile.candidates.clear();
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
