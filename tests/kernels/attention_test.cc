// Rotary positions and attention: every instruction set beside the reference, the reference beside formulas written
// otherwise, and what must hold however a text is cut into calls and batches.
#include <gtest/gtest.h>

#include <complex>
#include <numeric>

#include "kernels/cpu/select.h"
#include "kernels/kv_cache.h"
#include "tests/kernels/problems.h"
#include "tests/kernels/restore.h"

namespace molt::testing_kernels {
namespace {

constexpr std::int64_t kLayerOffset = 128;  // bytes of a block before the layer's part

/// Memory for one sequence's keys and values, whose blocks do not begin on a cache line. What no token was written to
/// is anything.
class Cache {
 public:
  Cache(const KvShape& shape, std::int64_t tokens) {
    for (std::int64_t i = 0; i < tokens; i += kKvBlock) {
      memory_.emplace_back(static_cast<std::size_t>(kLayerOffset + shape.block_bytes()) / sizeof(float) + 1, 1e30F);
    }
    for (Floats& block : memory_) blocks_.push_back(reinterpret_cast<std::byte*>(block.data() + 1));
  }
  KvSequence before(std::int64_t tokens) const { return {blocks_, kLayerOffset, tokens}; }

 private:
  std::vector<Floats> memory_;
  std::vector<std::byte*> blocks_;
};

struct Extents {
  std::int64_t heads, kv_heads, head_dim;
  KvShape kv() const { return {kv_heads, head_dim}; }
};

/// Random rows of queries, keys and values.
struct Problem {
  Problem(std::int64_t rows, const Extents& extents_, std::uint64_t seed, float size = 1)
      : extents(extents_),
        random(seed),
        q(rows, extents.heads * extents.head_dim, 3, random, size),
        k(rows, extents.kv().channels(), 5, random, size),
        v(rows, extents.kv().channels(), 0, random) {}

  /// y of rows [begin, ...) as a batch of sequences of `lengths`, each behind what its cache holds.
  Floats run(const Backend& backend, std::int64_t begin, const std::vector<std::int64_t>& lengths,
             const std::vector<KvSequence>& caches) const {
    std::vector<std::int64_t> offsets{0};
    for (const std::int64_t length : lengths) offsets.push_back(offsets.back() + length);
    const std::int64_t end = begin + offsets.back();
    Rows y(offsets.back(), extents.heads * extents.head_dim, 2);
    const float scale = 1.0F / std::sqrt(static_cast<float>(extents.head_dim));
    backend.attention(q.from(begin, end), k.from(begin, end), v.from(begin, end), extents.kv(), scale, offsets, caches,
                      y.matrix());
    EXPECT_TRUE(y.intact());
    return y.values();
  }

  /// All rows as one sequence, cut into calls of these lengths.
  Floats run_pieces(const Backend& backend, const std::vector<std::int64_t>& lengths) const {
    const Cache cache(extents.kv(), std::accumulate(lengths.begin(), lengths.end(), std::int64_t{0}));
    Floats y;
    std::int64_t begin = 0;
    for (const std::int64_t length : lengths) {
      const Floats part = run(backend, begin, {length}, {cache.before(begin)});
      y.insert(y.end(), part.begin(), part.end());
      begin += length;
    }
    return y;
  }

  Extents extents;
  Random random;
  Rows q, k, v;
};

const std::vector<Extents> kExtents = {{1, 1, 2}, {6, 2, 8}, {9, 3, 64}, {4, 4, 20}, {7, 1, 33}, {2, 2, 128}};

TEST(Attention, OnEveryInstructionSetIsTheReference) {
  const Restore restore;
  const auto reference = make_backend("reference");
  const auto cpu = make_backend("cpu");
  for (const Extents& extents : kExtents) {
    for (const std::int64_t rows : {1, 7, 64, 65, 200}) {
      const Problem problem(rows, extents, static_cast<std::uint64_t>(rows * 100 + extents.head_dim));
      const Floats expected = problem.run_pieces(*reference, {rows});
      for (const std::string& isa : available_isas()) {
        use_isa(isa);
        expect_close(
            problem.run_pieces(*cpu, {rows}), expected, 5e-6,
            "y of " + std::to_string(rows) + " rows, heads of " + std::to_string(extents.head_dim) + " on " + isa);
      }
    }
  }
}

TEST(Attention, BehindALongTextIsTheReference) {
  const Restore restore;
  const auto cpu = make_backend("cpu");
  const Problem problem(1300, {6, 2, 16}, 1);
  const Floats expected = problem.run_pieces(*make_backend("reference"), {1300});
  for (const std::string& isa : available_isas()) {
    use_isa(isa);
    expect_close(problem.run_pieces(*cpu, {1300}), expected, 5e-6, "one call on " + isa);
    expect_close(problem.run_pieces(*cpu, {700, 597, 1, 2}), expected, 5e-6, "several calls on " + isa);
  }
}

// The reference, softmax by softmax over a whole row, with none of its code.
TEST(Attention, ReferenceIsTheFormula) {
  const Extents extents{4, 2, 6};
  const std::int64_t rows = 70;
  const Problem problem(rows, extents, 2);
  const Floats y = problem.run_pieces(*make_backend("reference"), {30, 40});
  for (std::int64_t t = 0; t < rows; ++t) {
    for (std::int64_t h = 0; h < 4; ++h) {
      const std::int64_t column = h / 2 * 6;
      double sum = 0;
      std::vector<double> mean(6, 0.0);
      for (std::int64_t j = 0; j <= t; ++j) {
        double score = 0;
        for (std::int64_t p = 0; p < 6; ++p) {
          score += double{problem.q.matrix()(t, h * 6 + p)} * problem.k.matrix()(j, column + p);
        }
        const double weight = std::exp(score / std::sqrt(6.0));
        sum += weight;
        for (std::int64_t p = 0; p < 6; ++p) {
          mean[static_cast<std::size_t>(p)] += weight * problem.v.matrix()(j, column + p);
        }
      }
      for (std::int64_t p = 0; p < 6; ++p) {
        ASSERT_NEAR(y[static_cast<std::size_t>(t * 24 + h * 6 + p)], mean[static_cast<std::size_t>(p)] / sum, 1e-6);
      }
    }
  }
}

TEST(Attention, IsTheSameBitsHoweverATextIsCut) {
  const Restore restore;
  const auto cpu = make_backend("cpu");
  const Problem problem(1100, {9, 3, 24}, 3);
  for (const std::string& isa : available_isas()) {
    use_isa(isa);
    set_num_threads(1);
    const Floats whole = problem.run_pieces(*cpu, {1100});
    set_num_threads(4);
    expect_same_bits(problem.run_pieces(*cpu, {1100}), whole, "four threads on " + isa);
    expect_same_bits(problem.run_pieces(*cpu, {1, 63, 64, 500, 469, 1, 1, 1}), whole, "pieces on " + isa);
  }
}

TEST(Attention, SequencesDoNotKnowTheirBatch) {
  const auto cpu = make_backend("cpu");
  const Extents extents{6, 3, 10};
  const std::vector<std::int64_t> before = {600, 0, 64, 1, 0};
  const std::vector<std::int64_t> lengths = {1, 70, 0, 2, 130};
  const Problem earlier(600, extents, 4);
  const Problem problem(203, extents, 5);
  const auto fill = [&](std::vector<Cache>& caches) {
    std::vector<KvSequence> sequences;
    for (std::size_t s = 0; s < before.size(); ++s) {
      caches.emplace_back(extents.kv(), before[s] + lengths[s]);
      if (before[s] > 0) earlier.run(*cpu, 0, {before[s]}, {caches[s].before(0)});
      sequences.push_back(caches[s].before(before[s]));
    }
    return sequences;
  };
  std::vector<Cache> batch_caches;
  std::vector<Cache> own_caches;
  batch_caches.reserve(before.size());
  own_caches.reserve(before.size());
  const Floats batch = problem.run(*cpu, 0, lengths, fill(batch_caches));
  const std::vector<KvSequence> own = fill(own_caches);
  Floats alone;
  std::int64_t begin = 0;
  for (std::size_t s = 0; s < lengths.size(); ++s) {
    const Floats y = problem.run(*cpu, begin, {lengths[s]}, {own[s]});
    alone.insert(alone.end(), y.begin(), y.end());
    begin += lengths[s];
  }
  expect_same_bits(alone, batch, "y");
}

// Scores far beyond what exp() takes; a query that sees one token has that token's value.
TEST(Attention, StandsLargeScores) {
  const Restore restore;
  const Problem problem(150, {2, 1, 16}, 6, 200);
  const Floats expected = problem.run_pieces(*make_backend("reference"), {150});
  for (const std::string& isa : available_isas()) {
    use_isa(isa);
    expect_close(problem.run_pieces(*make_backend("cpu"), {150}), expected, 1e-4, "y on " + isa);
  }
  for (std::int64_t p = 0; p < 16; ++p) EXPECT_EQ(expected[static_cast<std::size_t>(p)], problem.v.matrix()(0, p));
}

TEST(Attention, NaNStaysNaN) {
  const Restore restore;
  Problem problem(80, {2, 1, 16}, 7);
  problem.q.matrix()(70, 3) = std::numeric_limits<float>::quiet_NaN();
  for (const std::string& isa : available_isas()) {
    use_isa(isa);
    const Floats y = problem.run_pieces(*make_backend("cpu"), {80});
    for (std::size_t i = 0; i < y.size(); ++i) {
      EXPECT_EQ(std::isnan(y[i]), 70 * 32 <= i && i < 70 * 32 + 16) << i << " on " << isa;
    }
  }
}

std::vector<double> frequencies(std::int64_t pairs) {
  std::vector<double> values;
  for (std::int64_t i = 0; i < pairs; ++i) values.push_back(std::pow(1e4, -double(i) / double(pairs)));
  return values;
}

// Against complex numbers, at positions where a float's angle would be off by a hundredth.
TEST(Rope, TurnsPairsByTheirAngles) {
  constexpr std::int64_t kHeads = 3, kWidth = 14, kPairs = 5;
  const std::vector<std::int64_t> offsets = {0, 3, 3, 7};
  const std::vector<std::int64_t> first = {131000, 5, 0};
  for (const std::string backend : {"reference", "cpu"}) {
    for (const bool interleaved : {false, true}) {
      Random random(8);
      Rows x(7, kHeads * kWidth, 2, random);
      const Rows before = x;
      make_backend(backend)->rope(x.matrix(), kHeads, frequencies(kPairs), interleaved, offsets, first);
      EXPECT_TRUE(x.intact());
      for (std::int64_t t = 0; t < 7; ++t) {
        const std::int64_t position = t < 3 ? 131000 + t : t - 3;
        for (std::int64_t h = 0; h < kHeads; ++h) {
          const auto at = [&](const Rows& rows, std::int64_t c) { return double{rows.matrix()(t, h * kWidth + c)}; };
          for (std::int64_t i = 0; i < kPairs; ++i) {
            const std::int64_t a = interleaved ? 2 * i : i;
            const std::int64_t b = interleaved ? 2 * i + 1 : i + kPairs;
            const auto turned = std::complex(at(before, a), at(before, b)) *
                                std::polar(1.0, double(position) * frequencies(kPairs)[static_cast<std::size_t>(i)]);
            ASSERT_NEAR(at(x, a), turned.real(), 1e-6) << backend << " row " << t << " pair " << i;
            ASSERT_NEAR(at(x, b), turned.imag(), 1e-6) << backend << " row " << t << " pair " << i;
          }
          for (std::int64_t c = 2 * kPairs; c < kWidth; ++c) ASSERT_EQ(at(x, c), at(before, c));
        }
      }
    }
  }
}

}  // namespace
}  // namespace molt::testing_kernels
