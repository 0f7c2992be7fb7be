// ScanlessBlock: what blocks without a scan have in common, namely that token reduction has no business there.
//
// Reduction refuses models with such blocks when it is made for them, long before it would ask one of these questions.
#pragma once

#include "base/check.h"
#include "model/block.h"

namespace molt {

class ScanlessBlock : public Block {
 public:
  std::vector<StatePart> state_parts() const override { return {}; }
  bool has_scan() const final { return false; }
  ScanView scan_room(ScanSides /*sides*/, std::int64_t /*rows*/, std::int64_t /*full*/, Arena& /*arena*/) const final {
    return {};
  }
  double write_flops(const WriteMap* /*map*/) const final { return no_scan<double>(); }
  void contribution(const Backend& /*backend*/, const ScanView& /*scan*/, Offsets /*offsets*/,
                    const float* /*multiplicity*/, float* /*c*/) const final {
    no_scan<int>();
  }
  std::int64_t heads() const final { return 0; }
  std::int64_t write_outputs(std::span<const std::int64_t> /*heads*/) const final { return no_scan<std::int64_t>(); }
  Matrix<float> write_inputs(const Backend& /*backend*/, Matrix<const float> /*x*/,
                             std::span<const std::int64_t> /*heads*/, bool /*with_bias*/,
                             Arena& /*arena*/) const final {
    return no_scan<Matrix<float>>();
  }
  std::vector<double> decay_rates(const Backend& /*backend*/, Matrix<const float> /*dt*/) const final { return {}; }

 private:
  template <class Result>
  static Result no_scan() {
    MOLT_CHECK(!"a block without a scan was asked about its scan");
    return {};
  }
};

}  // namespace molt
