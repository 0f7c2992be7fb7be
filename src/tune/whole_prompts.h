// WholePrompts: prompts of a batch, each reduced whole and on its own, as a ReducedPass wants them.
#pragma once

#include <span>
#include <vector>

#include "reduction/row_table.h"

namespace molt {

class WholePrompts {
 public:
  /// `offsets`: bounds of the prompts in the batch, [prompts + 1]. `reduction` must outlive this.
  WholePrompts(const ModelCore& model, const Reduction::Core& reduction, std::span<const std::int64_t> offsets)
      : records_(offsets.size() - 1),
        owed_(records_.size(), std::vector<std::int64_t>(static_cast<std::size_t>(model.config().n_layer), 0)) {
    for (std::size_t p = 0; p < records_.size(); ++p) {
      const std::int64_t tokens = offsets[p + 1] - offsets[p];
      pieces_.push_back({.reduction = &reduction,
                         .place = {.begin = 0, .tokens = tokens, .length = tokens},
                         .fed = tokens,
                         .owed = owed_[p],
                         .record = &records_[p]});
    }
  }
  WholePrompts(const WholePrompts&) = delete;
  WholePrompts& operator=(const WholePrompts&) = delete;

  std::span<const ReducedPiece> pieces() const { return pieces_; }

  /// What became of each prompt, once a pass is done.
  std::span<ReductionRecord> records() { return records_; }

 private:
  std::vector<ReductionRecord> records_;
  std::vector<std::vector<std::int64_t>> owed_;
  std::vector<ReducedPiece> pieces_;  // point into the others
};

}  // namespace molt
