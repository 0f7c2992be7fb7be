// A task is a tile of queries, some neighbouring rows of all heads that share one head of keys and values, over a run
// of tokens. However work is cut, a row's sums are built the same way: over spans of tokens that begin at fixed
// positions, block by block within a span, then span by span. So a row comes out alike, bit for bit, in a prompt, in a
// window of any size, or alone.
//
// Few rows leave few tiles, so that a long context's spans become tasks of their own, merged at the end.
#include <algorithm>
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

static_assert(kKvBlock == kAttentionBlock);

constexpr std::int64_t kSpanBlocks = 8;
constexpr std::int64_t kSpan = kSpanBlocks * kKvBlock;  // tokens

/// Queries of a tile: with a block's keys and values, its scores and its sums fit the first- or second-level cache.
constexpr std::int64_t kTileQueries = 48;

/// Sequences of up to so many rows have their spans as tasks.
constexpr std::int64_t kFewRows = 4;

/// One call's arguments.
class Attention {
 public:
  Matrix<const float> q, k, v;
  const KvShape& kv;
  std::int64_t group;  // heads of queries a head of keys
  float scale;
  Offsets offsets;
  std::span<const KvSequence> caches;
  Matrix<float> y;
  const Kernels& kernels;

  void run() const {
    for (std::size_t s = 0; s < caches.size(); ++s) append(s);
    const Plan plan = make_plan();
    thread_local Scratch scratch;
    float* partial = scratch.get(plan.partial_floats);
    const auto count = std::ssize(plan.tasks);
    const double cost = plan.cost / static_cast<double>(std::max<std::int64_t>(1, count));
    parallel_for(count, grain_for(static_cast<std::int64_t>(cost)), [&](std::int64_t from, std::int64_t to) {
      for (std::int64_t i = from; i < to; ++i) run_task(plan.tasks[static_cast<std::size_t>(i)], partial);
    });
    parallel_for(std::ssize(plan.merges), 4, [&](std::int64_t from, std::int64_t to) {
      for (std::int64_t i = from; i < to; ++i) merge(plan.merges[static_cast<std::size_t>(i)], partial);
    });
  }

 private:
  /// Rows [begin, end) of sequence s for head g of keys, over spans [first, last).
  struct Task {
    std::size_t s;
    std::int64_t g;
    std::int64_t begin, end;
    std::int64_t first, last;
    std::int64_t partial;  // where its sums go, in floats; -1: nowhere, it writes y
  };

  struct Plan {
    std::vector<Task> tasks;
    std::vector<Task> merges;  // of tasks that are a span each
    std::int64_t partial_floats = 0;
    double cost = 0;  // as grain_for() counts, of all tasks
  };

  std::int64_t position(std::size_t s, std::int64_t row) const { return caches[s].tokens + row - offsets[s]; }
  std::int64_t queries(const Task& task) const { return (task.end - task.begin) * group; }
  std::int64_t sums_size(std::int64_t queries) const { return queries * (2 + padded_head(kv.head_dim)) + 16; }

  AttentionSums sums_at(float* memory, std::int64_t queries) const {
    const std::int64_t whole = (2 * queries + 15) / 16 * 16;  // vectors of values begin where a cache line does
    return {memory, memory + queries, memory + whole};
  }

  AttentionSums fresh_sums(float* memory, std::int64_t queries) const {
    const AttentionSums sums = sums_at(memory, queries);
    std::fill_n(sums.largest, queries, -std::numeric_limits<float>::infinity());
    std::fill_n(sums.weights, queries, 0.0F);
    std::fill_n(sums.values, queries * padded_head(kv.head_dim), 0.0F);
    return sums;
  }

  /// Writes the rows' keys and values to the cache.
  void append(std::size_t s) const {
    const std::int64_t begin = offsets[s];
    const std::int64_t rows = offsets[s + 1] - begin;
    const std::int64_t per_head = grain_for(8 * rows * kv.head_dim);
    parallel_for(kv.heads, per_head, [&](std::int64_t from, std::int64_t to) {
      for (std::int64_t g = from; g < to; ++g) {
        for (std::int64_t t = begin; t < begin + rows; ++t) {
          const std::int64_t token = position(s, t) % kKvBlock;
          float* block = caches[s].block(position(s, t) / kKvBlock);
          const float* key = k.row(t) + g * kv.head_dim;
          float* column = block + kv.key(g, 0, token);
          for (std::int64_t p = 0; p < kv.head_dim; ++p) column[p * kKvBlock] = key[p];
          std::copy_n(v.row(t) + g * kv.head_dim, kv.head_dim, block + kv.value(g, 0, token));
        }
      }
    });
  }

  Plan make_plan() const {
    Plan plan;
    const std::int64_t tile_rows = std::max<std::int64_t>(1, kTileQueries / group);
    for (std::size_t s = 0; s < caches.size(); ++s) {
      const std::int64_t rows = offsets[s + 1] - offsets[s];
      if (rows == 0) continue;
      const std::int64_t spans = position(s, offsets[s + 1] - 1) / kSpan + 1;
      const std::int64_t seen = caches[s].tokens + rows / 2 + 1;  // by a row, on average
      plan.cost += 4.0 * static_cast<double>(rows * group * kv.channels()) * static_cast<double>(seen);
      for (std::int64_t g = 0; g < kv.heads; ++g) {
        if (rows <= kFewRows && spans > 1) {
          plan_spans({s, g, offsets[s], offsets[s + 1], 0, spans, -1}, plan);
          continue;
        }
        for (std::int64_t begin = offsets[s]; begin < offsets[s + 1]; begin += tile_rows) {
          const std::int64_t end = std::min(begin + tile_rows, offsets[s + 1]);
          plan.tasks.push_back({s, g, begin, end, 0, position(s, end - 1) / kSpan + 1, -1});
        }
      }
    }
    return plan;
  }

  void plan_spans(Task whole, Plan& plan) const {
    whole.partial = plan.partial_floats;
    plan.merges.push_back(whole);
    for (std::int64_t span = whole.first; span < whole.last; ++span) {
      plan.tasks.push_back({whole.s, whole.g, whole.begin, whole.end, span, span + 1, plan.partial_floats});
      plan.partial_floats += (sums_size(queries(whole)) + 15) / 16 * 16;
    }
  }

  void run_task(const Task& task, float* partial) const {
    const std::int64_t count = queries(task);
    thread_local Scratch scratch;
    float* memory = scratch.get(count * kv.head_dim + 2 * sums_size(count));
    float* tile = memory + 2 * sums_size(count);
    gather_queries(task, tile);
    if (task.partial >= 0) {
      add_span(task, task.first, tile, fresh_sums(partial + task.partial, count));
      return;
    }
    const AttentionSums all = fresh_sums(memory, count);
    for (std::int64_t span = task.first; span < task.last; ++span) {
      const AttentionSums sums = fresh_sums(memory + sums_size(count), count);
      add_span(task, span, tile, sums);
      kernels.attention_merge(sums, count, kv.head_dim, all);
    }
    write(task, all);
  }

  void merge(const Task& whole, float* partial) const {
    const std::int64_t count = queries(whole);
    thread_local Scratch scratch;
    const AttentionSums all = fresh_sums(scratch.get(sums_size(count)), count);
    float* at = partial + whole.partial;
    for (std::int64_t span = whole.first; span < whole.last; ++span) {
      kernels.attention_merge(sums_at(at, count), count, kv.head_dim, all);
      at += (sums_size(count) + 15) / 16 * 16;
    }
    write(whole, all);
  }

  /// The task's queries, scaled, row after row, those of a row head after head.
  void gather_queries(const Task& task, float* tile) const {
    for (std::int64_t t = task.begin; t < task.end; ++t) {
      const float* row = q.row(t) + task.g * group * kv.head_dim;
      for (std::int64_t i = 0; i < group * kv.head_dim; ++i) *tile++ = row[i] * scale;
    }
  }

  /// Adds up one span, block by block.
  void add_span(const Task& task, std::int64_t span, const float* tile, const AttentionSums& sums) const {
    thread_local std::vector<std::int32_t> seen;
    seen.resize(static_cast<std::size_t>(queries(task)));
    const std::int64_t last = position(task.s, task.end - 1) / kKvBlock;
    for (std::int64_t b = span * kSpanBlocks; b < (span + 1) * kSpanBlocks && b <= last; ++b) {
      for (std::int64_t t = task.begin; t < task.end; ++t) {
        const std::int64_t visible = std::clamp<std::int64_t>(position(task.s, t) + 1 - b * kKvBlock, 0, kKvBlock);
        std::fill_n(seen.begin() + (t - task.begin) * group, group, static_cast<std::int32_t>(visible));
      }
      const float* block = caches[task.s].block(b);
      kernels.attention_block({.queries = tile,
                               .rows = queries(task),
                               .head_dim = kv.head_dim,
                               .keys = block + kv.key(task.g, 0, 0),
                               .values = block + kv.value(task.g, 0, 0),
                               .seen = seen.data(),
                               .sums = sums});
    }
  }

  void write(const Task& task, const AttentionSums& sums) const {
    const std::int64_t padded = padded_head(kv.head_dim);
    for (std::int64_t r = 0; r < queries(task); ++r) {
      float* to = y.row(task.begin + r / group) + (task.g * group + r % group) * kv.head_dim;
      for (std::int64_t p = 0; p < kv.head_dim; ++p) to[p] = sums.values[r * padded + p] / sums.weights[r];
    }
  }
};

}  // namespace

void CpuBackend::attention(Matrix<const float> q, Matrix<const float> k, Matrix<const float> v, const KvShape& kv,
                           float scale, Offsets offsets, std::span<const KvSequence> caches, Matrix<float> y) const {
  const std::int64_t heads = shapes::check_attention(q, k, v, kv, offsets, caches, y);
  Attention{q, k, v, kv, heads / kv.heads, scale, offsets, caches, y, select_kernels()}.run();
}

}  // namespace molt
