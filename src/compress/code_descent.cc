#include "compress/code_descent.h"

#include <cmath>

#include "compress/dense.h"

namespace molt {
namespace {

/// One row's descent: keeps the gradient (w - q) H up to date.
class Row {
 public:
  Row(const double* weights, const MatrixXd& hessian, double* gradient, RoundedRows& rounded, Eigen::Index r)
      : weights_(weights), hessian_(hessian), gradient_(gradient, hessian.rows()), rounded_(rounded), r_(r) {}

  /// With the steps c of a group's codes, E changes by -2 d (c . g) + d^2 (c H c') when its scale grows by d.
  bool move_scales() {
    bool moved = false;
    for (Eigen::Index begin = 0; begin < rounded_.width(); begin = rounded_.group_end(begin)) {
      const Eigen::Index size = rounded_.group_end(begin) - begin;
      Eigen::RowVectorXd steps(size);
      for (Eigen::Index i = 0; i < size; ++i) steps(i) = rounded_.steps(r_, begin + i);
      const double slope = steps.dot(gradient_.segment(begin, size));
      const double curvature = steps * hessian_.block(begin, begin, size, size) * steps.transpose();
      if (!(curvature > 0)) continue;
      const float scale = rounded_.grid(r_, rounded_.group_at(begin)).scale.to_float();
      const BFloat16 wanted = BFloat16::from_float(static_cast<float>(scale + slope / curvature));
      const double growth = static_cast<double>(wanted.to_float()) - scale;
      if (!(wanted.to_float() > 0) || !lessens(growth, slope, curvature)) continue;
      rounded_.rescale(r_, begin, wanted);
      gradient_.noalias() -= growth * steps * hessian_.middleRows(begin, size);
      moved = true;
    }
    return moved;
  }

  bool move_codes() {
    bool moved = false;
    for (Eigen::Index i = 0; i < rounded_.width(); ++i) {
      if (weights_[i] == 0) continue;
      const double slope = gradient_(i);
      const double curvature = hessian_(i, i);
      const double value = rounded_.values()(r_, i);
      const double best = value + slope / curvature;
      const double growth = rounded_.nearest(r_, i, best) - value;
      if (!lessens(growth, slope, curvature)) continue;
      rounded_.set_nearest(r_, i, best);
      gradient_.noalias() -= growth * hessian_.row(i);
      moved = true;
    }
    return moved;
  }

 private:
  /// Whether E falls, by more than the gradient's rounding errors could feign.
  static bool lessens(double growth, double slope, double curvature) {
    return growth != 0 && growth * growth * curvature < 2 * growth * slope * (1 - 1e-9);
  }

  const double* weights_;
  const MatrixXd& hessian_;
  Eigen::Map<Eigen::RowVectorXd> gradient_;
  RoundedRows& rounded_;
  Eigen::Index r_;
};

}  // namespace

RoundedRows::RoundedRows(Eigen::Index rows, Eigen::Index width, const std::vector<std::int64_t>& order,
                         std::int64_t group, int bits)
    : order_(order),
      group_(group),
      groups_((width + group - 1) / group),
      bits_(bits),
      group_end_(static_cast<std::size_t>(width)),
      grids_(static_cast<std::size_t>(rows * groups_)),
      codes_(static_cast<std::size_t>(rows * width)),
      values_(MatrixXd::Zero(rows, width)) {
  Eigen::Index end = width;
  for (Eigen::Index i = width - 1; i >= 0; --i) {
    if (i + 1 < width && group_at(i) != group_at(i + 1)) end = i + 1;
    group_end_[static_cast<std::size_t>(i)] = end;
  }
}

double RoundedRows::nearest(Eigen::Index r, Eigen::Index i, double value) const {
  const QuantizedGrid& grid = this->grid(r, group_at(i));
  return grid.value(nearest_code(grid, static_cast<float>(value), bits_));
}

double RoundedRows::set_nearest(Eigen::Index r, Eigen::Index i, double value) {
  const QuantizedGrid& grid = this->grid(r, group_at(i));
  const int code = nearest_code(grid, static_cast<float>(value), bits_);
  codes_[at(r, width(), i)] = static_cast<std::uint8_t>(code);
  return values_(r, i) = grid.value(code);
}

int RoundedRows::steps(Eigen::Index r, Eigen::Index i) const {
  return codes_[at(r, width(), i)] - grid(r, group_at(i)).zero;
}

void RoundedRows::rescale(Eigen::Index r, Eigen::Index begin, BFloat16 scale) {
  QuantizedGrid& grid = grids_[at(r, groups_, group_at(begin))];
  grid.scale = scale;
  for (Eigen::Index i = begin; i < group_end(begin); ++i) values_(r, i) = grid.value(codes_[at(r, width(), i)]);
}

void RoundedRows::store(std::int64_t first, QuantizedMatrix& matrix) const {
  auto* const codes = matrix.codes.as<std::uint8_t>();
  for (Eigen::Index r = 0; r < rows(); ++r) {
    for (Eigen::Index i = 0; i < width(); ++i) {
      codes[(first + r) * width() + order_[static_cast<std::size_t>(i)]] = codes_[at(r, width(), i)];
    }
    for (std::int64_t g = 0; g < groups_; ++g) {
      matrix.scales.as<BFloat16>()[(first + r) * groups_ + g] = grid(r, g).scale;
      matrix.zeros.as<std::uint8_t>()[(first + r) * groups_ + g] = grid(r, g).zero;
    }
  }
}

bool descend(const MatrixXd& weights, const MatrixXd& hessian, RoundedRows& rounded) {
  const MatrixXd off = weights - rounded.values();
  MatrixXd gradient = product(off, hessian);
  bool moved = false;
  for (Eigen::Index r = 0; r < rounded.rows(); ++r) {
    Row row(weights.row(r).data(), hessian, gradient.row(r).data(), rounded, r);
    moved |= row.move_scales();
    moved |= row.move_codes();
  }
  return moved;
}

}  // namespace molt
