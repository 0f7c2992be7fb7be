// What compressing a matrix costs: the squared error of its outputs on calibration text.
//
// Pure functions, float64.
#pragma once

#include "compress/inverse_factor.h"
#include "compress/moments.h"
#include "tensor/tensor.h"

namespace molt {

/// A floating point tensor [N, K] as a matrix of its own.
MatrixXd to_matrix(const Tensor& tensor);

/// The same back, in `dtype` (f64, f32, f16 or bf16), rounded to nearest.
Tensor to_tensor(const MatrixXd& matrix, DType dtype);

/// tr((W - Q) H (W - Q)') for W, Q [N, K] and H [K, K]. On all threads, the same bits for any number of them.
double output_error(const MatrixXd& weight, const MatrixXd& changed, const Eigen::Ref<const MatrixXd>& hessian);

/// The squared error of the outputs over the calibrated inputs. W, Q [N, K], floating point.
double output_error(const Tensor& weight, const Tensor& changed, const InputMoments& inputs);

/// tr(W H W'): the squared outputs themselves, which errors are to be seen beside.
double squared_outputs(const Tensor& weight, const InputMoments& inputs);

/// Throws Error that names the place of the first weight that is not finite; `verb`: "rounded", "pruned".
void check_finite(const MatrixXd& weight, const char* verb);

}  // namespace molt
