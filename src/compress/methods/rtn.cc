// Round to nearest: every weight by itself, to the nearest value of its group's grid.
#include "compress/quantizer.h"

namespace molt {
namespace {

class RoundToNearest final : public Quantizer {
 public:
  QuantizedMatrix quantize(const Tensor& weight, const QuantizedFormat& format,
                           const InputMoments* /*inputs*/) const override {
    return round_to_nearest(weight, format);
  }
};

std::unique_ptr<Quantizer> make() {
  return std::make_unique<RoundToNearest>();
}

const Registration<QuantizerEntry> registration{"rtn", {"round every weight to the nearest value", false, &make}};

}  // namespace
}  // namespace molt
