// surrogate: what its rules may be, what its letters do, and that writing is exact where it claims to be.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/random.h"
#include "io/safetensors.h"
#include "molt/error.h"
#include "molt/session.h"
#include "reduction/core.h"
#include "reduction/pass.h"
#include "reduction/write_maps.h"
#include "tests/support/paths.h"
#include "tests/support/sliced_backend.h"
#include "tests/support/temp_folder.h"

namespace molt {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing_support::fixture;
using testing_support::TempFolder;

std::vector<TokenId> random_ids(const Model& model, std::int64_t length, std::uint64_t seed) {
  Random random(seed);
  std::vector<TokenId> ids(static_cast<std::size_t>(length));
  for (TokenId& id : ids) id = static_cast<TokenId>(random.next() % static_cast<std::uint64_t>(model.vocab_size()));
  return ids;
}

json tier(double until, const std::string& ops) {
  return {{"until", until}, {"ops", ops}};
}

json rule(std::int64_t recent, std::vector<json> tiers, std::optional<std::int64_t> up_to = {}) {
  json rule{{"recent", recent}, {"tiers", std::move(tiers)}};
  if (up_to) rule["up_to"] = *up_to;
  return rule;
}

struct Outcome {
  std::vector<float> logits;
  State state;
  ReductionRecord record;
};

Outcome run(const Model& model, std::span<const TokenId> ids, const Reduction* reduction, std::int64_t window = 4096) {
  Session session(model, {.window = window, .progress = {}});
  Outcome outcome{{}, State(model), {}};
  const auto logits = session.feed(outcome.state, ids, {.reduction = reduction, .record = &outcome.record});
  outcome.logits.assign(logits.begin(), logits.end());
  return outcome;
}

/// Largest difference, as a share of the largest expected value.
double difference(std::span<const float> expected, std::span<const float> actual) {
  double largest = 1e-30;
  double worst = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    largest = std::max(largest, std::abs(static_cast<double>(expected[i])));
    worst = std::max(worst, std::abs(static_cast<double>(expected[i]) - actual[i]));
  }
  return worst / largest;
}

double difference(const State& expected, const State& actual) {
  return difference(expected.values(), actual.values());
}

/// The state of one layer, held in float32.
std::span<const float> layer_of(const Model& model, const State& state, std::int64_t layer) {
  const StateLayout& layout = model.core()->state_layout();
  const std::int64_t begin = layout.layer_offsets[static_cast<std::size_t>(layer)];
  const bool last = layer + 1 == model.core()->config().n_layer;
  const std::int64_t end = last ? state.bytes() : layout.layer_offsets[static_cast<std::size_t>(layer) + 1];
  return {reinterpret_cast<const float*>(state.data() + begin), static_cast<std::size_t>(end - begin) / sizeof(float)};
}

// ---- what rules may be -------------------------------------------------------------------------------------------

class SurrogateRules : public testing::Test {
 protected:
  Reduction parse(const std::string& rules) const {
    return Reduction::parse(model_, folder_.write("s.json", R"({"method": "surrogate", "rules": )" + rules + "}"));
  }

  std::string refusal(const std::string& rules) const {
    try {
      parse(rules);
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  }

  TempFolder folder_;
  Model model_ = Model::load(testing_support::demo_model());  // 16 blocks
};

TEST_F(SurrogateRules, ThatAreWrongAreRefusedByPlace) {
  const std::string full(16, 'F');
  const auto with_tiers = [](const std::string& tiers) { return R"([{"recent": 8, "tiers": )" + tiers + "}]"; };
  EXPECT_THAT(refusal("3"), HasSubstr("rules must be a JSON array"));
  EXPECT_THAT(refusal("[]"), HasSubstr("at least one rule"));
  EXPECT_THAT(refusal("{}"), HasSubstr("rules must be a JSON array"));
  EXPECT_THAT(refusal("\"[{]\""), AllOf(HasSubstr("s.json: rules: not valid JSON"), HasSubstr("line 1")));
  EXPECT_THAT(refusal("[\"x\"]"), HasSubstr("rules[0] is the string `x`; it must be an object"));
  EXPECT_THAT(refusal("[{}]"), HasSubstr("rules[0]: \"tiers\" is missing"));
  EXPECT_THAT(refusal(R"([{"recent": 8}])"), HasSubstr("rules[0]: \"tiers\" is missing"));
  EXPECT_THAT(refusal(with_tiers("7")), HasSubstr("rules[0]: \"tiers\" is 7; it must be an array"));
  for (const char* recent : {"-1", "1.5", "true", "\"8\"", "null", "1e300", "-9223372036854775808", "[8]"}) {
    EXPECT_THAT(refusal(fmt::format(R"([{{"recent": {}, "tiers": []}}])", recent)),
                HasSubstr("rules[0]: \"recent\" is "))
        << recent;
  }
  EXPECT_THAT(refusal(R"([{"recent": 8, "tiers": [], "up_to": 100}])"),
              HasSubstr("rules[0]: every rule but the last one has an \"up_to\""));
  EXPECT_THAT(refusal(R"([{"recent": 8, "tiers": []}, {"recent": 8, "tiers": []}])"),
              HasSubstr("rules[0]: every rule but the last one"));
  EXPECT_THAT(refusal(R"([{"up_to": 9, "recent": 8, "tiers": []}, {"up_to": 9, "recent": 8, "tiers": []},
                          {"recent": 8, "tiers": []}])"),
              HasSubstr("rules[1]: up_to must ascend"));
  EXPECT_THAT(refusal(R"([{"up_to": 0, "recent": 8, "tiers": []}, {"recent": 8, "tiers": []}])"),
              HasSubstr("rules[0]: \"up_to\" is 0; it must be a number of tokens, at least 1"));
  EXPECT_THAT(refusal(with_tiers("[5]")), HasSubstr("rules[0].tiers[0] is 5; it must be an object"));
  for (const char* until : {"0", "-0.5", "1.5", "true", "\"0.5\"", "null", "1e300"}) {
    EXPECT_THAT(refusal(with_tiers(fmt::format(R"([{{"until": {}, "ops": "{}"}}])", until, full))),
                HasSubstr("rules[0].tiers[0]: \"until\" is "))
        << until;
  }
  EXPECT_THAT(refusal(with_tiers(R"([{"until": 0.5}])")), HasSubstr("rules[0].tiers[0]: \"ops\" is missing"));
  EXPECT_THAT(refusal(with_tiers(R"([{"until": 0.5, "ops": 3}])")), HasSubstr("rules[0].tiers[0]: \"ops\" is 3"));
  EXPECT_THAT(refusal(with_tiers(R"([{"until": 0.5, "ops": "FFF"}])")), HasSubstr("3 letters for 16 blocks"));
  EXPECT_THAT(refusal(with_tiers(R"([{"until": 0.5, "ops": "FFFFFFFXFFFFFFFF"}])")), HasSubstr("F, W, L, S"));
  const json falling = json::array({tier(0.5, full), tier(0.5, full)});
  EXPECT_THAT(refusal(with_tiers(falling.dump())), HasSubstr("rules[0].tiers[1]: \"until\" is 0.5"));
  const json mapped = json::array({tier(0.5, "FFFFFFFSWFFFFFFF")});
  EXPECT_THAT(refusal(with_tiers(mapped.dump())), HasSubstr("writes to block 8 through a map, but names no file"));
  const json lite = json::array({tier(0.5, "FFFFFFFLFFFFFFFF")});
  EXPECT_THAT(refusal(with_tiers(lite.dump())), HasSubstr("writes to block 7 through a map"));
}

TEST_F(SurrogateRules, NestedDeepAreNoTrouble) {
  const std::string deep = std::string(50000, '[') + std::string(50000, ']');
  EXPECT_THROW(Reduction::parse(model_, "surrogate:rules=" + deep), Error);
  EXPECT_THAT(refusal(deep), HasSubstr("s.json"));
  EXPECT_THAT(refusal(std::string(95, '[') + std::string(95, ']')), HasSubstr("s.json"));
}

TEST_F(SurrogateRules, ReadBackAsTheyWereWritten) {
  const json rules = json::array({rule(4, {tier(0.25, "FFFWSSSSFFFFFFFF"), tier(0.5, "FFFFFFFSSSSSSSSS")}, 64),
                                  rule(8, {tier(0.75, "FFFSSSSSSSSFFFFF")})});
  const Reduction reduction = parse(rules.dump());
  EXPECT_EQ(json::parse(reduction.text())["rules"], rules);
  const Reduction again = Reduction::parse(model_, folder_.write("again.json", reduction.text()));
  EXPECT_EQ(again.text(), reduction.text());
}

TEST_F(SurrogateRules, TheFirstThatIsNotExceededHolds) {
  const Reduction reduction =
      parse(json::array({rule(0, {tier(0.5, "FSSSSSSSSSSSSSSS")}, 20), rule(0, {tier(0.5, "FFSSSSSSSSSSSSSS")}, 40),
                         rule(0, {tier(0.5, "FFFSSSSSSSSSSSSS")})})
                .dump());
  for (const auto& [length, first] :
       std::vector<std::pair<std::int64_t, std::size_t>>{{10, 1}, {20, 1}, {21, 2}, {40, 2}, {41, 3}, {400, 3}}) {
    const ReductionRecord record = reduction.rehearse(length);
    EXPECT_EQ(record.full[first - 1], length) << length;
    EXPECT_LT(record.full[first], length) << length;
  }
}

// ---- what the letters do -----------------------------------------------------------------------------------------

class Surrogate : public testing::TestWithParam<std::string> {
 protected:
  static std::int64_t layers() { return 3; }  // of the tiny models

  Reduction parse(const json& rules, const std::string& more = "") const {
    return Reduction::parse(
        model_, folder_.write("s.json", R"({"method": "surrogate", )" + more + R"("rules": )" + rules.dump() + "}"));
  }

  /// A map that is the rows of block `to`'s own projection which feed its state, times the norm before it: so it writes
  /// what the residual itself would, taken the layer's own way. `heads`: whose x is written; nothing: all.
  WriteMapTensors own_projection(std::int64_t to, std::optional<std::vector<std::int64_t>> heads = {}) const {
    const Block& block = model_.core()->block(to);
    const std::int64_t width = model_.core()->config().d_model;
    const SafetensorsFile file = read_safetensors(fixture("tiny/" + GetParam()) + "/model.safetensors");
    const std::string layer = fmt::format("backbone.layers.{}.", to);
    const Tensor norm = file.tensors.at(layer + "norm.weight").to_f32();
    const Tensor in_proj = file.tensors.at(layer + "mixer.in_proj.weight").to_f32();
    std::vector<std::int64_t> rows;  // of in_proj
    const auto add = [&](std::int64_t begin, std::int64_t count) {
      for (std::int64_t i = 0; i < count; ++i) rows.push_back(begin + i);
    };
    if (block.heads() == 0) {  // x, z
      add(0, in_proj.shape()[0] / 2);
    } else {  // z, x, B, C, dt
      const std::int64_t dt = block.heads();
      const std::int64_t bc = block.write_outputs({}) - dt;
      const std::int64_t inner = (in_proj.shape()[0] - 2 * bc - dt) / 2;
      if (!heads) {
        heads.emplace();
        for (std::int64_t head = 0; head < dt; ++head) heads->push_back(head);
      }
      for (const std::int64_t head : *heads) add(inner + head * (inner / dt), inner / dt);
      add(2 * inner, bc);
      add(2 * inner + 2 * bc, dt);
    }
    WriteMapTensors map;
    const auto outputs = static_cast<std::int64_t>(rows.size());
    map.weight = Tensor::zeros(DType::f32, {outputs, width});
    map.bias = Tensor::zeros(DType::f32, {outputs});
    if (block.heads() > 0) map.heads = *heads;
    for (std::int64_t o = 0; o < outputs; ++o) {
      const float* row = in_proj.as<float>() + rows[static_cast<std::size_t>(o)] * width;
      for (std::int64_t d = 0; d < width; ++d) map.weight.as<float>()[o * width + d] = row[d] * norm.as<float>()[d];
    }
    return map;
  }

  /// Saves the maps that any schedule of the tiny models may ask for.
  std::string save_maps() const {
    std::map<WriteMapKey, WriteMapTensors> maps;
    for (const std::int64_t rule : {0, 1}) {
      for (std::int64_t from = 0; from < layers(); ++from) {
        for (std::int64_t to = from; to < layers(); ++to) {
          maps[{rule, from, to, 'W'}] = own_projection(to);
          maps[{rule, from, to, 'L'}] = own_projection(to, std::vector<std::int64_t>{1});
        }
      }
    }
    WriteMaps::save(folder_ / "maps.safetensors", maps, *model_.core());
    return R"("maps": "maps.safetensors", )";
  }

  TempFolder folder_;
  Model model_ = Model::load(fixture("tiny/" + GetParam()), {.weights = WeightType::f32});
};

/// What a schedule's letters say, read one token and one layer at a time.
struct Reading {
  std::vector<std::int64_t> full, writing;
};

Reading read_letters(const json& rules, std::int64_t length, std::int64_t layers) {
  const json* held = nullptr;
  for (const json& rule : rules) {
    if (held == nullptr && (!rule.contains("up_to") || length <= rule["up_to"].get<std::int64_t>())) held = &rule;
  }
  Reading reading{std::vector<std::int64_t>(static_cast<std::size_t>(layers)),
                  std::vector<std::int64_t>(static_cast<std::size_t>(layers))};
  for (std::int64_t position = 0; position < length; ++position) {
    std::string ops(static_cast<std::size_t>(layers), 'F');
    if (position != 0 && position != length - 1) {
      ops.back() = 'W';
      if (position < length - (*held)["recent"].get<std::int64_t>()) {
        for (const json& tier : (*held)["tiers"]) {
          if (static_cast<double>(position) >= tier["until"].get<double>() * static_cast<double>(length)) continue;
          ops = tier["ops"];
          if (ops.back() == 'F') ops.back() = 'W';
          break;
        }
      }
    }
    for (std::size_t layer = 0; layer < ops.size(); ++layer) {
      reading.full[layer] += ops[layer] == 'F' ? 1 : 0;
      reading.writing[layer] += ops[layer] == 'W' || ops[layer] == 'L' ? 1 : 0;
    }
  }
  return reading;
}

TEST_P(Surrogate, LettersAreFollowed) {
  const std::string maps = save_maps();
  Random random(1);
  const auto letters = [&] {
    std::string ops;
    for (std::int64_t layer = 0; layer < layers(); ++layer) ops += "FFWLS"[random.next() % 5];
    return ops;
  };
  for (int trial = 0; trial < 60; ++trial) {
    std::vector<json> rules;
    if (trial % 3 == 0) rules.push_back(rule(trial % 7, {tier(0.5, letters())}, 20));
    rules.push_back(rule(trial % 5, {tier(0.3, letters()), tier(0.7, letters()), tier(1, letters())}));
    const Reduction reduction = parse(json(rules), maps);
    for (const std::int64_t length : {1, 2, 3, 9, 20, 21, 47}) {
      SCOPED_TRACE(fmt::format("{} tokens, {}", length, json(rules).dump()));
      const Reading wanted = read_letters(json(rules), length, layers());
      const ReductionRecord rehearsal = reduction.rehearse(length);
      EXPECT_EQ(rehearsal.full, wanted.full);
      EXPECT_EQ(rehearsal.writing, wanted.writing);
      const std::vector<TokenId> ids = random_ids(model_, length, static_cast<std::uint64_t>(trial));
      for (const std::int64_t window : {4096, 8}) {  // one window wholly of tokens that leave among them
        const Outcome outcome = run(model_, ids, &reduction, window);
        EXPECT_EQ(outcome.record.full, wanted.full) << window;
        EXPECT_EQ(outcome.record.writing, wanted.writing) << window;
        EXPECT_DOUBLE_EQ(outcome.record.flops, rehearsal.flops) << window;
        for (const float logit : outcome.logits) ASSERT_TRUE(std::isfinite(logit));
      }
    }
  }
}

// The last block's output is read for the last token alone, so cutting there costs nothing.
TEST_P(Surrogate, CutAtTheLastLayerAloneIsTheDenseModel) {
  const Reduction reduction = parse(json::array({rule(0, {})}));
  for (const std::int64_t length : {1, 2, 3, 50, 130}) {
    const std::vector<TokenId> ids = random_ids(model_, length, 3);
    const Outcome dense = run(model_, ids, nullptr);
    for (const std::int64_t window : {4096, 16, 1}) {
      const Outcome outcome = run(model_, ids, &reduction, window);
      EXPECT_LT(difference(dense.logits, outcome.logits), 1e-5) << length << " tokens by " << window;
      EXPECT_LT(difference(dense.state, outcome.state), 1e-5) << length << " tokens by " << window;
      EXPECT_EQ(outcome.record.full.back(), std::min<std::int64_t>(length, 2));
      EXPECT_EQ(outcome.record.writing.back(), std::max<std::int64_t>(length - 2, 0));
      EXPECT_EQ(outcome.record.cut() > 0, length > 2);
    }
  }
}

// Tokens that leave behind a block and write to the next one write exactly what they would have written.
TEST_P(Surrogate, WritingRightBehindAFullBlockIsExact) {
  const std::vector<TokenId> ids = random_ids(model_, 60, 4);
  const Outcome dense = run(model_, ids, nullptr);
  for (std::int64_t first = 0; first < layers(); ++first) {  // the first block that some tokens do not run
    std::string ops(static_cast<std::size_t>(layers()), 'S');
    for (std::int64_t layer = 0; layer < first; ++layer) ops[static_cast<std::size_t>(layer)] = 'F';
    ops[static_cast<std::size_t>(first)] = 'W';
    const Reduction reduction = parse(json::array({rule(5, {tier(0.6, ops)})}));
    const Outcome outcome = run(model_, ids, &reduction);
    for (std::int64_t layer = 0; layer <= first; ++layer) {
      EXPECT_LT(difference(layer_of(model_, dense.state, layer), layer_of(model_, outcome.state, layer)), 1e-5)
          << "layer " << layer << " of " << ops;
    }
    for (std::int64_t layer = first + 1; layer < layers(); ++layer) {
      EXPECT_GT(difference(layer_of(model_, dense.state, layer), layer_of(model_, outcome.state, layer)), 1e-3)
          << "layer " << layer << " of " << ops << " never saw them";
    }
  }
}

// A map that is the block's own projection and norm writes what the residual itself does.
TEST_P(Surrogate, AMapOfTheBlocksOwnProjectionWritesTheSame) {
  save_maps();
  const ModelCore& core = *model_.core();
  for (std::int64_t to = 0; to < layers(); ++to) {
    const WriteMapKey key{0, 0, to, 'W'};
    WriteMaps maps(folder_ / "maps.safetensors", core);
    const std::shared_ptr<const WriteMap> map = maps.get(key);
    EXPECT_EQ(maps.get(key), map) << "packed once";

    /// Lets tokens 5 .. 29 of 40 write to block `to` alone, by the map or without one, and shows that block's state.
    class Writes final : public Reducer {
     public:
      Writes(std::int64_t to, std::shared_ptr<const WriteMap> map) : to_(to), map_(std::move(map)) {}
      std::vector<std::int64_t> sites() const override { return {-1}; }
      Plan plan(const Site& site) const override {
        Plan plan;
        plan.courses = {Course{.writes = {{to_, map_}}}};
        for (std::int64_t t = 5; t < std::min<std::int64_t>(30, site.tokens() - 1); ++t) {
          plan.departures.push_back({.token = t});
        }
        return plan;
      }

     private:
      std::int64_t to_;
      std::shared_ptr<const WriteMap> map_;
    };
    const auto state_by = [&](std::shared_ptr<const WriteMap> by) {
      auto reduction = std::make_shared<Reduction::Core>();
      reduction->model = model_.core();
      reduction->method = "test-writes";
      reduction->reducer = std::make_shared<Writes>(to, std::move(by));
      const std::vector<TokenId> ids = random_ids(model_, 40, 5);
      ReductionRecord record;
      const ReducedPiece piece{.reduction = reduction.get(),
                               .place = {.begin = 0, .tokens = 40, .length = 40},
                               .fed = 40,
                               .owed = {},
                               .record = &record};
      Arena arena;
      Arena parked;
      ReducedPass pass({&piece, 1}, core, arena, parked);
      const State state(model_);
      std::byte* const states[] = {state.data()};
      const std::int64_t offsets[] = {0, 40};
      core.forward({ids, offsets, states}, arena, &pass);
      EXPECT_EQ(record.writing[static_cast<std::size_t>(to)], 25);
      return state;
    };
    const State exact = state_by(nullptr);
    const State mapped = state_by(map);
    EXPECT_LT(difference(layer_of(model_, exact, to), layer_of(model_, mapped, to)), 1e-5) << "block " << to;
  }
}

TEST_P(Surrogate, WindowsBatchesAndSlicesChangeNothing) {
  const Reduction reduction =
      parse(json::array({rule(6, {tier(0.3, "FWL"), tier(0.5, "FSW"), tier(0.8, "WSF")})}), save_maps());
  std::vector<std::vector<TokenId>> texts;
  for (const std::int64_t length : {1, 2, 3, 41, 64, 90}) {
    texts.push_back(random_ids(model_, length, static_cast<std::uint64_t>(length)));
  }
  std::vector<Outcome> alone;
  for (const auto& text : texts) alone.push_back(run(model_, text, &reduction));
  const Model sliced =
      Model::load(fixture("tiny/" + GetParam()), {.weights = WeightType::f32, .backend = "cpu-in-slices"});
  const Reduction for_sliced = Reduction::parse(sliced, folder_ / "s.json");
  const std::pair<const Model*, std::int64_t> ways[] = {
      {&model_, 4096}, {&model_, 70}, {&model_, 16}, {&sliced, 4096}, {&sliced, 16}};
  for (const auto& [model, window] : ways) {
    SCOPED_TRACE(model == &sliced ? "in slices" : "");
    std::vector<State> states(texts.size(), State(*model));
    std::vector<ReductionRecord> records(texts.size());
    std::vector<Sequence> batch;
    for (std::size_t s = 0; s < texts.size(); ++s) {
      // One of them dense, beside the reduced ones.
      const Reduction* of = s == 3 ? nullptr : model == &sliced ? &for_sliced : &reduction;
      batch.push_back({&states[s], texts[s], {.reduction = of, .record = &records[s]}});
    }
    Session session(*model, {.window = window, .progress = {}});
    const auto logits = session.feed(batch);
    const auto vocab = static_cast<std::size_t>(model_.vocab_size());
    for (std::size_t s = 0; s < texts.size(); ++s) {
      const Outcome wanted = s == 3 ? run(model_, texts[s], nullptr) : alone[s];
      EXPECT_LT(difference(wanted.logits, logits.subspan(s * vocab, vocab)), 1e-4) << s << " by " << window;
      EXPECT_LT(difference(wanted.state, states[s]), 1e-4) << s << " by " << window;
      if (s != 3) {
        EXPECT_EQ(records[s].full, wanted.record.full);
        EXPECT_EQ(records[s].writing, wanted.record.writing);
      }
    }
  }
}

TEST_P(Surrogate, AStateGoesOnBehindIt) {
  const Reduction reduction = parse(json::array({rule(6, {tier(0.5, "FWS")})}));
  const std::vector<TokenId> first = random_ids(model_, 50, 7);
  const std::vector<TokenId> second = random_ids(model_, 40, 8);
  Outcome turn = run(model_, first, &reduction);
  turn.state.save(folder_ / "state", first);
  State loaded = State::load(folder_ / "state", model_).state;
  Session session(model_);
  ReductionRecord record;
  const auto logits = session.feed(turn.state, second, {.reduction = &reduction, .record = &record});
  const std::vector<float> kept(logits.begin(), logits.end());
  EXPECT_GT(record.cut(), 0.2);
  const auto again = session.feed(loaded, second, {.reduction = &reduction});
  EXPECT_TRUE(std::equal(kept.begin(), kept.end(), again.begin()));
  EXPECT_TRUE(loaded == turn.state);
}

// ---- files of maps -----------------------------------------------------------------------------------------------

TEST_P(Surrogate, FilesOfMapsThatDoNotFitAreRefused) {
  const auto refusal = [&] {
    try {
      parse(json::array({rule(3, {tier(0.5, "FSW")})}), R"("maps": "maps.safetensors", )");
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  const std::string path = folder_ / "maps.safetensors";
  EXPECT_THAT(refusal(), HasSubstr(path));
  write_safetensors(path, {{"0.1.2.W.weight", Tensor::zeros(DType::f32, {1, 1})}});
  EXPECT_THAT(refusal(), AllOf(HasSubstr(path), HasSubstr("holds no write maps"), HasSubstr("molt tune")));
  testing_support::write_file(path, "no safetensors");
  EXPECT_THAT(refusal(), HasSubstr(path));

  const Model other = Model::load(fixture("tiny/mamba2-groups"), {.weights = WeightType::f32});
  WriteMaps::save(path, {}, *other.core());
  EXPECT_THAT(refusal(), AllOf(HasSubstr(path), HasSubstr("made for another model"), HasSubstr("molt tune"),
                               HasSubstr(other.core()->fingerprint()), HasSubstr(model_.core()->fingerprint())));

  const auto with = [&](const WriteMapTensors& map, WriteMapKey key = {0, 1, 2, 'W'}) {
    WriteMaps::save(path, {{key, map}}, *model_.core());
    return refusal();
  };
  const WriteMapTensors good = own_projection(2);
  EXPECT_EQ(with(good), "accepted");
  EXPECT_THAT(with(good, {0, 0, 2, 'W'}), AllOf(HasSubstr("holds no map 0.1.2.W"), HasSubstr("it has 0.0.2.W")));
  WriteMapTensors wrong = good;
  wrong.weight = Tensor::zeros(DType::f32, {3, 5});
  EXPECT_THAT(with(wrong), AllOf(HasSubstr(path + ": map 0.1.2.W: weight is f32 [3, 5], wanted ")));
  wrong = good;
  wrong.bias = Tensor::zeros(DType::f32, {3});
  EXPECT_THAT(with(wrong), HasSubstr("map 0.1.2.W: bias is f32 [3], wanted"));
  for (const std::vector<std::int64_t>& heads : {std::vector<std::int64_t>{1, 1}, {2, 1}, {-1}, {1000}}) {
    wrong = good;
    wrong.heads = heads;
    EXPECT_THAT(with(wrong), HasSubstr("map 0.1.2.W: its heads must ascend and lie below"));
  }
}

std::string case_name(const testing::TestParamInfo<std::string>& info) {
  std::string name = info.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Models, Surrogate, testing::Values("mamba1-tiny", "falcon-mamba-tiny", "mamba2-tiny"),
                         case_name);

}  // namespace
}  // namespace molt
