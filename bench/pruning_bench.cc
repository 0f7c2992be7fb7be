// What ways to make removed weights good cost on a model's own layers: errors of the outputs, on the same masks and the
// same moments, matrix by matrix, and the seconds that each takes.
//
//   pruning_bench MODEL CALIBRATION.txt [--samples=16] [--length=2048] [--sparsity=0.5 | --pattern=2:4] [--layers=N]
//
// The mask of a matrix is chosen once, by what each weight alone would cost (mrp-sm with --block 0). Layers are
// calibrated behind dense ones. Prints a Markdown table of errors as shares of the squared outputs, in percent (H as
// calibrated, without the damping that all of them minimise with), and says in which matrices the order is not exact <=
// blocks <= one by one <= none with the damping, and how near to exact polishing comes.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include "base/fail.h"
#include "compress/calibration_pass.h"
#include "compress/calibration_text.h"
#include "compress/model_folder.h"
#include "compress/output_error.h"
#include "compress/polish.h"
#include "compress/removal.h"
#include "model/weight_sources.h"

namespace molt {
namespace {

constexpr double kDamping = 0.01;

struct Options {
  std::string model;
  std::string text;
  CalibrationText calibration{.samples = 16, .length = 2048, .seed = 1};
  Sparsity sparsity;
  std::int64_t layers = 1 << 20;
};

Options parse(int argc, char** argv) {
  std::map<std::string, std::string> named;
  std::vector<std::string> plain;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const std::size_t equals = word.find('=');
    if (word.starts_with("--") && equals != std::string::npos) {
      named[word.substr(2, equals - 2)] = word.substr(equals + 1);
    } else {
      plain.push_back(word);
    }
  }
  if (plain.size() != 2) fail("usage: pruning_bench MODEL CALIBRATION.txt [--samples=N] [--length=N] [--pattern=2:4]");
  Options options;
  options.model = plain[0];
  std::ifstream file(plain[1], std::ios::binary);
  options.text = {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (named.contains("samples")) options.calibration.samples = std::atoll(named["samples"].c_str());
  if (named.contains("length")) options.calibration.length = std::atoll(named["length"].c_str());
  if (named.contains("layers")) options.layers = std::atoll(named["layers"].c_str());
  if (named.contains("sparsity")) options.sparsity.share = std::atof(named["sparsity"].c_str());
  if (named.contains("pattern")) options.sparsity = parse_pattern(named["pattern"]);
  return options;
}

/// The mask by what each weight alone would cost.
Mask mask_of(const MatrixXd& weight, const InverseHessian& inverse, const Sparsity& sparsity) {
  const RemovalBlock all(inverse, 0, weight.cols());
  const MatrixXd scores = weight.array().square().rowwise() / all.inverse.diagonal().transpose().array();
  return least_of_block(scores, sparsity, 0, zeros_of(weight));
}

/// A way to make removals good: in blocks of so many columns (0: all), together or one by one, and perhaps polished.
struct Way {
  std::string name;
  std::int64_t block;
  bool together;
  bool polished = false;
};

const std::vector<Way> kWays = {{"exact", 0, true},           {"of 256, polished", 256, true, true},
                                {"blocks of 512", 512, true}, {"of 256", 256, true},
                                {"of 128", 128, true},        {"of 64", 64, true},
                                {"of 16", 16, true},          {"one by one", 128, false}};

MatrixXd removed(const MatrixXd& weight, const Mask& mask, const InverseHessian& inverse, const Way& way) {
  MatrixXd weights = weight;
  sweep_blocks(weights, inverse, way.block, [&](const RemovalBlock& block, MatrixXd& current) {
    const Mask part = mask.middleCols(block.begin, block.size());
    return way.together ? remove_together(block, part, current) : remove_one_by_one(block, part, current);
  });
  if (way.polished) polish(weight, mask, inverse.hessian(), {}, weights);
  return weights;
}

/// Errors by way, the last of what is not made good.
struct Row {
  std::vector<double> shares;  // without the damping, of the squared outputs
  std::vector<double> damped;
};

Row row_of(const MatrixXd& weight, const InputMoments& moments, const Sparsity& sparsity,
           std::vector<double>& seconds) {
  const InverseHessian inverse(moments, kDamping);
  const Mask mask = mask_of(weight, inverse, sparsity);
  const Eigen::Map<const MatrixXd> plain(moments.second.as<double>(), weight.cols(), weight.cols());
  const double whole = output_error(weight, MatrixXd::Zero(weight.rows(), weight.cols()), plain);
  Row row;
  for (std::size_t i = 0; i <= kWays.size(); ++i) {
    const auto start = std::chrono::steady_clock::now();
    const MatrixXd found = i < kWays.size() ? removed(weight, mask, inverse, kWays[i]) : masked(weight, mask);
    seconds[i] += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    row.shares.push_back(output_error(weight, found, plain) / whole);
    row.damped.push_back(output_error(weight, found, inverse.hessian()));
  }
  return row;
}

void run(const Options& options) {
  const Checkpoint checkpoint = Checkpoint::open(options.model);
  const ModelSpec spec = spec_of(checkpoint);
  const CheckpointWeights weights(checkpoint);
  CalibrationPass pass(spec, weights, make_backend("cpu"),
                       calibration_windows(checkpoint.folder(), spec.config, "", options.text, options.calibration));
  std::vector<double> seconds(kWays.size() + 1, 0.0);
  std::vector<std::string> exceptions;
  double worst_polished = 1;  // times the exact error
  fmt::print("| {} |", options.sparsity.text());
  for (const Way& way : kWays) fmt::print(" {} |", way.name);
  fmt::print(" not at all |\n|---|");
  for (std::size_t i = 0; i <= kWays.size(); ++i) fmt::print("---|");
  fmt::print("\n");
  for (; pass.layer() < std::min(pass.layers(), options.layers); pass.advance({})) {
    for (const auto& group : pass.matrices_by_input()) {
      const InputMoments moments = pass.measure({group.front()}, {}).at(group.front());
      for (const std::string& name : group) {
        const Row row = row_of(to_matrix(checkpoint.at(name)), moments, options.sparsity, seconds);
        fmt::print("| {} |", name);
        for (const double share : row.shares) fmt::print(" {:.4f} |", 100 * share);
        fmt::print("\n");
        std::size_t before = 0;
        for (std::size_t i = 1; i < row.damped.size(); ++i) {
          const bool last = i == kWays.size();
          if (!last && kWays[i].polished) {
            worst_polished = std::max(worst_polished, row.damped[i] / row.damped.front());
            continue;
          }
          if (row.damped[i] < row.damped[before]) {
            exceptions.push_back(fmt::format("{}: {} after {}: {:.6f} of its error", name,
                                             last ? "not at all" : kWays[i].name, kWays[before].name,
                                             row.damped[i] / row.damped[before]));
          }
          before = i;
        }
      }
    }
  }
  fmt::print("| seconds in all |");
  for (const double value : seconds) fmt::print(" {:.1f} |", value);
  fmt::print("\n\nPolished, at most {:.6f} of the exact error. Out of order: {}\n", worst_polished,
             exceptions.empty() ? "none" : fmt::format("{}", fmt::join(exceptions, "; ")));
}

}  // namespace
}  // namespace molt

int main(int argc, char** argv) try { molt::run(molt::parse(argc, argv)); } catch (const std::exception& error) {
  fmt::print(stderr, "pruning_bench: {}\n", error.what());
  return 2;
}
