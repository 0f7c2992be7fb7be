// Wanda: in every row the weights go whose size times the norm of their input is least; the others stay as they are.
//
// Sun, Liu, Bair & Kolter, "A simple and effective pruning approach for large language models" (ICLR 2024, arXiv
// 2306.11695).
#include <utility>

#include "base/check.h"
#include "compress/mask_refinement.h"
#include "compress/output_error.h"

namespace molt {
namespace {

class Wanda final : public Pruner {
 public:
  Tensor prune(const Tensor& given, const InputMoments* inputs, const PruneSettings& settings) const override {
    MOLT_CHECK(inputs != nullptr && inputs->width() == given.shape()[1]);
    const MatrixXd weight = to_matrix(given);
    check_finite(weight, "pruned");
    check_finite(*inputs);
    const std::vector<double> norms = inputs->norms();
    const Eigen::Map<const Eigen::RowVectorXd> sizes(norms.data(), weight.cols());
    const MatrixXd scores = weight.cwiseAbs().array().rowwise() * sizes.array();
    const Sparsity& sparsity = settings.sparsity;
    Mask mask = sparsity.pattern() ? least_of_groups(scores, sparsity) : least_of_rows(scores, sparsity);
    return removed_as_they_are(weight, std::move(mask), inputs, settings);
  }
};

std::unique_ptr<Pruner> make() {
  return std::make_unique<Wanda>();
}

const Registration<PrunerEntry> registration{"wanda",
                                             {"those of least size times input norm go, in every row", true, &make}};

}  // namespace
}  // namespace molt
