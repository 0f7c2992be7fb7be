// Masks: which weights go, chosen by scores.
//
// Pure functions; the same mask for any number of threads. Of equal scores the first place goes first.
#pragma once

#include "compress/inverse_factor.h"
#include "compress/pruner.h"

namespace molt {

/// [N, K]: 1 where a weight goes.
using Mask = Eigen::Matrix<std::uint8_t, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// The `count` least scores of the whole matrix.
Mask least_of_all(const MatrixXd& scores, std::int64_t count);

/// In each row as many of the least scores as `sparsity` takes of its width.
Mask least_of_rows(const MatrixXd& scores, const Sparsity& sparsity);

/// In each group of a row all but `sparsity.keep`; groups begin with the first column.
Mask least_of_groups(const MatrixXd& scores, const Sparsity& sparsity);

/// Where weights are 0 already.
Mask zeros_of(const MatrixXd& weight);

/// 0 where a weight goes.
MatrixXd masked(const MatrixXd& weight, const Mask& mask);

// Of matrices that are pruned in blocks of columns, [begin, begin + |B|), all rows of a block together.

/// Columns a block: `asked`, or as many whole groups as fit; 0 (all) stays.
std::int64_t block_size(std::int64_t asked, const Sparsity& sparsity);

/// Weights that go from columns [begin, end) of `rows` rows, so that all blocks' together are what is asked for.
std::int64_t removed_of_block(const Sparsity& sparsity, std::int64_t rows, std::int64_t begin, std::int64_t end);

/// Those of a block with the least scores [N, |B|]; what `zeros` marks goes before all others, and wholly.
Mask least_of_block(MatrixXd scores, const Sparsity& sparsity, std::int64_t begin, const Mask& zeros);

}  // namespace molt
