// Removing weights from a matrix so that its outputs change least: the others take over what the removed ones gave.
//
// The error of a row w that becomes v is (w - v) H (w - v)' with H the damped second moments of the inputs. With the
// removed columns P of a row fixed, the least error is w_P [Hi_PP]^-1 w_P' where Hi = H^-1, for
//   v = w - w_P [Hi_PP]^-1 Hi_P,:
// (multiple removal: Zhao et al., "Pruning foundation models for high accuracy without retraining", Findings of EMNLP
// 2024, arXiv 2410.15567; with one removed weight the step of Optimal Brain Surgeon, Hassibi & Stork 1993).
//
// One solve of that size for every row is dear, so columns are taken in blocks from left to right. When block B is
// reached, columns left of it are settled, and those from its first one on, R, are free: Hi is then A = (H_RR)^-1, of
// which with U'U = H^-1, U upper triangular, A_BB = U_BB' U_BB and A_BR = U_BB' U_BR. All removals of the block are
// compensated at once, in the block and right of it. Blocks of one column are what SparseGPT does (Frantar & Alistarh
// 2023, arXiv 2301.00774), one block of all columns is exact; in between each block is optimal given those before it.
//
// A block's step leaves what was lost as Y [N, |B|], by which the columns from B on change by -Y U_BR.
//
// Rows do not depend on each other: results do not depend on the number of threads. Float64 throughout.
#pragma once

#include <functional>

#include "compress/pruning_mask.h"

namespace molt {

/// H, damped, and the factor of its inverse. An input that was always 0 has next to nothing (1e-8 of the mean) on the
/// diagonal instead of the damping: its weights cost nothing, and go first.
class InverseHessian {
 public:
  /// Throws Error when the moments are not finite, or cannot be inverted.
  InverseHessian(const InputMoments& inputs, double damping);

  Eigen::Index width() const { return hessian_.rows(); }
  const MatrixXd& hessian() const { return hessian_; }
  const MatrixXd& factor() const { return factor_; }

 private:
  MatrixXd hessian_;
  MatrixXd factor_;
};

/// Columns [begin, end), and how they and all behind them are bound up with each other.
struct RemovalBlock {
  RemovalBlock(const InverseHessian& inverse, Eigen::Index begin, Eigen::Index end);

  Eigen::Index size() const { return end - begin; }

  Eigen::Index begin, end;
  MatrixXd factor;   // U_BB
  MatrixXd inverse;  // A_BB = U_BB' U_BB
  MatrixXd metric;   // A_BB^-1: the error of changes of the block when all behind it follow as best they can
};

/// Handles one block of `weights` [N, K]: removes some of its columns' weights, changes the others of the block, and
/// returns Y.
using BlockStep = std::function<MatrixXd(const RemovalBlock& block, MatrixXd& weights)>;

/// Runs `step` over blocks of `size` columns (0: of all) and lets the columns behind each follow.
void sweep_blocks(MatrixXd& weights, const InverseHessian& inverse, std::int64_t size, const BlockStep& step);

/// Removes what `mask` [N, |B|] marks, all of a row at once; the smaller of two systems is solved, that of the removed
/// columns or that of the kept ones.
MatrixXd remove_together(const RemovalBlock& block, const Mask& mask, MatrixXd& weights);

/// Removes it one column after another: each is made good by the columns behind it alone.
MatrixXd remove_one_by_one(const RemovalBlock& block, const Mask& mask, MatrixXd& weights);

/// The same for a mask that is chosen on the way: when a group of `pattern` is reached, the weights go whose removal
/// then costs least, w_j^2 / U_jj^2, those that `zeros` marks before all others. The block holds whole groups.
MatrixXd remove_one_by_one(const RemovalBlock& block, const Sparsity& pattern, const Mask& zeros, MatrixXd& weights);

}  // namespace molt
