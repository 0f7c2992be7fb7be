// DenseKernels: the float64 linear algebra of compression, compiled once per instruction set, on plain pointers.
//
// Who calls them (compress/*.cc) knows masks, blocks and threads; who implements them (dense.cc) knows neither, only
// rows of numbers. dense() in compress/dense.h gives the table for this machine. Pointers need no alignment; nothing is
// allocated that a caller would see; every function runs on the thread that calls it.
#pragma once

#include <stdint.h>

namespace molt {

/// Numbers in rows, `stride` elements apart.
struct DenseRows {
  const double* data;
  int64_t rows;
  int64_t cols;
  int64_t stride;
};

struct MutableDenseRows {
  double* data;
  int64_t rows;
  int64_t cols;
  int64_t stride;
};

/// One row on its way by conjugate gradients (compress/polish.h), all of `size` columns.
struct DescendingRow {
  const double* kept;              // 1 where a weight is kept, 0 elsewhere
  const double* inverse_diagonal;  // of H
  const float* product;            // the direction times H
  double* residual;
  double* direction;
  double* moved;  // so far
  int64_t size;
  double slope;  // of the residual by itself and the preconditioner
};

/// One row whose weights go one after another, that of the least joint loss each time (compress/joint_mask.h).
struct JointRemoval {
  DenseRows inverse;      // A [n, n]
  const double* weights;  // [n]
  const uint8_t* zeros;   // [n]: not 0 where a weight is 0 already; these go first, and add -1
  double* rows;           // [n, n], scratch
  double* scratch;        // [3 n]
  int32_t* order;         // [n], left filled: which goes at each step
  double* added;          // [n], left filled: what that adds to the loss
};

struct DenseKernels {
  const char* name;

  /// c += factor a b, for a [m, k], b [k, n], c [m, n].
  void (*add_product)(const DenseRows& a, const DenseRows& b, double factor, const MutableDenseRows& c);

  /// U [n, n], upper triangular, with U' U = H^-1; false, U being anything, where H is not positive definite or U not
  /// finite.
  bool (*inverse_factor)(const DenseRows& hessian, const MutableDenseRows& upper);

  /// U' U and its inverse, U^-1 U^-1', of an upper triangular U, all [n, n].
  void (*squares_of_factor)(const DenseRows& upper, const MutableDenseRows& square, const MutableDenseRows& inverse);

  /// x = M_SS^-1 x for M symmetric positive definite and the `count` ascending places S. scratch [count^2].
  void (*solve_at)(const DenseRows& matrix, const int64_t* places, int64_t count, double* scratch, double* x);

  /// One step; returns what it takes from the row's error. A row that can gain nothing stays as it is.
  double (*descend)(DescendingRow& row);

  void (*order_removals)(const JointRemoval& removal);

  /// Turns `table` about place k: row i loses table(i, k) / table(k, k) times row k, which is divided by table(k, k);
  /// column k becomes -table(i, k) / table(k, k), and its place on the diagonal 1 / table(k, k). scratch [rows].
  void (*turn_table)(const MutableDenseRows& table, int64_t k, double* scratch);
};

}  // namespace molt
