// SsmStates: a layer's states as the ops of Mamba-1 and Mamba-2 blocks take them: the inputs that the short convolution
// looks back on, then the SSM state, in float32 or bfloat16.
#pragma once

#include <vector>

#include "model/block.h"

namespace molt {

class SsmStates {
 public:
  /// `conv` is the first part of `states`; the SSM state follows.
  SsmStates(const LayerStates& states, const StatePart& conv) : keys_(states.keys_there) {
    for (std::size_t s = 0; s < states.data.size(); ++s) {
      conv_.push_back(reinterpret_cast<float*>(states.data[s]));
      std::byte* ssm = states.data[s] + conv.bytes(states.ssm);
      if (states.ssm == DType::f32) {
        floats_.push_back(reinterpret_cast<float*>(ssm));
      } else {
        rounded_.push_back({reinterpret_cast<BFloat16*>(ssm), keys_ == nullptr ? states.rounding[s] : 0});
      }
    }
  }

  std::span<float* const> conv() const { return conv_; }

  /// The rows of `input` as the scan takes them. Points into this.
  ScanRows scan_rows(const BlockInput& input) const {
    return {.offsets = input.offsets,
            .states = floats_,
            .multiplicity = input.multiplicity,
            .wanted = input.wanted,
            .rounded = rounded_,
            .keys = keys_};
  }

 private:
  std::vector<float*> conv_;
  std::vector<float*> floats_;
  std::vector<RoundedState> rounded_;
  const std::uint32_t* keys_;
};

}  // namespace molt
