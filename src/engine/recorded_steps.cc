#include "engine/recorded_steps.h"

#include <algorithm>
#include <numeric>

#include "molt/error.h"

namespace molt {
namespace {

constexpr std::size_t kMostSteps = 4;  // batches whose steps are kept

}  // namespace

bool RecordedSteps::step(const Batch& batch, Matrix<float> logits) {
  // States in bfloat16 are rounded with another key at each token, and attention's keys and values grow: a recording
  // can know neither.
  const bool same_each_time = batch.ssm == DType::f32 && model_.state_layout().kv.empty();
  if (!records_ || !same_each_time || batch.states.empty()) return false;
  const auto found = std::find_if(steps_.begin(), steps_.end(), [&](const Step& step) {
    return std::equal(step.states.begin(), step.states.end(), batch.states.begin(), batch.states.end());
  });
  if (found != steps_.end()) {
    steps_.splice(steps_.begin(), steps_, found);
  } else {
    const bool again = std::equal(last_.begin(), last_.end(), batch.states.begin(), batch.states.end());
    last_.assign(batch.states.begin(), batch.states.end());
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
  Step step{last_, Arena(model_.backend().memory()), {}, nullptr};
  std::vector<std::int64_t> rows(batch.states.size());
  std::iota(rows.begin(), rows.end(), 0);
  const auto run = [&] {
    const Stream stream = model_.forward(batch, step.arena);
    model_.head_there(stream, rows, step.arena, step.logits);
  };
  step.logits = step.arena.matrix(std::ssize(rows), model_.config().vocab_size);
  step.recording = model_.backend().record(run);
  return step;
}

}  // namespace molt
