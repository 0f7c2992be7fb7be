// What the precision of the states does to decoding: documents fed token by token, with states in float32, in bfloat16
// (rounded at random after every token), and in bfloat16 rounded to nearest, which molt does not offer (float32 states
// are rounded in place here): how far log p of the text moves, and how often the likeliest token is another.
//
//   state_precision_bench MODEL TEXT [--tokens=10000] [--texts=2] [--greedy=512] [--threads=N]
//
// TEXT: documents separated by <|endoftext|>; the first ones that are long enough are taken.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include "base/fail.h"
#include "model/model.h"
#include "molt/session.h"
#include "molt/threads.h"

namespace molt {
namespace {

constexpr std::int64_t kBuckets[] = {0, 1000, 2000, 5000, 10000};
constexpr std::int64_t kGreedyPrompt = 256;

struct Options {
  std::int64_t tokens = 10000;
  std::int64_t texts = 2;
  std::int64_t greedy = 512;
};

enum class Arm { wide, random, nearest };
constexpr Arm kArms[] = {Arm::wide, Arm::random, Arm::nearest};

std::string_view name_of(Arm arm) {
  switch (arm) {
    case Arm::wide: return "f32";
    case Arm::random: return "bf16";
    case Arm::nearest: return "to nearest";
  }
  return "";
}

/// The first documents that have more than `tokens` tokens, cut there.
std::vector<std::vector<TokenId>> read_documents(const std::string& path, const Tokenizer& tokenizer,
                                                 const Options& options) {
  std::ifstream file(path);
  if (!file) fail("{}: cannot open", path);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const std::string separator = "<|endoftext|>";
  std::vector<std::vector<TokenId>> documents;
  for (std::size_t begin = 0; begin < text.size() && std::ssize(documents) < options.texts;) {
    const std::size_t end = std::min(text.find(separator, begin), text.size());
    std::vector<TokenId> ids = tokenizer.encode(text.substr(begin, end - begin));
    begin = end + separator.size();
    if (std::ssize(ids) <= options.tokens) continue;
    ids.resize(static_cast<std::size_t>(options.tokens) + 1);
    documents.push_back(std::move(ids));
  }
  if (documents.empty()) fail("{}: no document has more than {} tokens", path, options.tokens);
  return documents;
}

/// Rounds the SSM states of a state in float32 to the nearest values of bfloat16.
void round_to_nearest(const ModelCore& model, State& state) {
  const auto& parts = model.state_layout(DType::f32).parts;
  for (std::size_t p = 0; p < parts.size(); ++p) {
    if (model.state_layout(DType::bf16).parts[p].dtype == DType::f32) continue;
    auto* values = reinterpret_cast<float*>(state.data() + parts[p].offset);
    for (std::int64_t i = 0; i < element_count(parts[p].shape); ++i) {
      values[i] = BFloat16::from_float(values[i]).to_float();
    }
  }
}

std::vector<double> log_softmax(std::span<const float> logits) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float v : logits) sum += std::exp(v - largest);
  std::vector<double> result;
  for (const float v : logits) result.push_back(v - largest - std::log(sum));
  return result;
}

std::size_t likeliest(std::span<const double> logp) {
  return static_cast<std::size_t>(std::max_element(logp.begin(), logp.end()) - logp.begin());
}

/// Sums over the tokens of a bucket.
struct Sums {
  double count = 0, nll = 0, change = 0, squares = 0, magnitude = 0, kl = 0, agree = 0;

  void add(std::span<const double> wide, std::span<const double> other, TokenId next) {
    const auto n = static_cast<std::size_t>(next);
    const double d = other[n] - wide[n];
    count += 1;
    nll -= other[n];
    change += d;
    squares += d * d;
    magnitude += std::fabs(d);
    for (std::size_t i = 0; i < wide.size(); ++i) kl += std::exp(wide[i]) * (wide[i] - other[i]);
    agree += likeliest(wide) == likeliest(other) ? 1 : 0;
  }
};

double relative_error(const State& state, const State& wide) {
  const std::vector<float> got = state.values(), want = wide.values();
  double squares = 0, error = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    squares += static_cast<double>(want[i]) * want[i];
    error += std::pow(static_cast<double>(got[i]) - want[i], 2);
  }
  return std::sqrt(error / squares);
}

/// Feeds every document token by token, each arm to states of its own.
void teacher_forced(const Model& model, const std::vector<std::vector<TokenId>>& documents, const Options& options) {
  std::map<Arm, std::vector<State>> states;
  for (const Arm arm : kArms) {
    const State empty(model, arm == Arm::random ? StateType::bf16 : StateType::f32);
    states[arm].assign(documents.size(), empty);
  }
  Session session(model);
  const auto vocab = static_cast<std::size_t>(model.vocab_size());
  std::map<Arm, std::vector<Sums>> sums;
  for (const Arm arm : kArms) sums[arm].resize(std::size(kBuckets) - 1);
  fmt::print("relative error of the states (root mean square, mean of the documents)\n");
  for (std::int64_t t = 0; t < options.tokens; ++t) {
    std::vector<std::vector<double>> wide;
    const auto bucket = static_cast<std::size_t>(std::upper_bound(std::begin(kBuckets), std::end(kBuckets) - 1, t) -
                                                 std::begin(kBuckets) - 1);
    for (const Arm arm : kArms) {
      std::vector<Sequence> batch;
      for (std::size_t d = 0; d < documents.size(); ++d) {
        batch.push_back({&states[arm][d], std::span(documents[d]).subspan(static_cast<std::size_t>(t), 1)});
      }
      const std::span<const float> logits = session.feed(batch);
      for (std::size_t d = 0; d < documents.size(); ++d) {
        const std::vector<double> logp = log_softmax(logits.subspan(d * vocab, vocab));
        if (arm == Arm::wide) wide.push_back(logp);
        sums[arm][bucket].add(wide[d], logp, documents[d][static_cast<std::size_t>(t) + 1]);
        if (arm == Arm::nearest) round_to_nearest(*model.core(), states[arm][d]);
      }
    }
    if (std::find(std::begin(kBuckets), std::end(kBuckets), t + 1) == std::end(kBuckets)) continue;
    fmt::print("  behind {:>5} tokens:", t + 1);
    for (const Arm arm : {Arm::random, Arm::nearest}) {
      double error = 0;
      for (std::size_t d = 0; d < documents.size(); ++d) error += relative_error(states[arm][d], states[Arm::wide][d]);
      fmt::print("  {} {:.4f}", name_of(arm), error / static_cast<double>(documents.size()));
    }
    fmt::print("\n");
  }
  fmt::print("{:<12}{:>12}{:>8}{:>9}{:>22}{:>12}{:>11}{:>12}\n", "states", "positions", "tokens", "NLL",
             "log p less f32's", "|log p|", "KL", "same top 1");
  for (const Arm arm : kArms) {
    for (std::size_t b = 0; b + 1 < std::size(kBuckets); ++b) {
      const Sums& s = sums[arm][b];
      if (s.count == 0) continue;
      const double mean = s.change / s.count;
      const double error = std::sqrt(std::max(0.0, s.squares / s.count - mean * mean) / s.count);
      fmt::print("{:<12}{:>12}{:>8}{:>9.4f}{:>12.5f} +- {:.5f}{:>12.5f}{:>11.2e}{:>11.2f}%\n", name_of(arm),
                 fmt::format("{}-{}", kBuckets[b], kBuckets[b + 1]), s.count, s.nll / s.count, mean, error,
                 s.magnitude / s.count, s.kl / s.count, 100 * s.agree / s.count);
    }
  }
}

/// The likeliest tokens behind the beginning of each document, each arm going on from its own.
void greedy(const Model& model, const std::vector<std::vector<TokenId>>& documents, const Options& options) {
  fmt::print("greedy, {} tokens behind the first {} of each document: same tokens before the first other one\n",
             options.greedy, kGreedyPrompt);
  for (std::size_t d = 0; d < documents.size(); ++d) {
    std::map<Arm, std::vector<TokenId>> texts;
    for (const Arm arm : {Arm::wide, Arm::random}) {
      Session session(model);
      State state(model, arm == Arm::random ? StateType::bf16 : StateType::f32);
      std::span<const float> logits;
      for (std::int64_t t = 0; t < kGreedyPrompt; ++t) {
        logits = session.feed(state, std::span(documents[d]).subspan(static_cast<std::size_t>(t), 1));
      }
      for (std::int64_t t = 0; t < options.greedy; ++t) {
        const auto next = static_cast<TokenId>(std::max_element(logits.begin(), logits.end()) - logits.begin());
        texts[arm].push_back(next);
        logits = session.feed(state, {&next, 1});
      }
    }
    const auto& wide = texts[Arm::wide];
    const auto same = std::mismatch(wide.begin(), wide.end(), texts[Arm::random].begin()).first - wide.begin();
    fmt::print("  document {}: {} of {}\n", d, same, options.greedy);
  }
}

/// "--name=N" into `value`; false if `argument` is another.
bool read_option(const std::string& argument, const std::string& name, std::int64_t& value) {
  if (!argument.starts_with("--" + name + "=")) return false;
  value = std::strtoll(argument.c_str() + name.size() + 3, nullptr, 10);
  if (value < 1) fail("{}: must be at least 1", argument);
  return true;
}

void run(const std::vector<std::string>& arguments) {
  Options options;
  std::int64_t threads = 0;
  std::vector<std::string> files;
  for (const std::string& argument : arguments) {
    if (!argument.starts_with("--")) {
      files.push_back(argument);
    } else if (!read_option(argument, "tokens", options.tokens) && !read_option(argument, "texts", options.texts) &&
               !read_option(argument, "greedy", options.greedy) && !read_option(argument, "threads", threads)) {
      fail("{}: unknown; there are --tokens, --texts, --greedy and --threads", argument);
    }
  }
  if (files.size() != 2) fail("usage: state_precision_bench MODEL TEXT [--tokens=N] [--texts=N] [--greedy=N]");
  options.tokens = std::clamp<std::int64_t>(options.tokens, kGreedyPrompt, *std::prev(std::end(kBuckets)));
  if (threads > 0) set_num_threads(static_cast<int>(threads));
  const Model model = Model::load(files[0]);
  const auto documents = read_documents(files[1], model.tokenizer(), options);
  fmt::print("{}: weights {}, {} documents of {} tokens, fed one by one\n", model.source(),
             name_of(model.core()->dtype()), documents.size(), options.tokens);
  teacher_forced(model, documents, options);
  greedy(model, documents, options);
}

}  // namespace
}  // namespace molt

int main(int argc, char** argv) {
  try {
    molt::run({argv + 1, argv + argc});
  } catch (const molt::Error& error) {
    fmt::print(stderr, "state_precision_bench: {}\n", error.what());
    return 2;
  }
  return 0;
}
