// RecordedSteps: decode steps that are recorded on a device and repeated, for sequences that take token after token.
//
// Where a step is short, asking for its ops one by one takes longer than they do. So when the same sequences take a
// token each a second time, the step is recorded with the memory that it works in, and from then on repeated. Used by
// one session.
#pragma once

#include <list>
#include <memory>
#include <span>
#include <vector>

#include "model/model.h"

namespace molt {

class RecordedSteps {
 public:
  explicit RecordedSteps(const ModelCore& model) : model_(model), records_(model.backend().records()) {}

  /// Moves `batch`, of single tokens and dense, one step forward and writes the logits after each token to `logits`
  /// [S, vocab_size] on the host; false, and nothing done, where there is no recording of such a step (yet).
  bool step(const Batch& batch, Matrix<float> logits);

  /// Bytes of memory that the recorded steps work in.
  std::int64_t bytes() const;

 private:
  struct Step {
    std::vector<std::byte*> states;
    DType ssm;
    Arena arena;
    Matrix<float> logits;
    std::byte* keys;  // in the arena: of the rounding of states in bfloat16, which differ from token to token
    std::unique_ptr<Recording> recording;

    bool is_of(const Batch& batch) const;
  };

  Step record(const Batch& batch) const;
  void upload_keys(const Batch& batch, const Step& step) const;

  const ModelCore& model_;
  bool records_;                  // false, too, once it has failed
  std::vector<std::byte*> last_;  // the states of the last batch that was asked for
  DType last_ssm_ = DType::f32;
  std::list<Step> steps_;  // the latest first
};

}  // namespace molt
