// gptq(): rounds a weight matrix column by column, each column making good what the ones before it lost.
//
// Frantar, Ashkboos, Hoefler & Alistarh, "GPTQ: Accurate post-training quantization for generative pre-trained
// transformers" (ICLR 2023, arXiv 2210.17323). What is to be small is the squared error of the outputs on calibration
// text, E = tr((W - Q) H (W - Q)') with H the inputs' second moments (plus `damping` times the mean of its diagonal on
// the diagonal). With U' U = H^-1, U upper triangular, column j is rounded to its group's grid and the columns k behind
// it get w_k -= (w_j - q_j) / U_jj * U_jk: the best they can do, and E grows by exactly ((w_j - q_j) / U_jj)^2.
//
// Differently from the paper:
//   - A group's grid is chosen when its first column is reached, from its weights as compensated up to there, by
//     search_grid() with the importance 1 / U_jj^2 with which they enter E.
//   - `by_activation` ("act-order") takes groups by falling sum of H_jj, and columns by falling H_jj within their
//   group:
//     the order between groups is free, since each has a grid of its own.
//   - `sweeps` rounds of coordinate descent follow, on E itself: grids refitted to their codes by least squares, all
//     groups of a row at once, and every code moved to where E is least while the others stay, column after column.
//     Neither lets E grow. (QuantEase, Behdin et al. 2023, arXiv 2309.01885, descends so from the start.)
//
// Weights that are 0 stay so (their codes are the zero points), and what they were to take over from others goes on to
// the columns behind: a pruned matrix keeps its zeros.
//
// Rows do not depend on each other: they are dealt out to threads in fixed bundles, with the same result for any number
// of threads. Cost: about (1 + 2 sweeps) N K^2 multiply-adds, and K^3 for U. Float64 throughout.
#pragma once

#include "compress/moments.h"
#include "tensor/quantized_matrix.h"

namespace molt {

struct GptqOptions {
  double damping = 0.01;
  bool by_activation = true;
  int sweeps = 2;
};

/// `weight` [N, K], floating point, rounded to `format` for inputs with these moments [K, K]. A column whose input was
/// always 0 is rounded plainly. Throws Error when a weight or a moment is not finite.
QuantizedMatrix gptq(const Tensor& weight, const QuantizedFormat& format, const InputMoments& inputs,
                     const GptqOptions& options = {});

}  // namespace molt
