// Rotary positions. A row's sines and cosines are computed once, in double (a float's angle at position 100 000 is off
// by a hundredth), and turn all of its heads.
#include <cmath>

#include "base/parallel.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/grain.h"
#include "kernels/cpu/scratch.h"
#include "kernels/shapes.h"

namespace molt {
namespace {

/// Turns the pairs (a[i * step], b[i * step]).
void turn(float* a, float* b, std::int64_t step, const float* cosines, const float* sines, std::int64_t pairs) {
  for (std::int64_t i = 0; i < pairs; ++i) {
    const float x = a[i * step];
    const float y = b[i * step];
    a[i * step] = x * cosines[i] - y * sines[i];
    b[i * step] = y * cosines[i] + x * sines[i];
  }
}

}  // namespace

void CpuBackend::rope(Matrix<float> x, std::int64_t heads, std::span<const double> frequencies, bool interleaved,
                      Offsets offsets, std::span<const std::int64_t> first) const {
  shapes::check_rope(x, heads, frequencies, offsets, first);
  const auto pairs = static_cast<std::int64_t>(frequencies.size());
  const std::int64_t width = x.cols / heads;
  for (std::size_t s = 0; s < first.size(); ++s) {
    const std::int64_t begin = offsets[s];
    parallel_for(offsets[s + 1] - begin, grain_for((100 + 6 * heads) * pairs), [&](std::int64_t from, std::int64_t to) {
      thread_local Scratch scratch;
      float* cosines = scratch.get(2 * pairs);
      float* sines = cosines + pairs;
      for (std::int64_t t = from; t < to; ++t) {
        const auto position = static_cast<double>(first[s] + t);
        for (std::int64_t i = 0; i < pairs; ++i) {
          const double angle = position * frequencies[static_cast<std::size_t>(i)];
          cosines[i] = static_cast<float>(std::cos(angle));
          sines[i] = static_cast<float>(std::sin(angle));
        }
        for (std::int64_t h = 0; h < heads; ++h) {
          float* head = x.row(begin + t) + h * width;
          turn(head, interleaved ? head + 1 : head + pairs, interleaved ? 2 : 1, cosines, sines, pairs);
        }
      }
    });
  }
}

}  // namespace molt
