// GPTQ as a method of `molt quantize`.
#include "compress/gptq.h"

#include "base/check.h"
#include "compress/quantizer.h"

namespace molt {
namespace {

class Gptq final : public Quantizer {
 public:
  QuantizedMatrix quantize(const Tensor& weight, const QuantizedFormat& format,
                           const InputMoments* inputs) const override {
    MOLT_CHECK(inputs != nullptr);
    return gptq(weight, format, *inputs);
  }
};

std::unique_ptr<Quantizer> make() {
  return std::make_unique<Gptq>();
}

const Registration<QuantizerEntry> registration{
    "gptq", {"round column by column, each making good what those before it lost on calibration text", true, &make}};

}  // namespace
}  // namespace molt
