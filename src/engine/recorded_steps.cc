#include "engine/recorded_steps.h"

#include <algorithm>
#include <numeric>

#include "molt/error.h"

namespace molt {
namespace {

constexpr std::size_t kMostSteps = 4;  // batches whose steps are kept

}  // namespace

bool RecordedSteps::step(const Batch& batch, Matrix<float> logits) {
  // Attention's keys and values grow, which a recording cannot know.
  if (!records_ || !model_.state_layout().kv.empty() || batch.states.empty()) return false;
  const auto found = std::find_if(steps_.begin(), steps_.end(), [&](const Step& step) { return step.is_of(batch); });
  if (found != steps_.end()) {
    steps_.splice(steps_.begin(), steps_, found);
  } else {
    const bool again =
        last_ssm_ == batch.ssm && std::equal(last_.begin(), last_.end(), batch.states.begin(), batch.states.end());
    last_.assign(batch.states.begin(), batch.states.end());
    last_ssm_ = batch.ssm;
    if (!again) return false;  // the first such step runs as it is, which also shows what memory it needs
    if (steps_.size() == kMostSteps) steps_.pop_back();
    try {
      steps_.push_front(record(batch));
    } catch (const Error&) {  // an op that waits for the device, or too little memory: steps run as they do elsewhere
      records_ = false;
      return false;
    }
  }
  const Step& step = steps_.front();
  if (batch.ssm != DType::f32) upload_keys(batch, step);
  step.recording->replay(batch.ids);
  model_.backend().memory().download(reinterpret_cast<const std::byte*>(step.logits.data),
                                     reinterpret_cast<std::byte*>(logits.data),
                                     logits.rows * logits.cols * size_of(DType::f32));
  return true;
}

std::int64_t RecordedSteps::bytes() const {
  std::int64_t bytes = 0;
  for (const Step& step : steps_) bytes += step.arena.bytes();
  return bytes;
}

RecordedSteps::Step RecordedSteps::record(const Batch& batch) const {
  Step step{last_, batch.ssm, Arena(model_.backend().memory()), {}, nullptr, nullptr};
  std::vector<std::int64_t> rows(batch.states.size());
  std::iota(rows.begin(), rows.end(), 0);
  Batch recorded = batch;
  if (batch.ssm != DType::f32) {
    step.keys = reinterpret_cast<std::byte*>(step.arena.floats(model_.config().n_layer * std::ssize(batch.states)));
    recorded.keys = reinterpret_cast<const std::uint32_t*>(step.keys);
  }
  const auto run = [&] {
    const Stream stream = model_.forward(recorded, step.arena);
    model_.head_there(stream, rows, step.arena, step.logits);
  };
  step.logits = step.arena.matrix(std::ssize(rows), model_.config().vocab_size);
  step.recording = model_.backend().record(run);
  return step;
}

bool RecordedSteps::Step::is_of(const Batch& batch) const {
  return ssm == batch.ssm && std::equal(states.begin(), states.end(), batch.states.begin(), batch.states.end());
}

void RecordedSteps::upload_keys(const Batch& batch, const Step& step) const {
  std::vector<std::uint32_t> keys;
  for (std::int64_t layer = 0; layer < model_.config().n_layer; ++layer) {
    for (const std::int64_t seen : batch.seen) keys.push_back(model_.rounding_key(seen, layer));
  }
  const auto bytes = static_cast<std::int64_t>(keys.size() * sizeof(std::uint32_t));
  model_.backend().memory().upload(reinterpret_cast<const std::byte*>(keys.data()), step.keys, bytes);
}

}  // namespace molt
