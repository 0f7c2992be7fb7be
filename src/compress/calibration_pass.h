// CalibrationPass: walks through a model's layers over calibration text and measures what their matrices are fed.
//
// Layer after layer, so that methods can calibrate each layer on what the compressed layers before it put out:
//
//   CalibrationPass pass(spec, source, backend, windows);
//   for (; pass.layer() < pass.layers(); ...) {
//     Replacements replaced;
//     for (const std::string& name : pass.matrices())
//       replaced[name] = compress(source.find(name), pass.measure({name}, replaced).at(name));
//     pass.advance(replaced);   // or advance({}): the layers behind see the dense model
//   }
//
// One block's weights are packed at a time, in float32; beside it memory holds the residual stream of all windows,
// windows * length * d_model floats, and the moments that were asked for. The model's own forward pass knows nothing of
// this: blocks tell an InputObserver that their matrices were loaded with. Used by one thread; deterministic.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "compress/moments.h"
#include "model/architecture.h"
#include "model/norm.h"

namespace molt {

/// Weight matrices, by the names that the source knows, that take the place of the source's own.
using Replacements = std::map<std::string, Tensor>;

class CalibrationPass {
 public:
  /// Looks up the embedding of every token of `windows`, ids in [0, vocab_size), none empty, and stands before layer 0.
  /// `source` must outlive the pass. Throws Error that lists missing or misshapen tensors, as every member does.
  CalibrationPass(ModelSpec spec, const WeightSource& source, std::shared_ptr<const Backend> backend,
                  const std::vector<std::vector<TokenId>>& windows, const Replacements& embedding = {});
  ~CalibrationPass();

  std::int64_t layers() const { return spec_.config.n_layer; }

  /// The layer at hand; layers() once all are behind.
  std::int64_t layer() const { return layer_; }

  /// The weight matrices of the layer at hand in the order in which it uses them, by the source's names.
  std::vector<std::string> matrices() const;

  /// The same, those together that are fed the same inputs (queries, keys and values of an attention block): their
  /// moments are the same.
  std::vector<std::vector<std::string>> matrices_by_input() const;

  /// The moments of the inputs of `wanted`, matrices of the layer at hand, which runs with `replaced` in place of some
  /// of its own. Runs the layer no further than to the last of them. Changes nothing.
  std::map<std::string, InputMoments> measure(const std::set<std::string>& wanted, const Replacements& replaced) const;

  /// Runs the layer at hand with `replaced` in place of some of its own matrices, and goes on to the next.
  void advance(const Replacements& replaced);

  /// Behind the last layer: the moments of the head's inputs, and the name of the head's matrix.
  InputMoments measure_head() const;
  std::string head() const;

  /// The residual stream before the layer at hand, [windows * length, d_model].
  Matrix<const float> stream() const { return stream_.matrix(); }

 private:
  std::unique_ptr<Block> load_block(const Replacements& replaced, InputObserver* observer) const;

  /// Calls body(first row, h) with the block's output for the rows of each window.
  template <class Body>
  void run(const Block& block, std::int64_t windows, Body body) const;

  /// Adds each token's learned position, from the model's table of them, to the stream.
  void add_positions(const Tensor& table);

  Norm norm(const std::string& name) const;

  ModelSpec spec_;
  const WeightSource& source_;
  std::shared_ptr<const Backend> backend_;
  std::vector<std::int64_t> offsets_;  // of the windows' rows
  Tensor stream_;                      // [rows, d_model]: residual + h
  std::int64_t layer_ = 0;
};

}  // namespace molt
