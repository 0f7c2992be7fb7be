// Speed of the tokenizer, on one core: MB/s of text for encode, ids/s for decode, and loading.
//
//   cmake --preset dev && cmake --build --preset dev && build/dev/bin/tokenizer_bench
//
// Real text is read from the folder of shared data, ../shared or $MOLT_SHARED; without it only the worst cases run.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "molt/tokenizer.h"

namespace {

using molt::TokenId;
using molt::Tokenizer;

std::string read(const std::string& path) {
  std::ifstream file(path);
  return std::move(std::ostringstream() << file.rdbuf()).str();
}

void encode(benchmark::State& state, const Tokenizer& tokenizer, const std::string& text) {
  std::size_t ids = 0;
  for (auto _ : state) {
    ids = tokenizer.encode(text).size();
    benchmark::DoNotOptimize(ids);
  }
  state.SetBytesProcessed(static_cast<std::int64_t>(text.size()) * state.iterations());
  state.counters["bytes_per_id"] = static_cast<double>(text.size()) / static_cast<double>(ids);
}

void decode(benchmark::State& state, const Tokenizer& tokenizer, const std::string& text) {
  const auto ids = tokenizer.encode(text);
  for (auto _ : state) benchmark::DoNotOptimize(tokenizer.decode(ids));
  state.SetBytesProcessed(static_cast<std::int64_t>(text.size()) * state.iterations());
}

std::string repeated(std::string_view unit, std::size_t bytes) {
  std::string text;
  while (text.size() < bytes) text += unit;
  return text;
}

void add(const std::string& name, const Tokenizer& tokenizer, const std::string& shared) {
  const auto run = [&](const std::string& what, const std::string& text, auto function) {
    benchmark::RegisterBenchmark(fmt::format("{}/{}", name, what).c_str(), [=](benchmark::State& state) {
      function(state, tokenizer, text);
    })->Unit(benchmark::kMillisecond);
  };
  for (const std::string file : {"wikitext2_raw_test.txt", "heldout.txt"}) {
    const std::string text = read(shared + "/eval/" + file);
    if (text.empty()) continue;
    run("encode/" + file, text, encode);
    run("decode/" + file, text, decode);
  }
  for (const auto& [what, unit] : {std::pair{"one word of a", "a"},
                                   {"spaces", " "},
                                   {"ab", "ab"},
                                   {"marks", "\u0301\u0323"},
                                   {"accented words", "café naïve "},
                                   {"Hangul", "한국어 텍스트 "}}) {
    run(fmt::format("encode/1 MB of {}", what), repeated(unit, 1 << 20), encode);
  }
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  const char* variable = std::getenv("MOLT_SHARED");
  const std::string shared = variable != nullptr ? variable : "../shared";
  const std::string demo = "models/demo/tokenizer.json";
  if (!std::filesystem::exists(demo)) {
    fmt::print(stderr, "tokenizer_bench: {} is not here; run it in the root of the repository\n", demo);
    return 2;
  }
  for (const auto& [name, path] :
       {std::pair{std::string("molt16k"), demo}, {std::string("neox"), shared + "/tokenizer/20B_tokenizer.json"}}) {
    if (!std::filesystem::exists(path)) continue;
    benchmark::RegisterBenchmark((name + "/load").c_str(), [path = path](benchmark::State& state) {
      for (auto _ : state) benchmark::DoNotOptimize(Tokenizer::load(path));
    })->Unit(benchmark::kMillisecond);
    add(name, Tokenizer::load(path), shared);
  }
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
