#include "tune/map_fitter.h"

#include <Eigen/Cholesky>
#include <Eigen/Core>
#include <algorithm>

#include "base/check.h"
#include "model/raw_states.h"

namespace molt {
namespace {

constexpr double kLambda = 1e-3;  // of the number of tokens; ten times more or less fits as well

using MatrixXd = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// Keeps v_l [T, d_model] of every block, and how fast states decay.
class Collector final : public Router {
 public:
  Collector(const ModelCore& model, Offsets offsets) : model_(model), offsets_(offsets) {}

  LayerRows enter(std::int64_t /*layer*/, Stream& stream) override {
    const Backend& backend = model_.backend();
    const Memory& memory = backend.memory();
    const Tensor v = memory.uninitialized(DType::f32, {stream.residual.rows, stream.residual.cols});
    const Matrix<float> out = v.matrix();
    Matrix<const float> sum = stream.residual;
    if (stream.h_pending) {
      backend.add_rows(stream.residual, stream.h, out);
      sum = out;
    }
    backend.rms_norm(sum, nullptr, model_.config().norm_eps, out);
    v_.push_back(memory.fetch(v));
    return {offsets_};
  }

  ScanSides looks_at(std::int64_t /*layer*/) const override { return {.input = true}; }

  void leave(std::int64_t /*layer*/, const Block& block, const ScanView& scan, Stream& /*stream*/) override {
    rates_.push_back(block.decay_rates(model_.backend(), scan.dt));
  }

  const std::vector<Tensor>& v() const { return v_; }
  const std::vector<std::vector<double>>& rates() const { return rates_; }

 private:
  const ModelCore& model_;
  Offsets offsets_;
  std::vector<Tensor> v_;
  std::vector<std::vector<double>> rates_;
};

/// The transpose of rows [1, T).
Tensor transposed(const Tensor& v) {
  const Matrix<float> from = v.matrix();
  Tensor t = Tensor::uninitialized(DType::f32, {from.cols, from.rows - 1});
  const Matrix<float> to = t.matrix();
  for (std::int64_t i = 1; i < from.rows; ++i) {
    for (std::int64_t d = 0; d < from.cols; ++d) to(d, i - 1) = from(i, d);
  }
  return t;
}

}  // namespace

struct MapFitter::Sums {
  double rows = 0;
  double windows = 0;
  std::vector<Eigen::VectorXd> sum;                                    // of v_l
  std::map<std::pair<std::int64_t, std::int64_t>, MatrixXd> products;  // v_a' v_l, a <= l
  std::vector<std::vector<double>> rates;                              // summed over windows
  std::map<std::int64_t, Eigen::LLT<Eigen::MatrixXd>> solvers;         // by a
};

MapFitter::MapFitter(const ModelCore& model, std::int64_t reach)
    : model_(model), reach_(reach), sums_(std::make_unique<Sums>()) {}

MapFitter::~MapFitter() = default;

std::int64_t MapFitter::reach_within(const ModelCore& model, double bytes) {
  const auto pair = 8.0 * static_cast<double>(model.config().d_model * model.config().d_model);
  const std::int64_t layers = model.config().n_layer;
  return std::clamp<std::int64_t>(static_cast<std::int64_t>(bytes / pair) / layers - 1, 1,
                                  std::max<std::int64_t>(1, layers - 1));
}

void MapFitter::add(std::span<const TokenId> window) {
  MOLT_CHECK(window.size() > 1);
  const std::int64_t layers = model_.config().n_layer;
  const Memory& memory = model_.backend().memory();
  Arena arena(memory);
  const RawStates state(model_, 1);
  const std::int64_t offsets[] = {0, static_cast<std::int64_t>(window.size())};
  Collector collector(model_, offsets);
  model_.forward({window, offsets, state.pointers()}, arena, &collector);

  Sums& sums = *sums_;
  sums.solvers.clear();
  sums.rows += static_cast<double>(window.size() - 1);
  sums.windows += 1;
  sums.sum.resize(static_cast<std::size_t>(layers), Eigen::VectorXd::Zero(model_.config().d_model));
  sums.rates.resize(static_cast<std::size_t>(layers));
  horizons_.assign(static_cast<std::size_t>(layers), {});
  std::vector<Tensor> columns;
  std::vector<Tensor> placed;
  for (const Tensor& v : collector.v()) {
    columns.push_back(transposed(v));
    placed.push_back(memory.place(columns.back()));
  }
  const std::int64_t width = model_.config().d_model;
  const Matrix<float> product = arena.matrix(width, width);
  for (std::int64_t l = 0; l < layers; ++l) {
    const auto index = static_cast<std::size_t>(l);
    using Rows = Eigen::Map<const Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>;
    const Rows rows(columns[index].as<float>(), width, columns[index].shape()[1]);
    sums.sum[index] += rows.cast<double>().rowwise().sum();
    const auto packed = model_.backend().pack(columns[index], DType::f32);
    for (std::int64_t a = std::max<std::int64_t>(0, l - reach_); a <= l; ++a) {
      model_.backend().matmul(placed[static_cast<std::size_t>(a)].matrix(), *packed, nullptr, product);
      const Tensor here = memory.fetch(Matrix<const float>(product));
      MatrixXd& sum = sums.products.try_emplace({a, l}, MatrixXd::Zero(width, width)).first->second;
      sum += Rows(here.as<float>(), width, width).cast<double>();
    }
    std::vector<double>& rates = sums.rates[index];
    rates.resize(collector.rates()[index].size());
    for (std::size_t h = 0; h < rates.size(); ++h) {
      rates[h] += collector.rates()[index][h];
      horizons_[index].push_back(sums.windows / std::max(rates[h], 1e-30));
    }
  }
}

WriteMapTensors MapFitter::fit(const WriteMapKey& key, const std::vector<std::int64_t>& heads) {
  Sums& sums = *sums_;
  const std::int64_t width = model_.config().d_model;
  const auto to = static_cast<std::size_t>(key.to);
  const Memory& memory = model_.backend().memory();
  const Tensor norm = memory.fetch(model_.norm_weight(key.to));
  const auto* weight = norm.as<float>();
  // [M | b] transposed: a row for each input, and one for the bias; columns are u_l.
  MatrixXd map = MatrixXd::Zero(width + 1, width);
  if (key.from == key.to) {
    for (std::int64_t d = 0; d < width; ++d) map(d, d) = weight[d];
  } else {
    const auto from = static_cast<std::size_t>(key.from);
    const Eigen::VectorXd mean_from = sums.sum[from] / sums.rows;
    const Eigen::VectorXd mean_to = sums.sum[to] / sums.rows;
    auto solver = sums.solvers.find(key.from);
    if (solver == sums.solvers.end()) {
      Eigen::MatrixXd gram = sums.products.at({key.from, key.from});
      gram -= sums.rows * mean_from * mean_from.transpose();
      gram.diagonal().array() += kLambda * sums.rows;
      solver = sums.solvers.emplace(key.from, gram.llt()).first;
    }
    const Eigen::MatrixXd cross = sums.products.at({key.from, key.to}) - sums.rows * mean_from * mean_to.transpose();
    map.topRows(width) = solver->second.solve(cross);
    map.row(width) = mean_to.transpose() - mean_from.transpose() * map.topRows(width);
    for (std::int64_t d = 0; d < width; ++d) map.col(d) *= weight[d];
  }
  // Each row of it through the block's own projection; only the last one takes that projection's bias along.
  Arena arena(memory);
  const Tensor narrow = Tensor::uninitialized(DType::f32, {width + 1, width});
  for (std::int64_t i = 0; i <= width; ++i) {
    for (std::int64_t d = 0; d < width; ++d) narrow.matrix()(i, d) = static_cast<float>(map(i, d));
  }
  const Tensor placed = memory.place(narrow);
  const Matrix<float> rows = placed.matrix();
  const Block& block = model_.block(key.to);
  const Tensor linear_there = memory.fetch(
      Matrix<const float>(block.write_inputs(model_.backend(), rows.row_range(0, width), heads, false, arena)));
  const Tensor bias_there = memory.fetch(
      Matrix<const float>(block.write_inputs(model_.backend(), rows.row_range(width, width + 1), heads, true, arena)));
  const Matrix<float> linear = linear_there.matrix();
  const Matrix<float> bias = bias_there.matrix();
  WriteMapTensors tensors;
  tensors.heads = heads;
  tensors.weight = Tensor::uninitialized(DType::f32, {linear.cols, width});
  tensors.bias = Tensor::uninitialized(DType::f32, {linear.cols});
  const Matrix<float> out = tensors.weight.matrix();
  for (std::int64_t o = 0; o < linear.cols; ++o) {
    for (std::int64_t i = 0; i < width; ++i) out(o, i) = linear(i, o);
    tensors.bias.as<float>()[o] = bias(0, o);
  }
  return tensors;
}

}  // namespace molt
