#include "io/checkpoint.h"

#include <gtest/gtest.h>

#include "io/safetensors.h"

namespace molt {
namespace {

const std::string kTiny = MOLT_SOURCE_DIR "/tests/fixtures/tiny/";

TEST(Checkpoint, OpensAFolderOfSafetensors) {
  const Checkpoint checkpoint = Checkpoint::open(kTiny + "mamba1-tiny");
  EXPECT_EQ(checkpoint.folder(), kTiny + "mamba1-tiny");
  EXPECT_EQ(checkpoint.source(), kTiny + "mamba1-tiny/model.safetensors");
  const Tensor& embedding = checkpoint.at("backbone.embeddings.weight");
  EXPECT_EQ(embedding.shape(), (Shape{97, 64}));
  EXPECT_EQ(embedding.dtype(), DType::f32);
}

}  // namespace
}  // namespace molt
