// Masks by the joint loss: what removing weights together costs, w_P [A_PP]^-1 w_P', rather than the sum of what each
// would cost alone.
//
// Pure functions; the same mask for any number of threads.
#pragma once

#include "compress/removal.h"

namespace molt {

/// For each group of `pattern` in the block, of all ways to keep as many as it allows the one of least joint loss; the
/// first of equals. weights [N, |B|]. What `zeros` [N, |B|] marks goes before all else.
Mask least_joint_of_groups(const RemovalBlock& block, const Sparsity& pattern, const MatrixXd& weights,
                           const Mask& zeros);

/// `count` weights of the block, [N, |B|]. There are too many ways for trying all: in each row weights are removed one
/// after another, always the one that adds least to the joint loss (with it that is exactly w_j^2 / A_jj, w and A as
/// the removals before it left them), and rows share `count` so that the sum of what they added is least, as far as
/// rows' own orders allow. (Frantar & Alistarh, "Optimal brain compression", NeurIPS 2022, arXiv 2208.11580, do so for
/// whole rows.) What `zeros` marks goes before all else.
Mask least_joint(const RemovalBlock& block, std::int64_t count, const MatrixXd& weights, const Mask& zeros);

}  // namespace molt
