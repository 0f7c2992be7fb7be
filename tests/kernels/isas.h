// Which instruction sets to test.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "kernels/cpu/select.h"

namespace molt::testing_kernels {

/// The available instruction sets, without those that share all but matrix products with one before them.
inline std::vector<std::string> isas_of_other_ops() {
  std::vector<std::string> names;
  for (const std::string& name : available_isas()) {
    const bool shared = std::any_of(names.begin(), names.end(), [&](const std::string& before) {
      return kernels_for(before)->softplus == kernels_for(name)->softplus;
    });
    if (!shared) names.push_back(name);
  }
  return names;
}

}  // namespace molt::testing_kernels
