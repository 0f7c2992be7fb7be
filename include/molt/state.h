// State: all that a sequence leaves behind: what a model needs to go on with it.
//
// A value: copy it to branch, compare it, save and load it. Of a state space model its size does not depend on how many
// tokens it has seen; attention keeps keys and values of every token, which copies of a state share where they are
// alike. Not thread-safe while a Session writes to it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "molt/model.h"

namespace molt {

class KvBlocks;

class State {
 public:
  /// The state before the first token, held as the model was loaded to hold its states.
  explicit State(const Model& model);

  /// The same, held in `type`.
  State(const Model& model, StateType type);

  State(const State& other);
  State& operator=(const State& other);
  State(State&&) noexcept;
  State& operator=(State&&) noexcept;
  ~State();

  /// Tokens that it has seen. Whoever moves data() forward says how far.
  std::int64_t tokens() const { return tokens_; }
  void set_tokens(std::int64_t tokens) { tokens_ = tokens; }

  /// Whether it is a state of this model.
  bool belongs_to(const Model& model) const;

  StateType type() const { return type_; }

  /// The same state held in `type`: to float32 exactly, to bfloat16 rounded.
  State converted(StateType type) const;

  /// Equal to the last bit, of the same model and type.
  bool operator==(const State& other) const;

  /// The memory of the state but for keys and values, which is the model's backend's, layer by layer: for each Mamba
  /// block the last inputs of its convolution [d_conv - 1, channels] in float32, then the SSM state (Mamba: [d_state,
  /// d_inner]; Mamba-2: [heads, d_state, head_dim]) in float32 or bfloat16, each padded to 64 bytes.
  std::byte* data() const { return data_.get(); }

  /// Makes room for the keys and values of `more` tokens behind those that it has seen.
  void reserve(std::int64_t more);

  /// The blocks of keys and values (kernels/kv_cache.h), for whoever moves the state forward.
  std::span<std::byte* const> kv_blocks() const;

  /// Bytes of data() and of the blocks of keys and values, those too that it shares with its copies.
  std::int64_t bytes() const;

  /// The values at data(), without padding, then, layer by layer, the keys and then the values of each token seen
  /// [tokens, heads, head_dim]; as float32.
  std::vector<float> values() const;

  /// A text of which `state` has seen the first state.tokens() tokens; the others are still to be fed.
  struct Saved;

  /// Writes the state, and the tokens of its text so far, to a safetensors file (atomically). `ids` may hold more
  /// tokens than the state has seen. Throws Error when the file cannot be written.
  void save(const std::string& path, const std::vector<TokenId>& ids) const;

  /// Reads what save() wrote; the state is held as the model was loaded to hold its states, converted if it was saved
  /// in another type. Throws Error when the file is broken or belongs to another model.
  static Saved load(const std::string& path, const Model& model);

 private:
  State(std::shared_ptr<const ModelCore> core, StateType type);

  std::shared_ptr<std::byte> data_;  // its own alone, aligned to a cache line
  std::int64_t bytes_ = 0;           // of it
  std::unique_ptr<KvBlocks> kv_;
  std::int64_t tokens_ = 0;
  StateType type_ = StateType::f32;
  std::shared_ptr<const ModelCore> core_;
};

struct State::Saved {
  State state;
  std::vector<TokenId> ids;
};

}  // namespace molt
