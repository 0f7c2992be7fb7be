// Refining a mask: as long as it pays, a removed weight of a row comes back and a kept one goes, the pair whose
// exchange lessens the row's error most. Exact: the error of every exchange is known from the moments alone.
//
// (Swaps of weights that are removed without compensation: SparseSwaps, arXiv 2512.10922. Swaps whose errors have the
// compensation in them are ours.)
//
// Rows keep their number of removed weights, and groups of a pattern theirs. Pure functions; the same mask for any
// number of threads.
#pragma once

#include "compress/removal.h"

namespace molt {

/// For weights that are not compensated: of a row, (w_P) H_PP (w_P)' falls with each of at most `swaps` exchanges.
/// weights [N, K], hessian [K, K]. Weights that are 0 stay removed. Work: swaps |P| |K| a row.
Mask refine_removed(const MatrixXd& weights, const Eigen::Ref<const MatrixXd>& hessian, const Sparsity& sparsity,
                    Mask mask, int swaps);

/// For weights of a block that are removed together: of a row, w_P [A_PP]^-1 w_P' falls. weights, mask, zeros [N, |B|];
/// what `zeros` marks stays removed. Work: about |B|^3 a row, and 5 |B|^2 a swap.
Mask refine_compensated(const RemovalBlock& block, const MatrixXd& weights, const Sparsity& sparsity, const Mask& zeros,
                        Mask mask, int swaps);

/// `weight` without what `mask` marks, refined by settings.refine exchanges where `inputs` (or null) are known;
/// float64.
Tensor removed_as_they_are(const MatrixXd& weight, Mask mask, const InputMoments* inputs,
                           const PruneSettings& settings);

}  // namespace molt
