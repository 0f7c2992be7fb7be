// Task: something that a model is asked, and how its answers are valued. Adding one is adding a file to tasks/:
//
//   const Registration<Task> registration{"name", {"one line for --help", {"data.jsonl"}, {metrics...}, &read}};
//
// read() turns data into items: contexts and continuations as tokens. The engine scores them, dense and reduced
// (evaluate.h); a metric turns the scores of one item into one number. A task knows nothing of reductions.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/registry.h"
#include "eval/data.h"
#include "eval/scoring.h"
#include "molt/model.h"

namespace molt::eval {

/// What a task reads, and how.
struct TaskInput {
  const Model& model;                  // has a tokenizer
  std::vector<std::string> files;      // at least one
  std::int64_t limit;                  // items at most; for tasks of documents, documents of each context length
  std::vector<std::int64_t> contexts;  // context lengths, ascending; empty: the task's own
  std::int64_t excerpts = 1;           // of one document, at most
  std::uint64_t seed = 0;              // of everything that is drawn
  bool add_bos = false;                // in front of contexts; documents begin with it anyway
  std::int64_t max_length = 2048;      // tokens of a question, and of a window of running text (see fit())
};

/// One question.
struct Item {
  std::vector<Request> requests;         // to be scored; the choices of a question with several, or only one
  std::int64_t cluster = 0;              // items of one cluster (document) are not independent of one another
  std::vector<std::string> groups = {};  // reported apart, besides all items together

  // For the metrics of some tasks.
  std::size_t answer = 0;                     // the right choice
  std::vector<std::int64_t> characters = {};  // of each choice as it is written
  std::int64_t words = 0;                     // of a text as it is written ...
  std::int64_t bytes = 0;                     // ... and in UTF-8
};

/// What a task made of its files.
struct Reading {
  std::vector<Item> items;
  Problems problems;           // lines that are no items, and were left out
  std::int64_t shortened = 0;  // items that were longer than TaskInput::max_length, and lost a context's beginning
};

/// What an item is worth, by its requests' scores.
struct Metric {
  std::string name;  // "nll"
  std::string help;  // "sum over the last word's tokens of -log p, in nats"
  bool higher_is_better;
  double (*value)(const Item& item, std::span<const Score> scores);
  std::string exp_name = {};  // if not empty: exp(mean) is reported, too, under this name ("perplexity")
  double (*weight)(const Item& item) = nullptr;  // of an item in the mean; null: all count alike
};

struct Task {
  std::string summary;
  /// Names under which a folder may hold the data. A file that is named outright goes to tasks whose files end alike.
  std::vector<std::string> files;
  std::vector<Metric> metrics;  // the first is the one that matters most
  /// Throws Error, naming file and line, for what leaves nothing to go on with.
  Reading (*read)(const TaskInput& input);
};

/// -log p of a continuation, or of several: the sum over its tokens, and the mean.
inline double nll_sum(const Score& score) {
  double sum = 0;
  for (const float logprob : score.logprobs) sum -= static_cast<double>(logprob);
  return sum;
}
inline double nll_sum(std::span<const Score> scores) {
  double sum = 0;
  for (const Score& score : scores) sum += nll_sum(score);
  return sum;
}
inline double nll_mean(const Score& score) {
  return nll_sum(score) / static_cast<double>(score.logprobs.size());
}

}  // namespace molt::eval
