#include "model/blocks/mamba.h"

#include <limits>

#include "model/blocks/linear.h"
#include "model/blocks/participants.h"
#include "model/blocks/ssm_states.h"
#include "model/blocks/ssm_weights.h"

namespace molt {
namespace {

class MambaBlock final : public Block {
 public:
  MambaBlock(const MambaBlockConfig& config, const std::string& prefix, WeightLoader& weights)
      : config_(config),
        in_proj_(weights, prefix + "in_proj", 2 * config.d_inner, config.d_model, config.bias),
        conv_(weights, prefix + "conv1d", config.d_inner, config.d_conv, config.conv_bias),
        x_proj_(weights, prefix + "x_proj", config.dt_rank + 2 * config.d_state, config.d_inner, false),
        dt_proj_(weights, prefix + "dt_proj", config.d_inner, config.dt_rank, false),
        dt_bias_(weights.placed_vector(prefix + "dt_proj.bias", {config.d_inner})),
        out_proj_(weights, prefix + "out_proj", config.d_model, config.d_inner, config.bias),
        D_(weights.placed_vector(prefix + "D", {config.d_inner})) {
    // The scan wants channels side by side: A as [N, Di].
    const Tensor stored = load_transition(weights, prefix, {config.d_inner, config.d_state});
    const Tensor turned = Tensor::zeros(DType::f32, {config.d_state, config.d_inner});
    for (std::int64_t d = 0; d < config.d_inner; ++d) {
      for (std::int64_t n = 0; n < config.d_state; ++n) {
        turned.as<float>()[n * config.d_inner + d] = stored.as<float>()[d * config.d_state + n];
      }
    }
    A_ = weights.place(turned);
  }

  std::string_view kind() const override { return "mamba"; }

  std::vector<StatePart> state_parts() const override {
    return {conv_.state_part(), {"ssm", {config_.d_state, config_.d_inner}, true}};
  }

  BlockCost cost() const override {
    BlockCost cost;
    for (const Linear* linear : {&in_proj_, &x_proj_, &dt_proj_, &out_proj_}) linear->add_cost(cost);
    for (const Tensor* tensor : {&conv_.weight, &conv_.bias, &dt_bias_, &A_, &D_}) add_vector_cost(*tensor, cost);
    // Convolution: a multiply-add a tap. Scan: decay, input and output, an exponential counting as one.
    cost.flops_per_token += static_cast<double>(config_.d_inner) *
                            (2.0 * static_cast<double>(config_.d_conv) + 7.0 * static_cast<double>(config_.d_state));
    return cost;
  }

  double write_flops(const WriteMap* map) const override {
    const double projection =
        map == nullptr ? 2.0 * static_cast<double>(config_.d_inner * config_.d_model) : map->flops();
    // x, then dt and B from it, the convolution, and of the scan the decay and the input.
    const std::int64_t columns = 2 * config_.dt_rank + config_.d_state + config_.d_conv;
    return projection + static_cast<double>(config_.d_inner) *
                            (2.0 * static_cast<double>(columns) + 5.0 * static_cast<double>(config_.d_state));
  }

  void forward(const Backend& backend, const BlockInput& input, Arena& arena, Matrix<float> h,
               const ScanView& scan) const override {
    const std::int64_t d_inner = config_.d_inner;
    const std::int64_t d_state = config_.d_state;

    const Matrix<float> xz = in_proj_.forward(backend, input.x, arena);
    const Matrix<float> z = xz.col_range(d_inner, 2 * d_inner);
    const Matrix<float> conv_in =
        participants(backend, input, xz.col_range(0, d_inner), arena, [&](const WriteRows& rows, Matrix<float> part) {
          if (rows.map == nullptr) {
            in_proj_.forward_part(backend, rows.x, 0, part);
          } else {
            rows.map->predict(backend, rows.x, part);
          }
        });
    const SsmStates states(input.states, conv_.state_part());
    const Matrix<float> x = kept_or_scratch(scan.x, input.rows(), d_inner, arena);
    backend.causal_conv(conv_in, conv_.weight.matrix(), conv_.bias_or_null(), input.offsets, states.conv(), x);

    const Matrix<float> dt_b_c = x_proj_.forward(backend, x, arena);
    const Matrix<float> dt_low = dt_b_c.col_range(0, config_.dt_rank);
    const Matrix<float> B = dt_b_c.col_range(config_.dt_rank, config_.dt_rank + d_state);
    const Matrix<float> C = dt_b_c.col_range(config_.dt_rank + d_state, config_.dt_rank + 2 * d_state);
    if (config_.norm_bcdt) {
      for (const Matrix<float>& part : {dt_low, B, C}) {
        backend.rms_norm(part, nullptr, config_.bcdt_norm_eps, part);
      }
    }
    const Matrix<float> dt = kept_or_scratch(scan.dt, input.rows(), d_inner, arena);
    dt_proj_.forward(backend, dt_low, dt);
    backend.softplus(dt, dt_bias_.as<float>(), 0.0F, std::numeric_limits<float>::infinity(), dt);

    if (scan.has_input()) {
      const ColumnRun whole{0, 0, d_state};
      backend.copy_columns(B, {&whole, 1}, scan.B);
    }

    // What nobody looks at gives its place to what comes of it: x to y, y to its gated form.
    const bool view_fits = scan.has_output() && !input.has_writes();
    const Matrix<float> all_y = view_fits ? scan.y : scan.has_input() ? arena.matrix(input.rows(), d_inner) : x;
    backend.selective_scan(x, dt, A_.matrix(), B, C, D_.as<float>(), states.scan_rows(input), all_y);
    const Matrix<float> y = full_part(backend, input, all_y, scan);
    const Matrix<float> gated = gated_place(input, x, y, scan, arena);
    backend.silu_gate(y, z, gated);
    out_proj_.forward(backend, gated, h);
  }

  ScanView scan_room(ScanSides sides, std::int64_t rows, std::int64_t full, Arena& arena) const override {
    ScanView scan;
    if (sides.output) scan.y = arena.matrix(full, config_.d_inner);
    if (sides.input) {
      scan.x = arena.matrix(rows, config_.d_inner);
      scan.dt = arena.matrix(rows, config_.d_inner);
      scan.B = arena.matrix(rows, config_.d_state);
    }
    return scan;
  }

  bool forward_layer(const Backend& backend, const LayerNorm& norm, const LayerStream& stream, const BlockInput& input,
                     Arena& arena, const ScanView& scan) const override {
    if (scan.has_output() || scan.has_input()) return false;
    for (const Linear* linear : {&in_proj_, &x_proj_, &dt_proj_, &out_proj_}) {
      if (!linear->is_plain()) return false;
    }
    const SsmStates states(input.states, conv_.state_part());
    const Mamba1Layer layer{.norm = norm.weight,
                            .norm_eps = norm.eps,
                            .in_proj = &in_proj_.weight(),
                            .conv_weight = conv_.weight.matrix(),
                            .conv_bias = conv_.bias_or_null(),
                            .x_proj = &x_proj_.weight(),
                            .norm_bcdt = config_.norm_bcdt,
                            .bcdt_norm_eps = config_.bcdt_norm_eps,
                            .dt_proj = &dt_proj_.weight(),
                            .dt_bias = dt_bias_.as<float>(),
                            .A = A_.matrix(),
                            .D = D_.as<float>(),
                            .out_proj = &out_proj_.weight()};
    return backend.mamba1_layer(layer, stream, states.conv(), states.scan_rows(input), arena);
  }

  void contribution(const Backend& backend, const ScanView& scan, Offsets offsets, const float* multiplicity,
                    float* c) const override {
    backend.selective_scan_contribution(scan.x, scan.dt, A_.matrix(), scan.B, multiplicity, offsets, c);
  }

  std::int64_t heads() const override { return 0; }

  std::int64_t write_outputs(std::span<const std::int64_t> /*heads*/) const override { return config_.d_inner; }

  Matrix<float> write_inputs(const Backend& backend, Matrix<const float> x, std::span<const std::int64_t> /*heads*/,
                             bool with_bias, Arena& arena) const override {
    const Matrix<float> inputs = arena.matrix(x.rows, config_.d_inner);
    in_proj_.forward_part(backend, x, 0, inputs, with_bias);
    return inputs;
  }

  std::vector<double> decay_rates(const Backend& /*backend*/, Matrix<const float> /*dt*/) const override { return {}; }

 private:
  MambaBlockConfig config_;
  Linear in_proj_;
  ShortConv conv_;
  Linear x_proj_;
  Linear dt_proj_;  // its bias is added inside softplus
  Tensor dt_bias_;  // [Di]
  Linear out_proj_;
  Tensor A_;  // [N, Di], negative
  Tensor D_;  // [Di]
};

}  // namespace

std::unique_ptr<Block> make_mamba_block(const MambaBlockConfig& config, const std::string& prefix,
                                        WeightLoader& weights) {
  return std::make_unique<MambaBlock>(config, prefix, weights);
}

}  // namespace molt
