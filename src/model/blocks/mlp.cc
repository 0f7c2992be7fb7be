#include "model/blocks/mlp.h"

#include "model/blocks/linear.h"
#include "model/blocks/scanless.h"

namespace molt {
namespace {

class Mlp final : public ScanlessBlock {
 public:
  Mlp(const MlpConfig& config, const std::string& prefix, WeightLoader& weights)
      : d_inner_(config.d_inner),
        up_proj_(weights, prefix + "up_proj", config.d_inner, config.d_model, config.bias),
        down_proj_(weights, prefix + "down_proj", config.d_model, config.d_inner, config.bias) {}

  std::string_view kind() const override { return "mlp"; }

  BlockCost cost() const override {
    BlockCost cost;
    for (const Linear* linear : {&up_proj_, &down_proj_}) linear->add_cost(cost);
    cost.flops_per_token += static_cast<double>(d_inner_);
    return cost;
  }

  void forward(const Backend& backend, const BlockInput& input, Arena& arena, Matrix<float> h,
               const ScanView& /*scan*/) const override {
    MOLT_CHECK(!input.has_writes());
    const Matrix<float> up = up_proj_.forward(backend, input.x, arena);
    backend.relu(up, up);
    down_proj_.forward(backend, up, h);
  }

 private:
  std::int64_t d_inner_;
  Linear up_proj_;
  Linear down_proj_;
};

}  // namespace

std::unique_ptr<Block> make_mlp(const MlpConfig& config, const std::string& prefix, WeightLoader& weights) {
  return std::make_unique<Mlp>(config, prefix, weights);
}

}  // namespace molt
