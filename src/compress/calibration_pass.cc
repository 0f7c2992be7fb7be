#include "compress/calibration_pass.h"

#include <algorithm>
#include <numeric>

#include "base/check.h"
#include "base/fail.h"
#include "base/parallel.h"
#include "model/kv_blocks.h"

namespace molt {
namespace {

/// The source with some tensors replaced. Names none: only part of its tensors is asked for at a time, and the others
/// are no fault.
class ReplacedWeights final : public WeightSource {
 public:
  ReplacedWeights(const WeightSource& source, const Replacements& replaced) : source_(source), replaced_(replaced) {}

  std::optional<Tensor> find(const std::string& name, const Shape& shape) const override {
    const auto it = replaced_.find(name);
    return it == replaced_.end() ? source_.find(name, shape) : std::optional(it->second);
  }
  bool has(const std::string& name) const override { return source_.has(name); }
  std::vector<std::string> names() const override { return {}; }
  void drop_pages() const override { source_.drop_pages(); }
  std::string description() const override { return source_.description(); }

 private:
  const WeightSource& source_;
  const Replacements& replaced_;
};

/// Notes the matrices in the order of their use, those together whose inputs are the same.
class UseOrder final : public InputObserver {
 public:
  void input(const std::string& matrix, Matrix<const float> x) override {
    std::vector<float> values;
    values.reserve(static_cast<std::size_t>(x.rows * x.cols));
    for (std::int64_t t = 0; t < x.rows; ++t) values.insert(values.end(), x.row(t), x.row(t) + x.cols);
    if (groups.empty() || x.cols != width_ || values != last_) groups.emplace_back();
    groups.back().push_back(matrix);
    width_ = x.cols;
    last_ = std::move(values);
  }

  std::vector<std::vector<std::string>> groups;

 private:
  std::int64_t width_ = 0;
  std::vector<float> last_;
};

/// Thrown through a block when all is seen that was to be seen of its work on a window.
struct SeenEnough {};

/// Sums the moments of some matrices' inputs.
class MomentSums final : public InputObserver {
 public:
  MomentSums(const WeightLoader::Naming& naming, const std::set<std::string>& wanted, const Backend& backend)
      : naming_(naming), wanted_(wanted), backend_(backend) {}

  void input(const std::string& matrix, Matrix<const float> x) override {
    const std::string name = naming_(matrix);
    if (!wanted_.contains(name)) return;
    moments.try_emplace(name, x.cols).first->second.add(x, backend_);
    if (++seen_ < wanted_.size()) return;
    seen_ = 0;
    throw SeenEnough();
  }

  std::map<std::string, InputMoments> moments;

 private:
  const WeightLoader::Naming& naming_;
  const std::set<std::string>& wanted_;
  const Backend& backend_;
  std::size_t seen_ = 0;  // of a window
};

}  // namespace

CalibrationPass::CalibrationPass(ModelSpec spec, const WeightSource& source, std::shared_ptr<const Backend> backend,
                                 const std::vector<std::vector<TokenId>>& windows, const Replacements& embedding)
    : spec_(std::move(spec)), source_(source), backend_(std::move(backend)), offsets_{0} {
  const ModelConfig& config = spec_.config;
  std::vector<TokenId> ids;
  for (const std::vector<TokenId>& window : windows) {
    MOLT_CHECK(!window.empty());
    if (config.max_tokens > 0 && std::ssize(window) > config.max_tokens) {
      fail("{}: was made for texts of up to {} tokens; calibration windows have {}: ask for shorter ones (--length)",
           source_.description(), config.max_tokens, window.size());
    }
    ids.insert(ids.end(), window.begin(), window.end());
    offsets_.push_back(std::ssize(ids));
  }
  MOLT_CHECK(!ids.empty());
  const ReplacedWeights weights(source_, embedding);
  WeightLoader loader(weights, spec_.naming, *backend_, DType::f32);
  const Tensor table = loader.raw("backbone.embeddings.weight", {config.vocab_size, config.d_model});
  Tensor positions;
  if (config.position_offset) {
    positions = loader.raw(kPositions, {config.max_tokens + *config.position_offset, config.d_model});
  }
  loader.finish();
  stream_ = Tensor::uninitialized(DType::f32, {std::ssize(ids), config.d_model});
  backend_->embed(table, ids, stream_.matrix());
  if (!positions.empty()) add_positions(positions);
}

CalibrationPass::~CalibrationPass() = default;

std::unique_ptr<Block> CalibrationPass::load_block(const Replacements& replaced, InputObserver* observer) const {
  MOLT_CHECK(layer_ < layers());
  const ReplacedWeights weights(source_, replaced);
  WeightLoader loader(weights, spec_.naming, *backend_, DType::f32);
  loader.observe(observer);
  std::unique_ptr<Block> block = spec_.make_block(layer_, loader);
  loader.finish();
  return block;
}

void CalibrationPass::add_positions(const Tensor& table) {
  Arena arena;
  for (std::size_t w = 0; w + 1 < offsets_.size(); ++w) {
    arena.reset();
    const Matrix<float> x = stream_.matrix().row_range(offsets_[w], offsets_[w + 1]);
    std::vector<TokenId> rows(static_cast<std::size_t>(x.rows));
    std::iota(rows.begin(), rows.end(), static_cast<TokenId>(*spec_.config.position_offset));
    const Matrix<float> positions = arena.matrix(x.rows, x.cols);
    backend_->embed(table, rows, positions);
    backend_->add_rows(x, positions, x);
  }
}

Norm CalibrationPass::norm(const std::string& name) const {
  const Replacements none;
  const ReplacedWeights weights(source_, none);
  WeightLoader loader(weights, spec_.naming, *backend_, DType::f32);
  Norm norm(loader, name, spec_.config);
  loader.finish();
  return norm;
}

template <class Body>
void CalibrationPass::run(const Block& block, std::int64_t windows, Body body) const {
  const Norm norm = this->norm(norm_name(layer_));
  std::int64_t state_bytes = 0;
  for (const StatePart& part : block.state_parts()) state_bytes += part.bytes(DType::f32);
  const Tensor state = Tensor::zeros(DType::u8, {state_bytes});
  KvBlocks kv(block.kv_shape().block_bytes());  // every window's in turn: what the one before left is not looked at
  Arena arena;
  for (std::size_t w = 0; w < static_cast<std::size_t>(windows); ++w) {
    arena.reset();
    const Matrix<float> x = stream_.matrix().row_range(offsets_[w], offsets_[w + 1]);
    const Matrix<float> normed = arena.matrix(x.rows, x.cols);
    const Matrix<float> h = arena.matrix(x.rows, x.cols);
    norm.forward(*backend_, x, normed);
    std::fill_n(state.data(), state_bytes, std::byte{0});
    std::byte* const states[] = {state.data()};
    const std::int64_t offsets[] = {0, x.rows};
    kv.reserve(x.rows);
    const KvSequence sequence[] = {{kv.blocks(), 0, 0}};
    try {
      block.forward(*backend_, {.x = normed, .offsets = offsets, .states = {.data = states, .kv = sequence}}, arena, h);
    } catch (const SeenEnough&) {
      continue;
    }
    body(offsets_[w], h);
  }
}

std::vector<std::string> CalibrationPass::matrices() const {
  std::vector<std::string> names;
  for (const std::vector<std::string>& group : matrices_by_input())
    names.insert(names.end(), group.begin(), group.end());
  return names;
}

std::vector<std::vector<std::string>> CalibrationPass::matrices_by_input() const {
  UseOrder order;
  const std::unique_ptr<Block> block = load_block({}, &order);
  run(*block, 1, [](std::int64_t, Matrix<const float>) {});
  for (std::vector<std::string>& group : order.groups) {
    std::transform(group.begin(), group.end(), group.begin(), spec_.naming);
  }
  return order.groups;
}

std::map<std::string, InputMoments> CalibrationPass::measure(const std::set<std::string>& wanted,
                                                             const Replacements& replaced) const {
  MomentSums sums(spec_.naming, wanted, *backend_);
  const std::unique_ptr<Block> block = load_block(replaced, &sums);
  run(*block, std::ssize(offsets_) - 1, [](std::int64_t, Matrix<const float>) {});
  MOLT_CHECK(sums.moments.size() == wanted.size());
  return std::move(sums.moments);
}

void CalibrationPass::advance(const Replacements& replaced) {
  const std::unique_ptr<Block> block = load_block(replaced, nullptr);
  const Matrix<float> stream = stream_.matrix();
  run(*block, std::ssize(offsets_) - 1, [&](std::int64_t first, Matrix<const float> h) {
    parallel_for(h.rows, 64, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t t = begin; t < end; ++t) {
        for (std::int64_t d = 0; d < h.cols; ++d) stream(first + t, d) += h(t, d);
      }
    });
  });
  ++layer_;
}

InputMoments CalibrationPass::measure_head() const {
  MOLT_CHECK(layer_ == layers());
  const Norm norm = this->norm(kFinalNorm);
  InputMoments moments(spec_.config.d_model);
  Arena arena;
  for (std::size_t w = 0; w + 1 < offsets_.size(); ++w) {
    arena.reset();
    const Matrix<float> x = stream_.matrix().row_range(offsets_[w], offsets_[w + 1]);
    const Matrix<float> normed = arena.matrix(x.rows, x.cols);
    norm.forward(*backend_, x, normed);
    moments.add(normed, *backend_);
  }
  return moments;
}

std::string CalibrationPass::head() const {
  return spec_.naming(spec_.config.tie_embeddings ? "backbone.embeddings.weight" : "lm_head.weight");
}

}  // namespace molt
