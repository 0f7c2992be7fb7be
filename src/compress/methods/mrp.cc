// Multiple removal: all weights of a block of columns go at once, and all others of a row make them good.
//
// Zhao et al., "Pruning foundation models for high accuracy without retraining" (Findings of EMNLP 2024, arXiv
// 2410.15567). The two letters of a method are those of the paper: of how weights are chosen, by what each alone would
// cost (S, w_j^2 / A_jj) or by what they cost together (M), and of how they are made good, one by one (S) or together
// (M). What of this is ours: blocks (removal.h); the choice M without a pattern (joint_mask.h), which the paper leaves
// open.
#include <utility>

#include "base/check.h"
#include "compress/joint_mask.h"
#include "compress/mask_refinement.h"
#include "compress/output_error.h"
#include "compress/polish.h"

namespace molt {
namespace {

enum class Ways { one_by_one, together };

class MultipleRemoval final : public Pruner {
 public:
  MultipleRemoval(Ways chosen, Ways compensated) : chosen_(chosen), compensated_(compensated) {}

  Tensor prune(const Tensor& given, const InputMoments* inputs, const PruneSettings& settings) const override {
    MOLT_CHECK(inputs != nullptr && inputs->width() == given.shape()[1]);
    const MatrixXd weight = to_matrix(given);
    check_finite(weight, "pruned");
    const Sparsity& sparsity = settings.sparsity;
    const std::int64_t size = block_size(settings.block, sparsity);
    const InverseHessian inverse(*inputs, settings.damping);
    MatrixXd weights = weight;
    Mask all(weight.rows(), weight.cols());
    sweep_blocks(weights, inverse, size, [&](const RemovalBlock& block, MatrixXd& current) {
      const Mask zeros = zeros_of(weight.middleCols(block.begin, block.size()));
      const MatrixXd part = current.middleCols(block.begin, block.size());
      Mask mask = choose(block, part, zeros, sparsity);
      if (settings.refine > 0) {
        mask = refine_compensated(block, part, sparsity, zeros, std::move(mask), settings.refine);
      }
      all.middleCols(block.begin, block.size()) = mask;
      return compensated_ == Ways::together ? remove_together(block, mask, current)
                                            : remove_one_by_one(block, mask, current);
    });
    const bool exact = size == 0 || size >= weight.cols();
    if (compensated_ == Ways::together && settings.polish && !exact) {
      polish(weight, all, inverse.hessian(), {}, weights);
    }
    return to_tensor(weights, DType::f64);
  }

 private:
  Mask choose(const RemovalBlock& block, const MatrixXd& weights, const Mask& zeros, const Sparsity& sparsity) const {
    if (chosen_ == Ways::together) {
      return sparsity.pattern() ? least_joint_of_groups(block, sparsity, weights, zeros)
                                : least_joint(block, removed_of_block(sparsity, weights.rows(), block.begin, block.end),
                                              weights, zeros);
    }
    const MatrixXd scores = weights.array().square().rowwise() / block.inverse.diagonal().transpose().array();
    return least_of_block(scores, sparsity, block.begin, zeros);
  }

  Ways chosen_;
  Ways compensated_;
};

template <Ways chosen, Ways compensated>
std::unique_ptr<Pruner> make() {
  return std::make_unique<MultipleRemoval>(chosen, compensated);
}

const Registration<PrunerEntry> registrations[] = {
    {"mrp-ss",
     {"chosen by what each costs alone, made good one by one", true, &make<Ways::one_by_one, Ways::one_by_one>}},
    {"mrp-sm", {"chosen by what each costs alone, made good together", true, &make<Ways::one_by_one, Ways::together>}},
    {"mrp-mm", {"chosen by what they cost together, made good together", true, &make<Ways::together, Ways::together>}}};

}  // namespace
}  // namespace molt
