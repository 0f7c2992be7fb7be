// "cpu-in-slices": the CPU backend, taking few rows through a layer at a time, as it takes many of a long prompt.
#pragma once

#include "base/registry.h"
#include "kernels/cpu/cpu_backend.h"

namespace molt::testing_support {

class SlicedCpu final : public CpuBackend {
 public:
  std::int64_t rows_at_once() const override { return 7; }
};

inline const Registration<BackendFactory> sliced_cpu{
    "cpu-in-slices", []() -> std::shared_ptr<const Backend> { return std::make_shared<SlicedCpu>(); }};

}  // namespace molt::testing_support
