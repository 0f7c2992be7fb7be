#include "model/blocks/attention.h"

#include <cmath>

#include "model/blocks/linear.h"
#include "model/blocks/scanless.h"

namespace molt {
namespace {

class AttentionBlock final : public ScanlessBlock {
 public:
  AttentionBlock(const AttentionBlockConfig& config, const std::string& prefix, WeightLoader& weights)
      : config_(config),
        q_proj_(weights, prefix + "q_proj", q_channels(), config.d_model, config.qkv_bias),
        k_proj_(weights, prefix + "k_proj", kv_shape().channels(), config.d_model, config.qkv_bias),
        v_proj_(weights, prefix + "v_proj", kv_shape().channels(), config.d_model, config.qkv_bias),
        o_proj_(weights, prefix + "o_proj", config.d_model, q_channels(), config.out_bias) {}

  std::string_view kind() const override { return "attention"; }

  KvShape kv_shape() const override { return {config_.kv_heads, config_.head_dim}; }

  BlockCost cost() const override {
    BlockCost cost;
    for (const Linear* linear : {&q_proj_, &k_proj_, &v_proj_, &o_proj_}) linear->add_cost(cost);
    // Score and weighted value, a multiply-add a channel each; an exponential a head.
    cost.flops_per_pair = 4.0 * static_cast<double>(q_channels()) + static_cast<double>(config_.heads);
    return cost;
  }

  void forward(const Backend& backend, const BlockInput& input, Arena& arena, Matrix<float> h,
               const ScanView& /*scan*/) const override {
    MOLT_CHECK(!input.has_writes() && input.states.kv.size() + 1 == input.offsets.size());
    const std::int64_t kv_channels = kv_shape().channels();
    // Queries and keys side by side: they are turned alike.
    const Matrix<float> qkv = arena.matrix(input.x.rows, q_channels() + 2 * kv_channels);
    const Matrix<float> q = qkv.col_range(0, q_channels());
    const Matrix<float> k = qkv.col_range(q_channels(), q_channels() + kv_channels);
    const Matrix<float> v = qkv.col_range(q_channels() + kv_channels, qkv.cols);
    q_proj_.forward(backend, input.x, q);
    k_proj_.forward(backend, input.x, k);
    v_proj_.forward(backend, input.x, v);
    if (!config_.frequencies.empty()) {
      std::vector<std::int64_t> first;
      for (const KvSequence& sequence : input.states.kv) first.push_back(sequence.tokens);
      backend.rope(qkv.col_range(0, q_channels() + kv_channels), config_.heads + config_.kv_heads, config_.frequencies,
                   config_.interleaved, input.offsets, first);
    }
    const Matrix<float> y = arena.matrix(input.x.rows, q_channels());
    const float scale = 1.0F / std::sqrt(static_cast<float>(config_.head_dim));
    backend.attention(q, k, v, kv_shape(), scale, input.offsets, input.states.kv, y);
    o_proj_.forward(backend, y, h);
  }

 private:
  std::int64_t q_channels() const { return config_.heads * config_.head_dim; }

  AttentionBlockConfig config_;
  Linear q_proj_;
  Linear k_proj_;
  Linear v_proj_;
  Linear o_proj_;
};

}  // namespace

std::unique_ptr<Block> make_attention_block(const AttentionBlockConfig& config, const std::string& prefix,
                                            WeightLoader& weights) {
  return std::make_unique<AttentionBlock>(config, prefix, weights);
}

}  // namespace molt
