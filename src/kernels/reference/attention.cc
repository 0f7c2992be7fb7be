// Rotary positions and attention as their formulas.
#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/reference/reference_backend.h"
#include "kernels/shapes.h"

namespace molt {

void ReferenceBackend::rope(Matrix<float> x, std::int64_t heads, std::span<const double> frequencies, bool interleaved,
                            Offsets offsets, std::span<const std::int64_t> first) const {
  shapes::check_rope(x, heads, frequencies, offsets, first);
  const auto pairs = static_cast<std::int64_t>(frequencies.size());
  for (std::size_t s = 0; s < first.size(); ++s) {
    for (std::int64_t t = offsets[s]; t < offsets[s + 1]; ++t) {
      const auto position = static_cast<double>(first[s] + t - offsets[s]);
      for (std::int64_t h = 0; h < heads; ++h) {
        float* head = x.row(t) + h * (x.cols / heads);
        for (std::int64_t i = 0; i < pairs; ++i) {
          const double angle = position * frequencies[static_cast<std::size_t>(i)];
          float& a = head[interleaved ? 2 * i : i];
          float& b = head[interleaved ? 2 * i + 1 : i + pairs];
          const double turned_a = a * std::cos(angle) - b * std::sin(angle);
          const double turned_b = b * std::cos(angle) + a * std::sin(angle);
          a = static_cast<float>(turned_a);
          b = static_cast<float>(turned_b);
        }
      }
    }
  }
}

namespace {

/// One head of one row, over the first `tokens` of its sequence.
void attend(const float* q, const KvShape& kv, std::int64_t g, float scale, const KvSequence& cache,
            std::int64_t tokens, float* y) {
  std::vector<double> weights(static_cast<std::size_t>(tokens));
  for (std::int64_t j = 0; j < tokens; ++j) {
    const float* block = cache.block(j / kKvBlock);
    double score = 0;
    for (std::int64_t p = 0; p < kv.head_dim; ++p) {
      score += static_cast<double>(q[p]) * block[kv.key(g, p, j % kKvBlock)];
    }
    weights[static_cast<std::size_t>(j)] = scale * score;
  }
  const double largest = *std::max_element(weights.begin(), weights.end());
  double sum = 0;
  for (double& weight : weights) sum += weight = std::exp(weight - largest);
  for (std::int64_t p = 0; p < kv.head_dim; ++p) {
    double mean = 0;
    for (std::int64_t j = 0; j < tokens; ++j) {
      mean += weights[static_cast<std::size_t>(j)] * cache.block(j / kKvBlock)[kv.value(g, p, j % kKvBlock)];
    }
    y[p] = static_cast<float>(mean / sum);
  }
}

}  // namespace

void ReferenceBackend::attention(Matrix<const float> q, Matrix<const float> k, Matrix<const float> v, const KvShape& kv,
                                 float scale, Offsets offsets, std::span<const KvSequence> caches,
                                 Matrix<float> y) const {
  const std::int64_t heads = shapes::check_attention(q, k, v, kv, offsets, caches, y);
  for (std::size_t s = 0; s < caches.size(); ++s) {
    for (std::int64_t t = offsets[s]; t < offsets[s + 1]; ++t) {
      const std::int64_t position = caches[s].tokens + t - offsets[s];
      float* block = caches[s].block(position / kKvBlock);
      for (std::int64_t g = 0; g < kv.heads; ++g) {
        for (std::int64_t p = 0; p < kv.head_dim; ++p) {
          block[kv.key(g, p, position % kKvBlock)] = k(t, g * kv.head_dim + p);
          block[kv.value(g, p, position % kKvBlock)] = v(t, g * kv.head_dim + p);
        }
      }
      for (std::int64_t h = 0; h < heads; ++h) {
        attend(q.row(t) + h * kv.head_dim, kv, h / (heads / kv.heads), scale, caches[s], position + 1,
               y.row(t) + h * kv.head_dim);
      }
    }
  }
}

}  // namespace molt
