// Rehearsals of memory: they ask for what the run itself asks for.
#include <gtest/gtest.h>

#include "kernels/rehearsal_backend.h"
#include "model/model.h"
#include "molt/session.h"
#include "tests/support/paths.h"

namespace molt {
namespace {

using testing_support::fixture;

/// Reads prompts and goes on, on a backend; gives the scratch memory that the session held at last.
std::int64_t scratch_of(const Model& model, std::int64_t window) {
  Session session(model, {.window = window, .progress = {}});
  std::vector<State> states(3, State(model));
  const std::vector<TokenId> ids(50, 1);
  for (const std::size_t tokens : {50, 1}) {
    std::vector<Sequence> batch;
    for (State& state : states) batch.push_back({&state, std::span(ids).first(tokens)});
    session.feed(batch);
  }
  return session.scratch_bytes();
}

TEST(Rehearsal, TakesAsMuchScratchMemoryAsTheRun) {
  for (const char* name : {"mamba1-tiny", "mamba2-tiny", "mamba2-groups"}) {
    const std::string path = fixture(std::string("tiny/") + name);
    const Model model = Model::load(path), rehearsal = Model::load(path, {.backend = "rehearse:cpu"});
    for (const std::int64_t window : {20, 64, 2048}) {
      // Logits of a device lie in its arena before they are brought; the host's do not.
      const std::int64_t logits = 3 * model.vocab_size() * 4;
      const std::int64_t run = scratch_of(model, window), rehearsed = scratch_of(rehearsal, window);
      EXPECT_GE(rehearsed, run) << name;
      EXPECT_LE(rehearsed, run + std::max<std::int64_t>(logits, 1 << 20)) << name;  // an arena's smallest block
    }
  }
}

TEST(Rehearsal, CountsWhatIsHeld) {
  const CountedMemory memory;
  {
    const Tensor a = memory.zeros(DType::f32, {1000});
    { const Tensor b = memory.zeros(DType::f32, {500}); }
    EXPECT_EQ(memory.held(), 4000);
    EXPECT_EQ(memory.peak(), 6000);
    memory.reset_peak();
    EXPECT_EQ(memory.peak(), 4000);
  }
  EXPECT_EQ(memory.held(), 0);
}

TEST(Rehearsal, WeightsAreAllThereIsBeforeARun) {
  const Model rehearsal = Model::load(fixture("tiny/mamba2-tiny"), {.backend = "rehearse:cpu"});
  const auto& backend = dynamic_cast<const RehearsalBackend&>(rehearsal.core()->backend());
  const std::int64_t weights = backend.memory().held();
  // The embedding table, which is the head, too, lies there once more as it is looked up.
  EXPECT_GE(weights, rehearsal.core()->cost().weight_bytes);
  EXPECT_LE(weights, 2 * rehearsal.core()->cost().weight_bytes);
  const State state(rehearsal);
  EXPECT_EQ(backend.memory().held(), weights + state.bytes());
}

TEST(Rehearsal, OfAnUnknownBackendIsAnError) {
  EXPECT_THROW(make_backend("rehearse:abacus"), Error);
  EXPECT_THROW(make_backend("rehearse:timed:cpu"), Error);
}

}  // namespace
}  // namespace molt
