// Calibration windows: whole, apart from each other, drawn by the seed, and refused where the text is too short.
#include "compress/calibration_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "molt/error.h"
#include "tests/support/paths.h"

namespace molt {
namespace {

class Windows : public testing::Test {
 protected:
  Windows() : model_(Model::load(testing_support::demo_model())) {
    for (int document = 0; document < 12; ++document) {
      for (int i = 0; i < 40; ++i) text_ += "line " + std::to_string(100 * document + i) + " of the text, ";
      text_ += "<|endoftext|>";
    }
  }

  Model model_;
  std::string text_;
};

TEST_F(Windows, AreCutFromOneRunOfTokensAndDoNotOverlap) {
  const auto some = calibration_windows(model_, text_, {.samples = 10, .length = 50, .seed = 3});
  ASSERT_EQ(some.size(), 10U);
  // The run: every document behind its begin-of-text token.
  std::vector<TokenId> run;
  for (std::size_t begin = 0; begin < text_.size();) {
    const std::size_t end = text_.find("<|endoftext|>", begin);
    run.push_back(model_.bos());
    const auto ids = model_.tokenizer().encode(text_.substr(begin, end - begin));
    run.insert(run.end(), ids.begin(), ids.end());
    begin = end + 13;
  }
  std::vector<std::ptrdiff_t> places;
  for (const auto& window : some) {
    for (std::ptrdiff_t at = 0; at + 50 <= std::ssize(run); at += 50) {
      if (std::equal(window.begin(), window.end(), run.begin() + at)) places.push_back(at);
    }
    ASSERT_EQ(window.size(), 50U);
  }
  ASSERT_EQ(places.size(), 10U);  // each found, once
  std::sort(places.begin(), places.end());
  EXPECT_EQ(std::adjacent_find(places.begin(), places.end()), places.end());
}

TEST_F(Windows, AreDrawnByTheSeed) {
  const CalibrationText options{.samples = 8, .length = 40, .seed = 1};
  EXPECT_EQ(calibration_windows(model_, text_, options), calibration_windows(model_, text_, options));
  EXPECT_NE(calibration_windows(model_, text_, options),
            calibration_windows(model_, text_, {.samples = 8, .length = 40, .seed = 2}));
}

TEST_F(Windows, AreRefusedWhereTheTextIsTooShort) {
  try {
    calibration_windows(model_, text_, {.samples = 100000, .length = 40});
    FAIL() << "windows out of nothing";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("100000 are asked for"));
  }
  EXPECT_THROW(calibration_windows(model_, "", {}), Error);
  EXPECT_THROW(calibration_windows(model_, text_, {.samples = 0}), Error);
  EXPECT_THROW(calibration_windows(model_, text_, {.samples = 1, .length = 1}), Error);
}

}  // namespace
}  // namespace molt
