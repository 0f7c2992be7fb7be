// Coordinate descent on rounded weights: grids and codes are moved, one after another, to where the squared error of
// the outputs, E = (w - q) H (w - q)' of each row, is least while all else stays. E never grows.
#pragma once

#include <cstdint>
#include <vector>

#include "compress/inverse_factor.h"
#include "tensor/quantized_matrix.h"

namespace molt {

/// A bundle of rows with their columns in some order that keeps groups together: codes, their values, and grids. Places
/// count in that order. Used by one thread.
class RoundedRows {
 public:
  /// order [width]: the column at each place; it must outlive this. Codes and grids are all 0.
  RoundedRows(Eigen::Index rows, Eigen::Index width, const std::vector<std::int64_t>& order, std::int64_t group,
              int bits);

  Eigen::Index rows() const { return values_.rows(); }
  Eigen::Index width() const { return values_.cols(); }

  /// The group of a place, and the place behind that group's last one.
  std::int64_t group_at(Eigen::Index i) const { return order_[static_cast<std::size_t>(i)] / group_; }
  Eigen::Index group_end(Eigen::Index i) const { return group_end_[static_cast<std::size_t>(i)]; }

  const QuantizedGrid& grid(Eigen::Index r, std::int64_t group) const { return grids_[at(r, groups_, group)]; }

  /// Sets a group's grid; the values of codes that are already there change with it only in rescale().
  void set_grid(Eigen::Index r, std::int64_t group, const QuantizedGrid& grid) { grids_[at(r, groups_, group)] = grid; }

  /// Gives the group that begins at place `begin` another scale, its codes staying.
  void rescale(Eigen::Index r, Eigen::Index begin, BFloat16 scale);

  /// The code nearest to `value` becomes that of place i; returns its value.
  double set_nearest(Eigen::Index r, Eigen::Index i, double value);

  /// What set_nearest() would return.
  double nearest(Eigen::Index r, Eigen::Index i, double value) const;

  /// code - zero point.
  int steps(Eigen::Index r, Eigen::Index i) const;

  /// [rows, width]
  const MatrixXd& values() const { return values_; }

  /// Writes the bundle to rows `first` and on of `matrix`, columns in their own order.
  void store(std::int64_t first, QuantizedMatrix& matrix) const;

 private:
  static std::size_t at(Eigen::Index r, std::int64_t stride, std::int64_t i) {
    return static_cast<std::size_t>(r * stride + i);
  }

  const std::vector<std::int64_t>& order_;
  std::int64_t group_;
  std::int64_t groups_;
  int bits_;
  std::vector<Eigen::Index> group_end_;
  std::vector<QuantizedGrid> grids_;  // [rows, groups]
  std::vector<std::uint8_t> codes_;   // [rows, width]
  MatrixXd values_;                   // [rows, width]
};

/// One sweep over the groups' scales and one over the codes, for weights [rows, width] and hessian [width, width] in
/// the bundle's order; codes of weights that are 0 stay. Returns whether anything moved.
bool descend(const MatrixXd& weights, const MatrixXd& hessian, RoundedRows& rounded);

}  // namespace molt
