// SparseGPT: weights go one column after another, each made good by the columns behind it.
//
// Frantar & Alistarh, "SparseGPT: Massive language models can be accurately pruned in one-shot" (ICML 2023, arXiv
// 2301.00774). As published: in blocks of 128 columns, when a block is reached, those of all rows' weights go whose
// removal costs least, w_j^2 / U_jj^2, the same share in every block; a pattern's when its group is reached.
#include "base/check.h"
#include "compress/output_error.h"
#include "compress/removal.h"

namespace molt {
namespace {

constexpr std::int64_t kBlock = 128;

class SparseGpt final : public Pruner {
 public:
  Tensor prune(const Tensor& given, const InputMoments* inputs, const PruneSettings& settings) const override {
    MOLT_CHECK(inputs != nullptr && inputs->width() == given.shape()[1]);
    const MatrixXd weight = to_matrix(given);
    check_finite(weight, "pruned");
    const Sparsity& sparsity = settings.sparsity;
    MatrixXd weights = weight;
    sweep_blocks(weights, InverseHessian(*inputs, settings.damping), block_size(kBlock, sparsity),
                 [&](const RemovalBlock& block, MatrixXd& current) {
                   const Mask zeros = zeros_of(weight.middleCols(block.begin, block.size()));
                   if (sparsity.pattern()) return remove_one_by_one(block, sparsity, zeros, current);
                   const MatrixXd scores = current.middleCols(block.begin, block.size()).array().square().rowwise() /
                                           block.factor.diagonal().transpose().array().square();
                   const Mask mask = least_of_block(scores, sparsity, block.begin, zeros);
                   return remove_one_by_one(block, mask, current);
                 });
    return to_tensor(weights, DType::f64);
  }
};

std::unique_ptr<Pruner> make() {
  return std::make_unique<SparseGpt>();
}

const Registration<PrunerEntry> registration{
    "sparsegpt", {"column after column, each removal made good by the columns behind it", true, &make}};

}  // namespace
}  // namespace molt
