#include "model/blocks/mamba2.h"

#include <vector>

#include "model/blocks/linear.h"
#include "model/blocks/participants.h"
#include "model/blocks/ssm_states.h"
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
        dt_bias_(weights.placed_vector(prefix + "dt_bias", {config.heads})),
        A_(weights.place(load_transition(weights, prefix, {config.heads}))),
        out_proj_(weights, prefix + "out_proj", config.d_model, config.d_inner, config.bias) {
    const std::int64_t stored_size = config.D_per_channel ? config.d_inner : config.heads;
    const Tensor stored = weights.vector(prefix + "D", {stored_size});
    const std::int64_t repeat = config.d_inner / stored_size;
    const Tensor D = Tensor::zeros(DType::f32, {config.d_inner});
    for (std::int64_t i = 0; i < config.d_inner; ++i) D.as<float>()[i] = stored.as<float>()[i / repeat];
    D_ = weights.place(D);
    if (config.gated_norm) norm_ = weights.placed_vector(prefix + "norm.weight", {config.d_inner});
  }

  std::string_view kind() const override { return "mamba2"; }

  std::vector<StatePart> state_parts() const override {
    return {conv_.state_part(), {"ssm", {config_.heads, config_.d_state, config_.d_inner / config_.heads}, true}};
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

  double write_flops(const WriteMap* map) const override {
    const std::int64_t channels =
        map == nullptr ? d_inner() : static_cast<std::int64_t>(map->heads.size()) * head_dim();
    const double projection =
        map == nullptr ? 2.0 * static_cast<double>((conv_channels_ + config_.heads) * config_.d_model) : map->flops();
    // Projection, convolution of what is projected, and of the scan the decay and the input.
    return projection + 2.0 * static_cast<double>((channels + config_.groups * config_.d_state) * config_.d_conv) +
           3.0 * static_cast<double>(channels * config_.d_state);
  }

  void forward(const Backend& backend, const BlockInput& input, Arena& arena, Matrix<float> h,
               const ScanView& scan) const override {
    const Matrix<float> z_xbc_dt = in_proj_.forward(backend, input.x, arena);
    const Matrix<float> z = z_xbc_dt.col_range(0, d_inner());
    const Matrix<float> xbc_dt =
        participants(backend, input, z_xbc_dt.col_range(d_inner(), z_xbc_dt.cols), arena,
                     [&](const WriteRows& rows, Matrix<float> part) { project_writes(backend, rows, arena, part); });
    const Matrix<float> dt_in = xbc_dt.col_range(conv_channels_, xbc_dt.cols);
    const Matrix<float> dt = scan.has_input() ? scan.dt : dt_in;
    const SsmStates states(input.states, conv_.state_part());
    const Matrix<float> xbc = kept_or_scratch(convolved(scan), input.rows(), conv_channels_, arena);
    backend.causal_conv(xbc_dt.col_range(0, conv_channels_), conv_.weight.matrix(), conv_.bias_or_null(), input.offsets,
                        states.conv(), xbc);
    backend.softplus(dt_in, dt_bias_.as<float>(), config_.dt_min, config_.dt_max, dt);

    const bool view_fits = scan.has_output() && !input.has_writes();
    const Matrix<float> all_y = view_fits ? scan.y : arena.matrix(input.rows(), d_inner());
    const Matrix<float> x = xbc.col_range(0, d_inner());
    const Matrix<float> B = xbc.col_range(d_inner(), d_inner() + bc());
    backend.ssd(x, dt, A(), B, xbc.col_range(d_inner() + bc(), conv_channels_), config_.groups, D(),
                states.scan_rows(input), all_y);
    const Matrix<float> y = full_part(backend, input, all_y, scan);
    const Matrix<float> gated = gated_place(input, x, y, scan, arena);
    if (config_.gated_norm) {
      backend.gated_rms_norm(y, z, norm_.as<float>(), config_.norm_eps, config_.norm_group, config_.norm_before_gate,
                             gated);
    } else {
      backend.silu_gate(y, z, gated);
    }
    out_proj_.forward(backend, gated, h);
  }

  ScanView scan_room(ScanSides sides, std::int64_t rows, std::int64_t full, Arena& arena) const override {
    ScanView scan;
    if (sides.output) scan.y = arena.matrix(full, d_inner());
    if (sides.input) {
      const Matrix<float> xbc = arena.matrix(rows, conv_channels_);
      scan.x = xbc.col_range(0, d_inner());
      scan.B = xbc.col_range(d_inner(), d_inner() + bc());
      scan.dt = arena.matrix(rows, config_.heads);
    }
    return scan;
  }

  bool forward_layer(const Backend& backend, const LayerNorm& norm, const LayerStream& stream, const BlockInput& input,
                     Arena& arena, const ScanView& scan) const override {
    if (scan.has_input() || !config_.gated_norm || !in_proj_.is_plain() || !out_proj_.is_plain()) return false;
    const SsmStates states(input.states, conv_.state_part());
    const Mamba2Layer layer{.norm = norm.weight,
                            .norm_eps = norm.eps,
                            .in_proj = &in_proj_.weight(),
                            .conv_weight = conv_.weight.matrix(),
                            .conv_bias = conv_.bias_or_null(),
                            .dt_bias = dt_bias_.as<float>(),
                            .dt_min = config_.dt_min,
                            .dt_max = config_.dt_max,
                            .A = A(),
                            .groups = config_.groups,
                            .D = D(),
                            .gate_norm = norm_.as<float>(),
                            .gate_norm_eps = config_.norm_eps,
                            .gate_norm_group = config_.norm_group,
                            .norm_before_gate = config_.norm_before_gate,
                            .out_proj = &out_proj_.weight()};
    return backend.mamba2_layer(layer, stream, states.conv(), states.scan_rows(input), arena, scan.y);
  }

  void contribution(const Backend& backend, const ScanView& scan, Offsets offsets, const float* multiplicity,
                    float* c) const override {
    backend.ssd_contribution(scan.x, scan.dt, A(), scan.B, config_.groups, multiplicity, offsets, c);
  }

  std::int64_t heads() const override { return config_.heads; }

  std::int64_t write_outputs(std::span<const std::int64_t> heads) const override {
    return static_cast<std::int64_t>(heads.size()) * head_dim() + bc() + config_.heads;
  }

  Matrix<float> write_inputs(const Backend& backend, Matrix<const float> x, std::span<const std::int64_t> heads,
                             bool with_bias, Arena& arena) const override {
    const Matrix<float> inputs = arena.matrix(x.rows, write_outputs(heads));
    const Arena::Scope scope(arena);
    const Matrix<float> xbc_dt = arena.matrix(x.rows, conv_channels_ + config_.heads);
    in_proj_.forward_part(backend, x, d_inner(), xbc_dt, with_bias);
    std::vector<ColumnRun> runs;
    for_each_written(heads, [&](std::int64_t column, std::int64_t place, std::int64_t count) {
      runs.push_back({column, place, count});
    });
    backend.copy_columns(xbc_dt, runs, inputs);
    return inputs;
  }

  std::vector<double> decay_rates(const Backend& backend, Matrix<const float> dt) const override {
    std::vector<double> rates(static_cast<std::size_t>(config_.heads), 0.0);
    const Tensor steps = backend.memory().fetch(dt);
    const Tensor transition = backend.memory().fetch(A_);
    const auto* const A = transition.as<float>();
    for (std::int64_t t = 0; t < dt.rows; ++t) {
      const float* const row = steps.matrix().row(t);
      for (std::size_t h = 0; h < rates.size(); ++h) {
        rates[h] -= static_cast<double>(row[h] * A[h]) / static_cast<double>(dt.rows);
      }
    }
    return rates;
  }

 private:
  std::int64_t d_inner() const { return config_.d_inner; }
  std::int64_t head_dim() const { return config_.d_inner / config_.heads; }
  std::int64_t bc() const { return config_.groups * config_.d_state; }
  std::span<const float> D() const { return {D_.as<float>(), static_cast<std::size_t>(d_inner())}; }
  std::span<const float> A() const { return {A_.as<float>(), static_cast<std::size_t>(config_.heads)}; }

  /// The convolution's output x, B, C, of which a view's x and B are parts (scan_room); null if it has none.
  Matrix<float> convolved(const ScanView& scan) const {
    return {scan.x.data, scan.x.rows, conv_channels_, scan.x.stride};
  }

  /// Of the columns x, B, C, dt of the projection those that writing `heads` takes (their x, B, every head's dt, by
  /// which the others decay), run by run: body(column in the projection, column in a write map's outputs, number of
  /// columns).
  template <class Body>
  void for_each_written(std::span<const std::int64_t> heads, Body body) const {
    std::int64_t from = 0;
    for (const std::int64_t head : heads) {
      body(head * head_dim(), from, head_dim());
      from += head_dim();
    }
    body(d_inner(), from, config_.groups * config_.d_state);
    body(conv_channels_, from + config_.groups * config_.d_state, config_.heads);
  }

  /// x, B, C, dt of rows that only write. Without a map all of them, C too, whose convolution later rows look back on;
  /// with one, zeros where it predicts nothing.
  void project_writes(const Backend& backend, const WriteRows& rows, Arena& arena, Matrix<float> xbc_dt) const {
    if (rows.map == nullptr) {
      in_proj_.forward_part(backend, rows.x, d_inner(), xbc_dt);
      return;
    }
    const Matrix<float> predicted = arena.matrix(rows.x.rows, rows.map->weight->out_features());
    rows.map->predict(backend, rows.x, predicted);
    std::vector<ColumnRun> runs;
    for_each_written(rows.map->heads, [&](std::int64_t column, std::int64_t from, std::int64_t count) {
      runs.push_back({from, column, count});
    });
    backend.copy_columns(predicted, runs, xbc_dt);
  }

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
