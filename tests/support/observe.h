// observe(): runs a text through all layers and shows each block's input and output to a function.
#pragma once

#include <functional>
#include <span>

#include "model/model.h"
#include "molt/model.h"
#include "molt/state.h"

namespace molt::testing_support {

/// Takes a layer's input residual and its output, [T, d_model] each.
using Observer = std::function<void(std::int64_t layer, Matrix<const float> residual, Matrix<const float> h)>;

/// Lets every row run every layer, and looks.
class ObservingRouter final : public Router {
 public:
  ObservingRouter(const Memory& memory, Offsets offsets, const Observer& observer)
      : memory_(memory), offsets_(offsets), observer_(observer) {}
  LayerRows enter(std::int64_t /*layer*/, Stream& /*stream*/) override { return {offsets_}; }
  ScanSides looks_at(std::int64_t /*layer*/) const override { return {}; }
  void leave(std::int64_t layer, const Block& /*block*/, const ScanView& /*scan*/, Stream& stream) override {
    const Tensor residual = memory_.fetch(Matrix<const float>(stream.residual));
    const Tensor h = memory_.fetch(Matrix<const float>(stream.h));
    observer_(layer, residual.matrix(), h.matrix());
  }

 private:
  const Memory& memory_;
  Offsets offsets_;
  const Observer& observer_;
};

inline void observe(const Model& model, std::span<const TokenId> ids, const Observer& observer) {
  Arena arena(model.core()->backend().memory());
  State state(model);
  state.reserve(std::ssize(ids));
  std::byte* const states[] = {state.data()};
  const std::int64_t seen[] = {0};
  const std::span<std::byte* const> kv[] = {state.kv_blocks()};
  const std::int64_t offsets[] = {0, std::ssize(ids)};
  ObservingRouter router(model.core()->backend().memory(), offsets, observer);
  model.core()->forward({ids, offsets, states, DType::f32, seen, kv}, arena, &router);
}

}  // namespace molt::testing_support
