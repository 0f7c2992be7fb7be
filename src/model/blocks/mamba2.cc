#include "model/blocks/mamba2.h"

#include "model/blocks/linear.h"
#include "model/blocks/ssm_weights.h"

namespace molt {
namespace {

class Mamba2Block final : public Block {
 public:
  Mamba2Block(const Mamba2BlockConfig& config, const std::string& prefix, WeightLoader& weights)
      : config_(config),
        conv_channels_(config.d_inner + 2 * config.groups * config.d_state),
        in_proj_(weights, prefix + "in_proj", config.d_inner + conv_channels_ + config.heads, config.d_model,
                 config.bias),
        conv_(weights, prefix + "conv1d", conv_channels_, config.d_conv, config.conv_bias),
        dt_bias_(weights.vector(prefix + "dt_bias", {config.heads})),
        A_(transition(weights.vector(prefix + "A_log", {config.heads}))),
        D_(Tensor::zeros(DType::f32, {config.d_inner})),
        out_proj_(weights, prefix + "out_proj", config.d_model, config.d_inner, config.bias) {
    const std::int64_t stored_size = config.D_per_channel ? config.d_inner : config.heads;
    const Tensor stored = weights.vector(prefix + "D", {stored_size});
    const std::int64_t repeat = config.d_inner / stored_size;
    for (std::int64_t i = 0; i < config.d_inner; ++i) D_.as<float>()[i] = stored.as<float>()[i / repeat];
    if (config.gated_norm) norm_ = weights.vector(prefix + "norm.weight", {config.d_inner});
  }

  std::string_view kind() const override { return "mamba2"; }

  std::vector<StatePart> state_parts() const override {
    return {conv_.state_part(), {"ssm", {config_.heads, config_.d_state, config_.d_inner / config_.heads}}};
  }

  BlockCost cost() const override {
    BlockCost cost;
    for (const Linear* linear : {&in_proj_, &out_proj_}) linear->add_cost(cost);
    for (const Tensor* tensor : {&conv_.weight, &conv_.bias, &dt_bias_, &A_, &norm_}) add_vector_cost(*tensor, cost);
    cost.parameters += config_.D_per_channel ? config_.d_inner : config_.heads;
    cost.weight_bytes += D_.bytes();
    // Convolution: a multiply-add a tap. State: decay, input and output of each element.
    cost.flops_per_token += 2.0 * static_cast<double>(conv_channels_ * config_.d_conv) +
                            5.0 * static_cast<double>(config_.d_inner * config_.d_state);
    return cost;
  }

  void forward(const Backend& backend, const BlockInput& input, Arena& arena, Matrix<float> h) const override {
    const Arena::Scope scope(arena);
    const std::int64_t d_inner = config_.d_inner;
    const std::int64_t bc = config_.groups * config_.d_state;

    const Matrix<float> z_xbc_dt = in_proj_.forward(backend, input.x, arena);
    const Matrix<float> z = z_xbc_dt.col_range(0, d_inner);
    const Matrix<float> dt = z_xbc_dt.col_range(d_inner + conv_channels_, z_xbc_dt.cols);
    const Matrix<float> xbc = arena.matrix(input.x.rows, conv_channels_);
    backend.causal_conv(z_xbc_dt.col_range(d_inner, d_inner + conv_channels_), conv_.weight.matrix(),
                        conv_.bias_or_null(), input.offsets, input.states, xbc);
    backend.softplus(dt, dt_bias_.as<float>(), config_.dt_min, config_.dt_max, dt);

    const Matrix<float> y = arena.matrix(input.x.rows, d_inner);
    const auto ssm_states = advance(input.states, part_floats(conv_.state_part()));
    backend.ssd(xbc.col_range(0, d_inner), dt, {A_.as<float>(), static_cast<std::size_t>(config_.heads)},
                xbc.col_range(d_inner, d_inner + bc), xbc.col_range(d_inner + bc, d_inner + 2 * bc), config_.groups,
                {D_.as<float>(), static_cast<std::size_t>(d_inner)}, {input.offsets, ssm_states, input.multiplicity},
                y);
    if (config_.gated_norm) {
      backend.gated_rms_norm(y, z, norm_.as<float>(), config_.norm_eps, config_.norm_group, config_.norm_before_gate,
                             y);
    } else {
      backend.silu_gate(y, z, y);
    }
    out_proj_.forward(backend, y, h);
  }

 private:
  Mamba2BlockConfig config_;
  std::int64_t conv_channels_;
  Linear in_proj_;  // z [Di], x [Di], B [G*N], C [G*N], dt [H]
  ShortConv conv_;  // over x, B, C
  Tensor dt_bias_;  // [H]
  Tensor A_;        // [H], negative
  Tensor D_;        // [Di], one value a channel
  Tensor norm_;     // [Di], or empty
  Linear out_proj_;
};

}  // namespace

std::unique_ptr<Block> make_mamba2_block(const Mamba2BlockConfig& config, const std::string& prefix,
                                         WeightLoader& weights) {
  return std::make_unique<Mamba2Block>(config, prefix, weights);
}

}  // namespace molt
