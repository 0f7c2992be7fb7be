// What DenseKernels holds, by Eigen.
//
// compress/isa.cmake compiles this several times, each time with other -m flags, with MOLT_ISA naming the namespace its
// code lands in and with Eigen's own namespace renamed (-DEigen=...): Eigen is all templates, of which the linker keeps
// one instance of each name for the whole program, and it could keep one with instructions that the machine lacks, or
// mix the layouts of two. For the same reason nothing of the standard library that is compiled into this file may be
// left over for others: tests/repository/isa_symbols_test.py looks.
#include "compress/isa/dense.h"

#include <Eigen/Cholesky>

#ifndef MOLT_ISA
#error "compile with -DMOLT_ISA=<namespace> -DEigen=<namespace>, as src/compress/isa.cmake does"
#endif
#define MOLT_TEXT(name) #name
#define MOLT_TEXT_OF(name) MOLT_TEXT(name)

namespace molt::MOLT_ISA {
namespace {

using Stride = Eigen::OuterStride<>;
using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using ColumnMatrix = Eigen::MatrixXd;
using ConstRows = Eigen::Map<const Matrix, Eigen::Unaligned, Stride>;
using Rows = Eigen::Map<Matrix, Eigen::Unaligned, Stride>;
using ConstRow = Eigen::Map<const Eigen::RowVectorXd>;
using Row = Eigen::Map<Eigen::RowVectorXd>;

ConstRows of(const DenseRows& m) {
  return {m.data, m.rows, m.cols, Stride(m.stride)};
}

Rows of(const MutableDenseRows& m) {
  return {m.data, m.rows, m.cols, Stride(m.stride)};
}

void add_product(const DenseRows& a, const DenseRows& b, double factor, const MutableDenseRows& c) {
  of(c).noalias() += factor * of(a) * of(b);
}

bool inverse_factor(const DenseRows& hessian, const MutableDenseRows& upper) {
  const Eigen::LLT<ColumnMatrix> factor(of(hessian).reverse());
  if (factor.info() != Eigen::Success) return false;
  // H reversed = L L', so R = L reversed, and U = R^-1 = L^-1 reversed.
  ColumnMatrix inverse = ColumnMatrix::Identity(upper.rows, upper.rows);
  factor.matrixL().solveInPlace(inverse);
  of(upper) = inverse.reverse();
  return inverse.allFinite();
}

void squares_of_factor(const DenseRows& upper, const MutableDenseRows& square, const MutableDenseRows& inverse) {
  of(square).noalias() = of(upper).transpose() * of(upper);
  Matrix root = Matrix::Identity(upper.rows, upper.rows);
  of(upper).triangularView<Eigen::Upper>().solveInPlace(root);
  of(inverse).noalias() = root * root.transpose();
}

void solve_at(const DenseRows& matrix, const int64_t* places, int64_t count, double* scratch, double* x) {
  Eigen::Map<ColumnMatrix> system(scratch, count, count);
  for (int64_t j = 0; j < count; ++j) {
    const double* const row = matrix.data + places[j] * matrix.stride;
    for (int64_t i = j; i < count; ++i) system(i, j) = row[places[i]];
  }
  const Eigen::LLT<Eigen::Ref<ColumnMatrix>> factor(system);
  Eigen::Map<Eigen::VectorXd> solution(x, count);
  factor.solveInPlace(solution);
}

double descend(DescendingRow& at) {
  const ConstRow kept(at.kept, at.size);
  const ConstRow inverse_diagonal(at.inverse_diagonal, at.size);
  const auto change = Eigen::Map<const Eigen::RowVectorXf>(at.product, at.size).cast<double>().cwiseProduct(kept);
  Row residual(at.residual, at.size);
  Row direction(at.direction, at.size);
  const double curvature = direction.dot(change);
  if (!(at.slope > 0) || !(curvature > 0)) return 0;
  const double length = at.slope / curvature;
  const double gain = length * at.slope;
  Row(at.moved, at.size) += length * direction;
  residual -= length * change;
  const auto downhill = residual.cwiseProduct(inverse_diagonal);
  const double slope = residual.dot(downhill);
  direction = downhill + slope / at.slope * direction;
  at.slope = slope;
  return gain;
}

constexpr double kLeastPivot = 1e-300;
constexpr double kRemovedBefore = -1;  // the price of a weight that is 0 already

template <class T>
void swap(T& a, T& b) {
  const T held = a;
  a = b;
  b = held;
}

/// What a weight's removal adds to the loss.
double price(double weight, double pivot) {
  return weight * weight / (pivot > kLeastPivot ? pivot : kLeastPivot);
}

/// The place of the least of prices [n].
int64_t least_of(const double* prices, int64_t n) {
  int64_t best = 0;
  for (int64_t j = 1; j < n; ++j) {
    if (prices[j] < prices[best]) best = j;
  }
  return best;
}

constexpr int64_t kLanes = 8;  // of the widest vectors: what is no whole number of vectors wide goes number by number

/// Columns are kept in an order in which those that are gone come first: position p holds column places[p].
void order_removals(const JointRemoval& removal) {
  const int64_t n = removal.inverse.rows;
  // Of those removed, scaled: A_PP's Cholesky factor and what belongs to it.
  Eigen::Map<Matrix> rows(removal.rows, n, n);
  Row w(removal.scratch, n);
  Row diagonal(removal.scratch + n, n);
  Row prices(removal.scratch + 2 * n, n);
  int32_t* const places = removal.order;
  for (int64_t j = 0; j < n; ++j) {
    w(j) = removal.weights[j];
    diagonal(j) = removal.inverse.data[j * removal.inverse.stride + j];
    prices(j) = removal.zeros[j] != 0 ? kRemovedBefore : price(w(j), diagonal(j));
    places[j] = static_cast<int32_t>(j);
  }
  for (int64_t step = 0; step < n; ++step) {
    const int64_t left = n - step;
    const int64_t best = step + least_of(prices.data() + step, left);
    for (Row* const values : {&w, &diagonal, &prices}) swap((*values)(step), (*values)(best));
    swap(places[step], places[best]);
    for (int64_t i = 0; i < step; ++i) swap(rows(i, step), rows(i, best));
    // Column j of A as the removals before it left it: A less the outer products of their scaled rows.
    const double* const column = removal.inverse.data + places[step] * removal.inverse.stride;
    const int64_t whole = n - step / kLanes * kLanes;  // some of the gone as well: nobody looks at those
    auto row_part = rows.row(step).tail(whole);
    for (int64_t i = 0; i < whole; ++i) row_part(i) = column[places[n - whole + i]];
    if (step > 0) row_part.noalias() -= rows.col(step).head(step).transpose() * rows.block(0, n - whole, step, whole);
    auto row = rows.row(step).tail(left);
    const double pivot = row(0) > kLeastPivot ? row(0) : kLeastPivot;
    const double share = w(step) / pivot;
    removal.added[step] = prices(step) == kRemovedBefore ? kRemovedBefore : w(step) * share;
    w.tail(left) -= share * row;
    row /= __builtin_sqrt(pivot);
    diagonal.tail(left).array() -= row.array().square();
    for (int64_t i = step + 1; i < n; ++i) {
      if (prices(i) != kRemovedBefore) prices(i) = price(w(i), diagonal(i));
    }
  }
}

void turn_table(const MutableDenseRows& table, int64_t k, double* scratch) {
  Rows all = of(table);
  const double pivot = all(k, k);
  Eigen::Map<Eigen::VectorXd> column(scratch, table.rows);
  column = all.col(k) / pivot;
  const auto row = all.row(k);
  for (int64_t i = 0; i < table.rows; ++i) {
    if (i != k) all.row(i) -= column(i) * row;
  }
  all.row(k) /= pivot;
  all.col(k).head(table.rows) = -column;
  all(k, k) = 1 / pivot;
}

}  // namespace

extern const DenseKernels kernels;
const DenseKernels kernels = {MOLT_TEXT_OF(MOLT_ISA), &add_product, &inverse_factor,
                              &squares_of_factor,     &solve_at,    &descend,
                              &order_removals,        &turn_table};

}  // namespace molt::MOLT_ISA
