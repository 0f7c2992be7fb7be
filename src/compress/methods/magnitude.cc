// Magnitude: the smallest weights of the matrix go, or of every group; the others stay as they are.
#include <utility>

#include "compress/mask_refinement.h"
#include "compress/output_error.h"

namespace molt {
namespace {

class Magnitude final : public Pruner {
 public:
  Tensor prune(const Tensor& given, const InputMoments* inputs, const PruneSettings& settings) const override {
    const MatrixXd weight = to_matrix(given);
    check_finite(weight, "pruned");
    const MatrixXd scores = weight.cwiseAbs();
    const Sparsity& sparsity = settings.sparsity;
    Mask mask =
        sparsity.pattern() ? least_of_groups(scores, sparsity) : least_of_all(scores, sparsity.removed(scores.size()));
    return removed_as_they_are(weight, std::move(mask), inputs, settings);
  }
};

std::unique_ptr<Pruner> make() {
  return std::make_unique<Magnitude>();
}

const Registration<PrunerEntry> registration{"magnitude", {"the smallest weights go", false, &make}};

}  // namespace
}  // namespace molt
