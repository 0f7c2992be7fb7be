// Probes and texts: what is cut from where.
#include "tune/probes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "molt/error.h"
#include "tests/tune/problems.h"
#include "tune/texts.h"
#include "tune/tune.h"

namespace molt {
namespace {

using testing::HasSubstr;
using testing_support::demo_model;
using testing_support::random_documents;
using testing_support::tiny_model;

/// Documents of numbers that tell document and place.
Documents numbered(const std::vector<TokenId>& lengths) {
  Documents documents;
  for (std::size_t d = 0; d < lengths.size(); ++d) {
    for (documents.emplace_back(); std::ssize(documents.back()) < lengths[d];) {
      documents.back().push_back(static_cast<TokenId>(10000 * d + documents.back().size()));
    }
  }
  return documents;
}

bool is_run(std::span<const TokenId> ids) {
  return std::adjacent_find(ids.begin(), ids.end(), [](TokenId a, TokenId b) { return b != a + 1; }) == ids.end();
}

TEST(Windows, DoNotOverlapAndTakeFirstOnesFirst) {
  const Documents documents = numbered({250, 99, 100, 0, 399, 1000});
  const Windows all = windows(documents, 100, 1000, 1);
  EXPECT_EQ(all.size(), 2U + 1 + 3 + 8) << "eight of a document at most";
  std::set<TokenId> seen;
  for (const auto& window : all) {
    EXPECT_EQ(window.size(), 100U);
    EXPECT_TRUE(is_run(window));
    EXPECT_EQ(window.front() % 100, 0);
    for (const TokenId id : window) EXPECT_TRUE(seen.insert(id).second) << id;
  }
  for (std::size_t i = 0; i < all.size(); ++i) EXPECT_EQ(all[i].front() % 10000 == 0, i < 4) << i;

  const Windows some = windows(documents, 100, 5, 1);
  ASSERT_EQ(some.size(), 5U);
  for (std::size_t i = 0; i < 5; ++i) EXPECT_EQ(some[i].data(), all[i].data());
  EXPECT_TRUE(windows({}, 100, 5, 1).empty());
  EXPECT_TRUE(windows(documents, 1001, 5, 1).empty());
}

TEST(Windows, AreShuffledByTheSeed) {
  const Documents documents = numbered(std::vector<TokenId>(40, 50));
  const auto order = [&](std::uint64_t seed) {
    std::vector<TokenId> firsts;
    for (const auto& window : windows(documents, 50, 40, seed)) firsts.push_back(window.front());
    return firsts;
  };
  EXPECT_EQ(order(1), order(1));
  EXPECT_NE(order(1), order(2));
  EXPECT_THAT(order(1), testing::UnorderedElementsAreArray(order(2)));
}

TEST(Continuations, AreWhatFollows) {
  const ProbeSet set = continuations(numbered({300, 163, 164}), 100, 10, 1);
  EXPECT_EQ(set.name, "continuation");
  ASSERT_EQ(set.probes.size(), 2U) << "a document must hold the continuation, too";
  for (const Probe& probe : set.probes) {
    EXPECT_EQ(probe.prompt.size(), 100U);
    EXPECT_EQ(probe.next.size(), 64U);
    EXPECT_TRUE(is_run(probe.prompt) && is_run(probe.next));
    EXPECT_EQ(probe.next.front(), probe.prompt.back() + 1);
  }
}

TEST(Recalls, QuoteAPassageOfTheOldestThird) {
  const TokenId separator[] = {-7, -8};
  const ProbeSet set = recalls(numbered(std::vector<TokenId>(30, 700)), 512, separator, 60, 1);
  EXPECT_EQ(set.name, "recall");
  ASSERT_EQ(set.probes.size(), 30U);
  std::set<TokenId> places;
  for (const Probe& probe : set.probes) {
    ASSERT_EQ(probe.prompt.size(), 512U + 2 + 32);
    const auto prompt = std::span(probe.prompt);
    EXPECT_TRUE(is_run(prompt.first(512)));
    EXPECT_EQ(probe.prompt[512], -7);
    EXPECT_EQ(probe.prompt[513], -8);
    EXPECT_TRUE(is_run(prompt.last(32)) && is_run(probe.next));
    EXPECT_EQ(probe.next.front(), probe.prompt.back() + 1);
    EXPECT_EQ(probe.next.size(), 32U);
    const TokenId begin = probe.prompt[514] - probe.prompt[0];
    EXPECT_GE(begin, 0);
    EXPECT_LE(begin + 64, 512 * 3 / 10);
    places.insert(begin);
  }
  EXPECT_GT(places.size(), 10U);
}

TEST(Words, WereMetBeforeButNotLately) {
  const Model model = tiny_model("mamba2-tiny");
  // Random tokens of so few kinds are never rare; so a few documents repeat two kinds of their own.
  Documents documents = random_documents(model, 20, 400, 1);
  for (auto& document : documents) {
    for (TokenId& id : document) id %= 60;
  }
  for (std::size_t d = 0; d < documents.size(); ++d) {
    documents[d][150] = documents[d][190] = static_cast<TokenId>(60 + d);
  }
  for (const std::int64_t count : {1, 7, 8}) {
    const ProbeSet set = words(*model.core(), documents, count, 1);
    EXPECT_EQ(set.name, "word");
    ASSERT_EQ(std::ssize(set.probes), count) << "not fewer for not being a multiple of the lengths";
    for (const Probe& probe : set.probes) {
      ASSERT_EQ(probe.next.size(), 1U);
      EXPECT_GE(probe.prompt.size(), 66U);
      EXPECT_LE(probe.prompt.size(), 110U);
      EXPECT_GE(probe.next[0], 60);
      const auto recent = probe.prompt.end() - 12;
      EXPECT_NE(std::find(probe.prompt.begin(), recent, probe.next[0]), recent);
      EXPECT_EQ(std::find(recent, probe.prompt.end(), probe.next[0]), probe.prompt.end());
    }
  }
  EXPECT_TRUE(words(*model.core(), {}, 5, 1).probes.empty());
  EXPECT_TRUE(words(*model.core(), random_documents(model, 3, 40, 1), 5, 1).probes.empty()) << "none long enough";
}

class CalibrationText : public testing::Test {
 protected:
  std::string refusal(const std::string& text) const {
    try {
      split_text(model_, text);
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  }

  Model model_ = Model::load(demo_model());
};

TEST_F(CalibrationText, PutEachDocumentToOneUse) {
  std::string text = "<|endoftext|>\n\n<|endoftext|>";
  for (const char* document : {"zero", "one", "two", "three", "four", "five", "six"}) {
    text += std::string(document) + "<|endoftext|> \n<|endoftext|>";
  }
  const Texts texts = split_text(model_, text);
  const auto read = [&](const Documents& documents) {
    std::vector<std::string> decoded;
    for (const auto& ids : documents) {
      EXPECT_EQ(ids.front(), model_.bos());
      decoded.push_back(model_.tokenizer().decode(std::span(ids).subspan(1)));
    }
    return decoded;
  };
  EXPECT_THAT(read(texts.maps), testing::ElementsAre("zero", "two", "five"));
  EXPECT_THAT(read(texts.search), testing::ElementsAre("one", "three", "six"));
  EXPECT_THAT(read(texts.apart), testing::ElementsAre("four"));
  EXPECT_TRUE(split_text(model_, "").maps.empty());
}

TEST_F(CalibrationText, ThatCannotBeReadAreRefusedByLine) {
  EXPECT_THAT(refusal("fine\n<|endoftext|>\nnot \xff fine"), HasSubstr("document that begins in line 2"));
  try {
    split_text(tiny_model("mamba2-tiny"), "text");
    FAIL() << "has no tokenizer";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("--tokenizer"));
  }
  const Model other = Model::load(testing_support::fixture("tiny/mamba2-tiny"),
                                  {.weights = WeightType::f32, .tokenizer = demo_model() + "/tokenizer.json"});
  try {
    split_text(other, "some text of a larger vocabulary");
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(),
                testing::AllOf(HasSubstr("line 1"), HasSubstr("outside of the model's vocabulary of 97")));
  }
}

// What is missing is missed before any search.
TEST_F(CalibrationText, ThatAreTooShortAreRefused) {
  const auto refusal = [&](const std::string& text, const TuneOptions& options) {
    try {
      tune(model_, text, options);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  for (const std::string text : {"", "a few words", "<|endoftext|><|endoftext|>"}) {
    EXPECT_THAT(refusal(text, {}), testing::AllOf(HasSubstr("the calibration text is too short"), HasSubstr("'word'")));
  }
  EXPECT_THAT(refusal("", {.flops = 0.95, .progress = {}}), HasSubstr("0.95"));
  EXPECT_THAT(refusal("", {.flops = std::nan(""), .progress = {}}), HasSubstr("nan"));
  EXPECT_THAT(refusal("", {.effort = std::nan(""), .progress = {}}), HasSubstr("the effort must lie between"));
}

}  // namespace
}  // namespace molt
