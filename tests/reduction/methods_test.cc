// Each method against a plain transcription of its definition (docs/reduction.md), on made-up tokens of all kinds:
// many, few, all alike, full of ties, with NaN among them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "molt/error.h"
#include "reduction/core.h"
#include "reduction/schedule.h"
#include "tests/reduction/fake_site.h"
#include "tests/support/paths.h"

namespace molt {

std::ostream& operator<<(std::ostream& out, const Departure& d) {
  return out << d.token << ">" << d.hidden_into << "|" << d.residual_into;
}
static bool operator==(const Departure& a, const Departure& b) {
  return a.token == b.token && a.hidden_into == b.hidden_into && a.residual_into == b.residual_into &&
         a.course == b.course;
}

namespace {

using testing_support::FakeSite;
using Tokens = std::vector<std::int64_t>;

constexpr std::int64_t kNone = Departure::kPruned;

std::shared_ptr<const Reducer> reducer(const std::string& spec) {
  static const Model model = Model::load(testing_support::demo_model());  // 16 blocks
  return Reduction::parse(model, spec).core().reducer;
}

/// What a random site is like, for messages.
struct Kind {
  std::int64_t tokens;
  std::int64_t removals;
  int levels;
  bool nan;
  std::uint64_t seed;
  friend std::ostream& operator<<(std::ostream& out, const Kind& k) {
    return out << k.tokens << " tokens, remove " << k.removals << ", levels " << k.levels << (k.nan ? ", NaN" : "")
               << ", seed " << k.seed;
  }
};

FakeSite make(const Kind& kind) {
  FakeSite site(kind.tokens, kind.removals, kind.seed, kind.levels);
  Random random(kind.seed + 1);
  for (std::size_t t = 0; t < site.y.size(); ++t) {
    if (random.uniform() < 0.1) site.protection[t] = 1;  // what protect_first and the like may add
    if (kind.nan && random.uniform() < 0.3) {
      site.y[t].front() = site.h[t].front() = site.shares[t] = std::numeric_limits<float>::quiet_NaN();
    }
  }
  const auto free = std::count(site.protection.begin(), site.protection.end(), 0);
  site.removals = std::clamp<std::int64_t>(std::min(kind.removals, kind.tokens - 2), 0, free);
  return site;
}

/// Shows every kind of site to `check`.
template <class Check>
void for_all_sites(Check check) {
  std::uint64_t seed = 100;
  for (std::int64_t tokens = 1; tokens < 45; tokens += tokens < 8 ? 1 : 9) {
    for (const std::int64_t removals : {std::int64_t{0}, std::int64_t{1}, tokens / 5, tokens / 2, tokens}) {
      for (const int levels : {0, 1, 3}) {
        for (const bool nan : {false, true}) {
          const Kind kind{tokens, removals, levels, nan, ++seed};
          SCOPED_TRACE(testing::PrintToString(kind));
          check(make(kind));
          if (testing::Test::HasFailure()) return;
        }
      }
    }
  }
  FakeSite alike(20, 7, 1, 3);
  for (std::size_t t = 0; t < alike.y.size(); ++t) {
    alike.y[t] = alike.y[0];
    alike.h[t] = alike.h[0];
    alike.r[t] = alike.r[0];
    alike.shares[t] = 0.05F;
  }
  SCOPED_TRACE("all alike");
  check(alike);
}

/// The definition of an ordering: equal scores, lower token first; NaN least.
Tokens in_order(const Tokens& tokens, const std::vector<float>& scores) {
  Tokens order = tokens;
  std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
    const auto key = [&](std::int64_t t) {
      const float score = scores[static_cast<std::size_t>(t)];
      return std::isnan(score) ? -std::numeric_limits<float>::infinity() : score;
    };
    return key(a) < key(b);
  });
  return order;
}

Tokens free_tokens(const FakeSite& site) {
  Tokens tokens;
  for (std::int64_t t = 0; t < site.tokens(); ++t) {
    if (site.protection[static_cast<std::size_t>(t)] == 0) tokens.push_back(t);
  }
  return tokens;
}

std::vector<Departure> pruned(Tokens tokens) {
  std::sort(tokens.begin(), tokens.end());
  std::vector<Departure> departures;
  for (const std::int64_t token : tokens) departures.push_back({.token = token});
  return departures;
}

Tokens first_of(Tokens tokens, std::int64_t count) {
  tokens.resize(std::min(tokens.size(), static_cast<std::size_t>(count)));
  return tokens;
}

struct Edge {
  std::int64_t a, f;
  float g;
};

/// The best edges from `a` into `b`, as many as `count`, most similar first.
std::vector<Edge> best_edges(const FakeSite& site, Feature feature, const Tokens& a, const Tokens& b, bool later,
                             std::int64_t count) {
  std::vector<Edge> edges;
  for (const std::int64_t source : a) {
    Edge edge{source, kNone, -std::numeric_limits<float>::infinity()};
    for (const std::int64_t target : b) {
      if (later && target < source) continue;
      const float similarity = site.cosine(feature, source, target);
      if (edge.f == kNone || similarity > edge.g) edge = {source, target, similarity};
    }
    edges.push_back(edge);
  }
  std::stable_sort(edges.begin(), edges.end(), [](const Edge& x, const Edge& y) {
    if ((x.f == kNone) != (y.f == kNone)) return y.f == kNone;
    return x.g > y.g;
  });
  if (static_cast<std::int64_t>(edges.size()) > count) edges.resize(static_cast<std::size_t>(count));
  return edges;
}

std::vector<Departure> by_token(std::vector<Departure> departures) {
  std::sort(departures.begin(), departures.end(), [](const auto& a, const auto& b) { return a.token < b.token; });
  return departures;
}

/// What every plan must be like, whatever the method.
void expect_lawful(const FakeSite& site, const Plan& plan) {
  std::set<std::int64_t> leaving;
  for (const Departure& departure : plan.departures) {
    ASSERT_TRUE(leaving.empty() || departure.token > *leaving.rbegin());
    ASSERT_GE(departure.token, 0);
    ASSERT_LT(departure.token, site.tokens());
    EXPECT_EQ(site.protection[static_cast<std::size_t>(departure.token)], 0);
    ASSERT_LT(departure.course, plan.courses.size());
    leaving.insert(departure.token);
  }
  for (const Departure& departure : plan.departures) {
    for (const std::int64_t target : {departure.hidden_into, departure.residual_into}) {
      if (target == kNone) continue;
      ASSERT_GE(target, 0);
      ASSERT_LT(target, site.tokens());
      EXPECT_FALSE(leaving.contains(target));
    }
  }
  EXPECT_GE(site.tokens() - static_cast<std::int64_t>(leaving.size()), std::min<std::int64_t>(site.tokens(), 2));
}

struct UtrCase {
  std::string options;
  Importance metric = Importance::clip;
  Feature feature = Feature::scan_output;
  std::string hidden = "hybrid";
  std::string residual = "merge";
  double q = 0.5;
  bool later = false;
};

std::vector<Departure> utr(const FakeSite& site, const UtrCase& c) {
  const std::int64_t count = site.removals;
  const Tokens a_in_order =
      first_of(in_order(free_tokens(site), site.importance(c.metric)), std::max(site.tokens() / 2, count));
  const std::set<std::int64_t> a(a_in_order.begin(), a_in_order.end());
  Tokens b;
  for (std::int64_t t = 0; t < site.tokens(); ++t) {
    if (!a.contains(t)) b.push_back(t);
  }
  const std::vector<Edge> edges = best_edges(site, c.feature, Tokens(a.begin(), a.end()), b, c.later, count);
  const auto merged =
      static_cast<std::int64_t>(edges.size()) - static_cast<std::int64_t>(c.q * static_cast<double>(edges.size()));
  std::vector<Departure> departures;
  for (std::int64_t i = 0; i < static_cast<std::int64_t>(edges.size()); ++i) {
    const Edge& edge = edges[static_cast<std::size_t>(i)];
    const auto on = [&](const std::string& branch) {
      return branch == "merge" || (branch == "hybrid" && i < merged) ? edge.f : kNone;
    };
    departures.push_back({.token = edge.a, .hidden_into = on(c.hidden), .residual_into = on(c.residual)});
  }
  return by_token(departures);
}

TEST(Methods, Utr) {
  const std::vector<UtrCase> cases{
      {.options = ""},
      {.options = ":metric=l1", .metric = Importance::l1},
      {.options = ":metric=l2,q=0.25", .metric = Importance::l2, .q = 0.25},
      {.options = ":metric=signed,direction=later", .metric = Importance::signed_mean, .later = true},
      {.options = ":feature=h,hidden=merge", .feature = Feature::block_output, .hidden = "merge"},
      {.options = ":feature=r+h,hidden=prune", .feature = Feature::stream, .hidden = "prune"},
      {.options = ":residual=prune,q=1", .residual = "prune", .q = 1},
      {.options = ":residual=hybrid,q=0", .residual = "hybrid", .q = 0},
  };
  for (const UtrCase& c : cases) {
    const auto method = reducer("utr" + c.options);
    for_all_sites([&](const FakeSite& site) {
      const Plan plan = method->plan(site);
      expect_lawful(site, plan);
      EXPECT_EQ(static_cast<std::int64_t>(plan.departures.size()), site.removals);
      EXPECT_EQ(plan.departures, utr(site, c)) << c.options;
    });
  }
}

TEST(Methods, UtrLaterMergesIntoLaterTokensOnly) {
  const auto method = reducer("utr:direction=later,hidden=merge");
  for_all_sites([&](const FakeSite& site) {
    for (const Departure& departure : method->plan(site).departures) {
      EXPECT_GT(departure.hidden_into, departure.token);
      EXPECT_GT(departure.residual_into, departure.token);
    }
  });
}

TEST(Methods, UtrReleased) {
  const auto method = reducer("utr-released");
  for_all_sites([&](const FakeSite& given) {
    FakeSite site = given;
    std::fill(site.protection.begin(), site.protection.end(), 0);
    site.protection.back() = 1;
    const Plan plan = method->plan(site);
    expect_lawful(site, plan);
    std::vector<Departure> expected;
    for (std::int64_t t = 0; t < site.tokens() - 1 && static_cast<std::int64_t>(expected.size()) < site.removals;
         t += 2) {
      expected.push_back({.token = t, .hidden_into = 1, .residual_into = 1});
    }
    EXPECT_EQ(plan.departures, expected);
    expect_lawful(given, method->plan(given));
  });
}

TEST(Methods, Evit) {
  const auto plain = reducer("evit");
  const auto fused = reducer("evit:fused=on");
  for_all_sites([&](const FakeSite& site) {
    const std::vector<float> importance = site.importance(Importance::clip);
    const Tokens order = in_order(free_tokens(site), importance);
    std::vector<Departure> expected = pruned(first_of(order, site.removals));
    EXPECT_EQ(plain->plan(site).departures, expected);
    EXPECT_TRUE(plain->plan(site).weights.empty());

    const Plan plan = fused->plan(site);
    expect_lawful(site, plan);
    if (expected.size() < order.size()) {
      for (Departure& departure : expected) departure.hidden_into = departure.residual_into = order[expected.size()];
      if (!expected.empty()) {
        EXPECT_THAT(plan.weights, testing::Pointwise(testing::NanSensitiveFloatEq(), importance));
      }
    }
    EXPECT_EQ(plan.departures, expected);
  });
}

TEST(Methods, Pumer) {
  const auto method = reducer("pumer");
  for_all_sites([&](const FakeSite& site) {
    Tokens a;
    Tokens b;
    for (std::int64_t t = 0; t < site.tokens(); ++t) {
      if (t % 2 == 1) b.push_back(t);
      if (t % 2 == 0 && site.protection[static_cast<std::size_t>(t)] == 0) a.push_back(t);
    }
    std::vector<Departure> expected;
    for (const Edge& edge : best_edges(site, Feature::scan_output, a, b, false, site.removals)) {
      expected.push_back({.token = edge.a, .hidden_into = edge.f, .residual_into = edge.f});
    }
    const Plan plan = method->plan(site);
    expect_lawful(site, plan);
    EXPECT_EQ(plan.departures, by_token(expected));
  });
}

TEST(Methods, Ltmp) {
  const auto method = reducer("ltmp:sites=1+3,prune_below=0.9+0.21,merge_above=0.99+0.4");
  EXPECT_THAT(method->sites(), testing::ElementsAre(1, 3));
  for_all_sites([&](const FakeSite& site) {  // behind block 3
    const std::vector<float> importance = site.importance(Importance::clip);
    Tokens unimportant;
    for (const std::int64_t t : in_order(free_tokens(site), importance)) {
      if (importance[static_cast<std::size_t>(t)] < 0.21F) unimportant.push_back(t);
    }
    unimportant = first_of(unimportant, std::max<std::int64_t>(0, site.tokens() - 2));
    std::vector<Departure> expected = pruned(unimportant);
    Tokens a;
    Tokens b;
    std::int64_t index = 0;
    for (std::int64_t t = 0; t < site.tokens(); ++t) {
      if (std::count(unimportant.begin(), unimportant.end(), t) > 0) continue;
      if (index % 2 == 1) b.push_back(t);
      if (index % 2 == 0 && site.protection[static_cast<std::size_t>(t)] == 0) a.push_back(t);
      ++index;
    }
    const auto room = std::max<std::int64_t>(0, site.tokens() - 2 - static_cast<std::int64_t>(unimportant.size()));
    for (const Edge& edge : best_edges(site, Feature::scan_output, a, b, false, room)) {
      if (edge.g > 0.4F) expected.push_back({.token = edge.a, .hidden_into = edge.f, .residual_into = edge.f});
    }
    const Plan plan = method->plan(site);
    expect_lawful(site, plan);
    EXPECT_EQ(plan.departures, by_token(expected));
  });
}

TEST(Methods, LtmpWithoutAThresholdDoesWithoutIt) {
  FakeSite site(30, 0, 5, 0);
  const auto merged = [](const Departure& d) { return d.hidden_into != kNone; };
  const Plan only_prunes = reducer("ltmp:prune_below=0.2")->plan(site);
  EXPECT_EQ(std::count_if(only_prunes.departures.begin(), only_prunes.departures.end(), merged), 0);
  EXPECT_FALSE(only_prunes.departures.empty());
  const Plan only_merges = reducer("ltmp:merge_above=0.2")->plan(site);
  EXPECT_EQ(std::count_if(only_merges.departures.begin(), only_merges.departures.end(), merged),
            static_cast<std::ptrdiff_t>(only_merges.departures.size()));
  EXPECT_FALSE(only_merges.departures.empty());
}

TEST(Methods, Contrib) {
  const auto method = reducer("contrib");
  for_all_sites([&](const FakeSite& site) {
    const Plan plan = method->plan(site);
    EXPECT_EQ(plan.departures, pruned(first_of(in_order(free_tokens(site), site.shares), site.removals)));
    EXPECT_EQ(plan.carry, site.removals > 0);
  });
}

TEST(Methods, Random) {
  const auto method = reducer("random:seed=1");
  const auto other = reducer("random:seed=2");
  bool differs = false;
  for_all_sites([&](const FakeSite& site) {
    const Plan plan = method->plan(site);
    expect_lawful(site, plan);
    EXPECT_EQ(static_cast<std::int64_t>(plan.departures.size()), site.removals);
    FakeSite others = site;  // the same places, other tokens
    others.y.assign(site.y.size(), {1, 2, 3});
    EXPECT_EQ(method->plan(others).departures, plan.departures);
    differs = differs || !(other->plan(site).departures == plan.departures);
  });
  EXPECT_TRUE(differs);
}

TEST(Methods, RandomIsUniform) {
  std::vector<int> gone(100, 0);
  for (int seed = 0; seed < 400; ++seed) {
    const FakeSite site(100, 49, 1, 0);
    for (const Departure& d : reducer("random:seed=" + std::to_string(seed))->plan(site).departures) {
      ++gone[static_cast<std::size_t>(d.token)];
    }
  }
  for (std::size_t t = 1; t < 99; ++t) EXPECT_NEAR(gone[t], 200, 60) << t;  // 6 standard deviations
}

TEST(Methods, Stride) {
  const auto method = reducer("stride");
  for_all_sites([&](const FakeSite& site) {
    const Plan plan = method->plan(site);
    expect_lawful(site, plan);
    ASSERT_EQ(static_cast<std::int64_t>(plan.departures.size()), site.removals);
    // Gaps between neighbours, counted in tokens that may go, differ by one at most.
    const Tokens free = free_tokens(site);
    Tokens gaps;
    for (std::size_t i = 1; i < plan.departures.size(); ++i) {
      const auto at = [&](std::int64_t t) { return std::find(free.begin(), free.end(), t) - free.begin(); };
      gaps.push_back(at(plan.departures[i].token) - at(plan.departures[i - 1].token));
    }
    if (!gaps.empty()) {
      const auto [least, most] = std::minmax_element(gaps.begin(), gaps.end());
      EXPECT_LE(*most - *least, 1);
    }
  });
  const FakeSite site(12, 2, 1, 0);  // 1 .. 10 may go: the middles of 1 .. 5 and 6 .. 10
  EXPECT_EQ(method->plan(site).departures, pruned({3, 8}));
}

TEST(Methods, OldestOfOneWindow) {
  const auto method = reducer("oldest:ratio=0.7,sites=3");
  for (std::int64_t tokens = 1; tokens < 40; ++tokens) {
    FakeSite site(tokens, 0, 1, 0);
    const std::int64_t kept = std::min(
        tokens, std::max<std::int64_t>(2, static_cast<std::int64_t>(std::ceil(static_cast<double>(tokens) * 0.7))));
    EXPECT_EQ(method->plan(site).departures, pruned(first_of(free_tokens(site), tokens - kept))) << tokens;
  }
}

/// Positions that are left of a prompt that goes through sites 0 and 1 in windows.
Tokens left_by(const Reducer& method, std::int64_t length, std::int64_t window,
               const std::vector<std::int64_t>& sites) {
  Tokens left;
  for (std::int64_t begin = 0; begin < length; begin += window) {
    Tokens positions;
    for (std::int64_t p = begin; p < std::min(length, begin + window); ++p) positions.push_back(p);
    for (const std::int64_t layer : sites) {
      class Window final : public Site {
       public:
        Window(Tokens positions, Place place, std::int64_t layer)
            : positions_(std::move(positions)), place_(place), layer_(layer) {
          for (const std::int64_t p : positions_) {
            protection_.push_back(static_cast<std::uint8_t>(p == 0 || p == *place.length - 1));
          }
        }
        std::int64_t layer() const override { return layer_; }
        const Place& place() const override { return place_; }
        std::span<const std::int64_t> positions() const override { return positions_; }
        std::span<const std::uint8_t> is_protected() const override { return protection_; }
        std::int64_t to_remove() const override { return 0; }
        std::vector<float> importance(Importance) const override { return {}; }
        std::vector<Match> match(Feature, std::span<const std::int64_t>, std::span<const std::int64_t>,
                                 bool) const override {
          return {};
        }
        std::vector<float> contribution() const override { return {}; }
        std::vector<float> features(Feature) const override { return {}; }

       private:
        Tokens positions_;
        Place place_;
        std::int64_t layer_;
        std::vector<std::uint8_t> protection_;
      };
      const Place place{.begin = begin, .tokens = std::min(window, length - begin), .length = length};
      Tokens next;
      const Plan plan = method.plan(Window(positions, place, layer));
      for (std::size_t t = 0; t < positions.size(); ++t) {
        const auto is_it = [&](const Departure& d) { return d.token == static_cast<std::int64_t>(t); };
        if (std::none_of(plan.departures.begin(), plan.departures.end(), is_it)) next.push_back(positions[t]);
      }
      positions = next;
    }
    left.insert(left.end(), positions.begin(), positions.end());
  }
  return left;
}

TEST(Methods, TheOldestOfAPromptDoNotDependOnWindows) {
  const std::vector<std::pair<std::string, std::vector<std::int64_t>>> cases{
      {"oldest:ratio=0.8+0.7,sites=3+5", {3, 5}}, {"truncate:flops=0.6", {-1}}, {"bypass:from=2,to=14,flops=0.5", {1}}};
  for (const auto& [spec, sites] : cases) {
    const auto method = reducer(spec);
    ASSERT_EQ(method->sites(), sites);
    for (const std::int64_t length : {1, 2, 3, 5, 31, 64, 100}) {
      const Tokens whole = left_by(*method, length, length, sites);
      for (const std::int64_t window : {1, 2, 7, 16, 50, 99}) {
        EXPECT_EQ(left_by(*method, length, window, sites), whole) << spec << ", " << length << " by " << window;
      }
    }
  }
}

TEST(Methods, TheOldestOfAWindowWhereTheLengthIsUnknown) {
  FakeSite site(20, 6, 1, 0);
  site.put_at(40, -1);
  EXPECT_EQ(reducer("oldest")->plan(site).departures, pruned({0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(reducer("truncate:flops=0.1")->plan(site).departures, pruned({0, 1}));
  const Plan plan = reducer("bypass:from=2,to=12,flops=0.25")->plan(site);  // 20 * 0.25 * 16 / 10
  ASSERT_EQ(plan.departures.size(), 8U);
  EXPECT_EQ(plan.departures.back().token, 7);
}

TEST(Methods, Truncate) {
  for (std::int64_t tokens = 1; tokens < 60; ++tokens) {
    for (const double flops : {0.0, 0.1, 0.3, 0.5, 1.0}) {
      const FakeSite site(tokens, 0, 1, 0);
      const Plan plan = reducer("truncate:flops=" + std::to_string(flops))->plan(site);
      expect_lawful(site, plan);
      const auto dropped = static_cast<std::int64_t>(plan.departures.size());
      EXPECT_EQ(plan.departures, pruned(first_of(free_tokens(site), dropped)));
      const double share = static_cast<double>(dropped) / static_cast<double>(tokens);
      // The cut is met, by no more than a token.
      if (tokens - dropped > 2) {
        EXPECT_GE(share, flops - 1e-9);
      }
      if (dropped > 0) {
        EXPECT_LT(share - 1.0 / static_cast<double>(tokens), flops);
      }
    }
  }
}

TEST(Methods, Bypass) {
  const FakeSite site(300, 0, 1, 0);
  const Plan plan = reducer("bypass:from=2,to=14,flops=0.2")->plan(site);
  ASSERT_EQ(plan.departures.size(), 80U);  // floor(300 * 0.2 * 16 / 12)
  EXPECT_EQ(plan.departures.front().token, 1);
  EXPECT_EQ(plan.departures.back().token, 80);
  ASSERT_EQ(plan.courses.size(), 1U);
  EXPECT_EQ(plan.courses.front().return_at, 14);
  EXPECT_TRUE(plan.courses.front().writes.empty());
  EXPECT_TRUE(plan.carry);
  EXPECT_THAT(reducer("bypass")->sites(), testing::ElementsAre(2));  // from a sixth of the model on
  EXPECT_EQ(reducer("bypass:flops=0.1")->plan(site).courses.front().return_at, 13);
  EXPECT_THAT(reducer("bypass:from=0,flops=0.1")->sites(), testing::ElementsAre(-1));
}

TEST(Methods, BypassOfTheLeastContributing) {
  const auto method = reducer("bypass:from=2,to=14,flops=0.5,which=contribution");
  for_all_sites([&](const FakeSite& site) {
    const auto share = static_cast<double>(site.tokens()) * 0.5 * 16 / 12;
    const auto count = std::max<std::int64_t>(0, std::min(site.tokens() - 2, static_cast<std::int64_t>(share + 1e-9)));
    const Plan plan = method->plan(site);
    EXPECT_EQ(plan.departures, pruned(first_of(in_order(free_tokens(site), site.shares), count)));
  });
}

TEST(Methods, CarryIsAsTheSpecSays) {
  const FakeSite site(40, 8, 1, 0);
  for (const std::string method : {"utr", "utr-released", "evit", "pumer", "random", "stride", "oldest", "truncate"}) {
    EXPECT_FALSE(reducer(method)->plan(site).carry) << method;
    EXPECT_TRUE(reducer(method + ":carry=on")->plan(site).carry) << method;
  }
  for (const std::string method : {"contrib", "bypass"}) {
    EXPECT_TRUE(reducer(method)->plan(site).carry) << method;
    EXPECT_FALSE(reducer(method + ":carry=off")->plan(site).carry) << method;
  }
}

TEST(Methods, ACutOfNothingMeasuresNothing) {
  class Unmeasured final : public Site {
   public:
    explicit Unmeasured(const FakeSite& site) : site_(site) {}
    std::int64_t layer() const override { return site_.layer(); }
    const Place& place() const override { return site_.place(); }
    std::span<const std::int64_t> positions() const override { return site_.positions(); }
    std::span<const std::uint8_t> is_protected() const override { return site_.is_protected(); }
    std::int64_t to_remove() const override { return 0; }
    std::vector<float> importance(Importance) const override { throw Error("measured"); }
    std::vector<Match> match(Feature, std::span<const std::int64_t>, std::span<const std::int64_t>,
                             bool) const override {
      throw Error("measured");
    }
    std::vector<float> contribution() const override { throw Error("measured"); }
    std::vector<float> features(Feature) const override { throw Error("measured"); }

   private:
    const FakeSite& site_;
  };
  const FakeSite site(40, 0, 1, 0);
  for (const std::string method : {"utr", "utr-released", "evit", "pumer", "random", "stride", "oldest", "truncate",
                                   "contrib", "bypass", "bypass:which=contribution"}) {
    const std::string spec = method + (method.find(':') == std::string::npos ? ":flops=0" : ",flops=0");
    EXPECT_TRUE(reducer(spec)->plan(Unmeasured(site)).departures.empty()) << spec;
  }
}

}  // namespace
}  // namespace molt
