// Saved states that are not what they should be.
#include "molt/state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "io/safetensors.h"
#include "molt/session.h"
#include "tests/support/paths.h"
#include "tests/support/temp_folder.h"

namespace molt {
namespace {

using testing::HasSubstr;
using testing_support::fixture;
using testing_support::TempFolder;

class SavedState : public testing::Test {
 protected:
  void SetUp() override {
    Session session(model_);
    State state(model_);
    session.feed(state, ids_);
    state.save(path_, ids_);
  }
  std::string error_of_loading(const Model& model) const {
    try {
      State::load(path_, model);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  }

  /// Writes the file again after `change` had its way with tensors and metadata.
  template <class Change>
  void rewrite(Change change) {
    const SafetensorsFile file = read_safetensors(path_);
    std::map<std::string, Tensor> tensors = file.tensors;
    std::map<std::string, std::string> metadata = file.metadata;
    change(tensors, metadata);
    write_safetensors(path_, {tensors.begin(), tensors.end()}, metadata);
  }

  Model model_ = Model::load(fixture("tiny/mamba2-tiny"));
  std::vector<TokenId> ids_{1, 2, 3};
  TempFolder folder_;
  std::string path_ = folder_ / "text.state";
};

TEST_F(SavedState, OfAnotherModelIsRefused) {
  EXPECT_THAT(error_of_loading(Model::load(fixture("tiny/mamba2-groups"))), HasSubstr("another model"));
}

TEST_F(SavedState, WithoutATensorIsRefused) {
  rewrite([](auto& tensors, auto&) { tensors.erase("layers.1.ssm"); });
  EXPECT_THAT(error_of_loading(model_), HasSubstr("layers.1.ssm is missing"));
}

TEST_F(SavedState, OfAnotherShapeIsRefused) {
  rewrite([](auto& tensors, auto&) { tensors["layers.1.ssm"] = Tensor::zeros(DType::f32, {2, 2}); });
  EXPECT_THAT(error_of_loading(model_), HasSubstr("layers.1.ssm is f32 [2, 2]"));
}

TEST_F(SavedState, OfAnotherPrecisionIsRefusedWhereThereIsNone) {
  rewrite([](auto& tensors, auto&) { tensors["layers.1.conv"] = tensors["layers.1.conv"].to_bf16(); });
  EXPECT_THAT(error_of_loading(model_), HasSubstr("layers.1.conv is bf16"));
}

TEST_F(SavedState, ThatClaimsMoreTokensThanItsTextIsRefused) {
  rewrite([](auto&, auto& metadata) { metadata["tokens"] = "99"; });
  EXPECT_THAT(error_of_loading(model_), HasSubstr("99 tokens"));
}

TEST_F(SavedState, WithIdsOutsideOfTheVocabularyIsRefused) {
  rewrite([](auto& tensors, auto&) {
    tensors["ids"] = tensors["ids"].clone();  // the file is mapped read-only
    tensors["ids"].template as<std::int32_t>()[0] = 1 << 20;
  });
  EXPECT_THAT(error_of_loading(model_), HasSubstr("outside of the vocabulary"));
}

TEST_F(SavedState, AnyOtherFileIsRefused) {
  rewrite([](auto&, auto& metadata) { metadata.clear(); });
  EXPECT_THAT(error_of_loading(model_), HasSubstr("not a state"));
  std::ofstream(path_) << "hello";
  EXPECT_THROW(State::load(path_, model_), Error);
}

TEST_F(SavedState, TruncatedAnywhereIsRefused) {
  std::ifstream in(path_, std::ios::binary);
  const std::string whole{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  for (std::size_t length = 0; length < whole.size(); length += 97) {
    std::ofstream(path_, std::ios::binary) << whole.substr(0, length);
    EXPECT_THROW(State::load(path_, model_), Error) << length;
  }
}

TEST_F(SavedState, IsNotTouchedByAFailedSave) {
  const State state(model_);
  EXPECT_THROW(state.save("/dev/full", ids_), Error);
  EXPECT_THROW(state.save("/no/such/folder/state", ids_), Error);
  EXPECT_EQ(State::load(path_, model_).ids, ids_);
}

}  // namespace
}  // namespace molt
