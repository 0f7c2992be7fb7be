#include "model/model.h"

#include "base/fail.h"
#include "base/random.h"
#include "model/fingerprint.h"

namespace molt {
namespace {

std::shared_ptr<const Backend> suited(std::shared_ptr<const Backend> backend, DType weights) {
  std::shared_ptr<const Backend> other = backend->suited_to(weights);
  return other == nullptr ? std::move(backend) : std::move(other);
}

Matrix<float> gather(const Backend& backend, Matrix<const float> x, std::span<const std::int64_t> rows, Arena& arena) {
  const Matrix<float> result = arena.matrix(static_cast<std::int64_t>(rows.size()), x.cols);
  backend.gather_rows(x, rows, result);
  return result;
}

}  // namespace

ModelCore::ModelCore(ModelSpec spec, const WeightSource& source, std::shared_ptr<const Backend> backend, DType dtype,
                     DType ssm, std::optional<QuantizationPlan> plan)
    : config_(std::move(spec.config)), backend_(suited(std::move(backend), dtype)), dtype_(dtype), state_dtype_(ssm) {
  WeightLoader weights(source, spec.naming, *backend_, dtype, plan);
  const std::string table = "backbone.embeddings.weight";
  const bool quantized_table = weights.quantizes(table);
  Tensor stored_table;
  if (quantized_table) {
    packed_embedding_ = weights.matrix(table, config_.vocab_size, config_.d_model);
  } else {
    stored_table = weights.raw(table, {config_.vocab_size, config_.d_model});
  }
  for (std::int64_t i = 0; i < config_.n_layer; ++i) {
    Layer layer;
    layer.norm = Norm(weights, norm_name(i), config_);
    layer.block = spec.make_block(i, weights);
    if (layer.block->kv_shape().heads > 0 && !backend_->memory().is_host()) {
      fail(
          "{}: block {} is attention, whose keys and values lie in the host's memory so far: neither another backend "
          "nor "
          "a forecast of its memory works; use --backend cpu",
          source.description(), i);
    }
    for (StateLayout* layout : {&wide_, &rounded_}) layout->add(layer.block->state_parts(), layer.block->kv_shape());
    layers_.push_back(std::move(layer));
  }
  if (config_.position_offset) {
    positions_ =
        weights.place(weights.raw(kPositions, {config_.max_tokens + *config_.position_offset, config_.d_model}));
  }
  final_norm_ = Norm(weights, kFinalNorm, config_);
  if (config_.tie_embeddings) {
    weights.ignore("lm_head.weight");  // some files hold the tied head once more
    head_ = quantized_table ? packed_embedding_ : weights.matrix(table, config_.vocab_size, config_.d_model);
  } else {
    head_ = weights.matrix("lm_head.weight", config_.vocab_size, config_.d_model);
  }
  weights.finish();
  if (!quantized_table && config_.tie_embeddings && backend_->looks_up(*head_, stored_table.dtype())) {
    packed_embedding_ = head_;
  } else if (!quantized_table) {
    embedding_ = weights.place(stored_table);
  }
  weight_formats_ = weights.formats();
  fingerprint_ = molt::fingerprint(config_, source);
  stored_types_ = source.stored_types();
}

Stream ModelCore::forward(const Batch& batch, Arena& arena, Router* router) const {
  const auto rows = static_cast<std::int64_t>(batch.ids.size());
  Stream stream{arena.matrix(rows, config_.d_model), arena.matrix(rows, config_.d_model)};
  if (packed_embedding_ != nullptr) {
    backend_->embed(*packed_embedding_, batch.ids, stream.residual);
  } else {
    backend_->embed(embedding_, batch.ids, stream.residual);
  }
  stream.h_pending = !positions_.empty();  // which begin as what a block before the first would add
  if (stream.h_pending) embed_positions(batch, stream.h);
  forward_from(0, batch, stream, arena, router);
  return stream;
}

void ModelCore::embed_positions(const Batch& batch, Matrix<float> y) const {
  MOLT_CHECK(batch.seen.size() == batch.states.size());
  std::vector<TokenId> rows;
  for (std::size_t s = 0; s < batch.states.size(); ++s) {
    const std::int64_t first = batch.seen[s] + *config_.position_offset - batch.offsets[s];
    for (std::int64_t t = batch.offsets[s]; t < batch.offsets[s + 1]; ++t) {
      rows.push_back(static_cast<TokenId>(first + t));
    }
  }
  backend_->embed(positions_, rows, y);
}

void ModelCore::forward_from(std::int64_t first, const Batch& batch, Stream& stream, Arena& arena,
                             Router* router) const {
  ScanView room;  // of the last layer that was looked at
  std::string_view kind_in_room;
  for (std::int64_t i = first; i < config_.n_layer; ++i) {
    const LayerRows rows = router != nullptr ? router->enter(i, stream) : LayerRows{batch.offsets};
    if (rows.offsets.back() == 0) continue;
    const ScanSides sides = router != nullptr ? router->looks_at(i) : ScanSides{};
    // Outside of the layer's scope, for all that are looked at: what layers work in lies where it lay in the layer
    // before then, and is in caches.
    if (sides.any() && !(room.has(sides) && block(i).kind() == kind_in_room)) {
      room = block(i).scan_room(sides, batch.offsets.back(), batch.offsets.back(), arena);
      kind_in_room = block(i).kind();
    }
    const ScanView scan = room.only(sides).rows(0, rows.offsets.back(), 0, stream.residual.rows);
    const Arena::Scope scope(arena);
    const bool leaves_h = router != nullptr ? router->looks_at_h(i) : i + 1 == config_.n_layer;
    const LayerStream whole{stream.residual, stream.h, stream.h_pending, leaves_h};
    for (const RowSlice& slice : cut_rows(rows.offsets, backend_->rows_at_once())) {
      stream.h_pending = forward_slice(i, batch, rows, slice, whole, scan, arena);
    }
    if (router != nullptr) router->leave(i, block(i), scan, stream);
  }
}

bool ModelCore::forward_slice(std::int64_t i, const Batch& batch, const LayerRows& rows, const RowSlice& slice,
                              const LayerStream& whole, const ScanView& scan, Arena& arena) const {
  const Arena::Scope scope(arena);
  const Layer& layer = layers_[static_cast<std::size_t>(i)];
  const SlicedRows sliced(rows, slice);
  const LayerRows& part = sliced.rows();
  LayerStream stream = whole;
  for (Matrix<float>* branch : {&stream.residual, &stream.h}) {
    *branch = branch->row_range(sliced.full_begin(), sliced.full_end());
  }
  const LayerSequences sequences = layer_sequences(batch, i, slice);
  BlockInput input{.x = {},
                   .offsets = part.offsets,
                   .states = {sequences.states, batch.ssm, sequences.rounding, sequences.kv, sequences.keys},
                   .full = part.full,
                   .writes = {},
                   .wanted = part.wanted,
                   .multiplicity = part.multiplicity};
  const ScanView seen = scan.rows(slice.begin, slice.end, sliced.full_begin(), sliced.full_end());
  if (layer.norm.is_rms() && part.writes.empty() &&
      layer.block->forward_layer(*backend_, layer.norm.rms(), stream, input, arena, seen)) {
    return stream.leaves_h;
  }
  const Matrix<float> normed = arena.matrix(stream.residual.rows, stream.residual.cols);
  if (stream.h_pending) {
    layer.norm.forward_sum(*backend_, stream.residual, stream.h, normed);
  } else {
    layer.norm.forward(*backend_, stream.residual, normed);
  }
  const std::vector<WriteRows> writes = norm_writes(part.writes, layer.norm, arena);
  input.x = normed;
  input.writes = writes;
  layer.block->forward(*backend_, input, arena, stream.h, seen);
  return true;
}

std::uint32_t ModelCore::rounding_key(std::int64_t seen, std::int64_t layer) const {
  Random random(static_cast<std::uint64_t>(seen * config_.n_layer + layer));
  return static_cast<std::uint32_t>(random.next() >> 32);
}

ModelCore::LayerSequences ModelCore::layer_sequences(const Batch& batch, std::int64_t layer,
                                                     const RowSlice& slice) const {
  const auto place = static_cast<std::size_t>(layer);
  const std::int64_t offset = state_layout(batch.ssm).layer_offsets[place];
  const bool has_kv = block(layer).kv_shape().heads > 0;
  LayerSequences result;
  if (batch.keys != nullptr) result.keys = batch.keys + place * batch.states.size() + slice.first_sequence;
  for (std::size_t i = 0; i < slice.sequences; ++i) {
    const std::size_t s = slice.first_sequence + i;
    result.states.push_back(batch.states[s] + offset);
    if ((batch.ssm == DType::f32 || batch.keys != nullptr) && !has_kv) continue;
    MOLT_CHECK(batch.seen.size() == batch.states.size());
    const std::int64_t seen = batch.seen[s] + (i == 0 ? slice.earlier : 0);
    if (batch.ssm != DType::f32) {
      result.rounding.push_back(rounding_key(seen, layer));
    }
    if (has_kv) {
      MOLT_CHECK(batch.kv.size() == batch.states.size());
      result.kv.push_back({batch.kv[s], wide_.kv_offsets[place], seen});
    }
  }
  return result;
}

std::vector<WriteRows> ModelCore::norm_writes(std::span<const AbsentRows> writes, const Norm& of_layer,
                                              Arena& arena) const {
  std::vector<WriteRows> normed;
  if (writes.empty()) return normed;
  MOLT_CHECK(of_layer.is_rms());
  const LayerNorm norm = of_layer.rms();
  for (const AbsentRows& write : writes) {
    const Matrix<float> x = arena.matrix(write.residual.rows, write.residual.cols);
    backend_->rms_norm(write.residual, write.map == nullptr ? norm.weight : nullptr, norm.eps, x);
    normed.push_back({x, write.map, write.places});
  }
  return normed;
}

void ModelCore::head_there(const Stream& stream, std::span<const std::int64_t> rows, Arena& arena,
                           Matrix<float> logits) const {
  const Arena::Scope scope(arena);
  const Matrix<float> residual = gather(*backend_, stream.residual, rows, arena);
  Matrix<float> normed = residual;
  if (stream.h_pending) {
    normed = gather(*backend_, stream.h, rows, arena);
    final_norm_.forward_sum(*backend_, residual, normed, normed);
  } else {
    final_norm_.forward(*backend_, residual, normed);
  }
  backend_->matmul(normed, *head_, nullptr, logits);
}

std::optional<std::int64_t> ModelCore::first_without_scan() const {
  for (std::int64_t i = 0; i < config_.n_layer; ++i) {
    if (!block(i).has_scan()) return i;
  }
  return std::nullopt;
}

void ModelCore::head(const Stream& stream, std::span<const std::int64_t> rows, Arena& arena,
                     Matrix<float> logits) const {
  const Memory& memory = backend_->memory();
  if (memory.is_host()) return head_there(stream, rows, arena, logits);
  const Arena::Scope scope(arena);
  const Matrix<float> there = arena.matrix(logits.rows, logits.cols);
  head_there(stream, rows, arena, there);
  MOLT_CHECK(logits.stride == logits.cols);
  memory.download(reinterpret_cast<const std::byte*>(there.data), reinterpret_cast<std::byte*>(logits.data),
                  logits.rows * logits.cols * size_of(DType::f32));
}

BlockCost ModelCore::cost() const {
  BlockCost total;
  for (const Layer& layer : layers_) {
    const BlockCost cost = layer.block->cost();
    total.flops_per_token += cost.flops_per_token;
    total.flops_per_pair += cost.flops_per_pair;
    total.parameters += cost.parameters + layer.norm.size();
    total.weight_bytes += cost.weight_bytes + layer.norm.bytes();
  }
  const std::int64_t head = config_.vocab_size * config_.d_model;
  total.flops_per_token += 2.0 * static_cast<double>(head);
  total.parameters += head * (config_.tie_embeddings ? 1 : 2) + final_norm_.size();
  if (!positions_.empty()) total.parameters += positions_.size();
  total.weight_bytes += head_->bytes() + final_norm_.bytes();
  return total;
}

}  // namespace molt
