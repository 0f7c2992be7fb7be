// polish(): brings what is left of pruned rows to where their error is least, all rows at once.
//
// With the removed columns of a row fixed, (w - v) H (w - v)' has its minimum where (w - v) H is 0 at every kept one.
// Each row goes there by conjugate gradients, preconditioned by H's diagonal; a step multiplies all rows' directions by
// H in one matrix product. That product runs in float32 on the backend, tens of times faster than in float64; a round
// of steps ends with the error and its gradient in float64, from which the next round goes on, so that nothing is lost
// to it in the end (iterative refinement). No row ends with a greater error than it began with.
//
// Cost: a step is N K^2 multiply-adds in float32, a round as much in float64. Results do not depend on the number of
// threads.
#pragma once

#include "compress/pruning_mask.h"

namespace molt {

struct PolishOptions {
  int rounds = 1;
  int steps = 40;            // of a round, at most
  double least_gain = 1e-4;  // of its error, that a step must bring some row, or the round ends
};

/// `weights` [N, K] with zeros where `mask` marks, polished in place. weight: the original [N, K]; hessian [K, K]:
/// positive definite.
void polish(const MatrixXd& weight, const Mask& mask, const MatrixXd& hessian, const PolishOptions& options,
            MatrixXd& weights);

}  // namespace molt
