// Specs: what they become, and what is said about those that are wrong.
#include "reduction/spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/registry.h"
#include "molt/error.h"
#include "molt/reduction.h"
#include "reduction/core.h"
#include "tests/support/paths.h"
#include "tests/support/temp_folder.h"

namespace molt {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing_support::TempFolder;

/// A method of an outsider, with a key of every kind.
class Outsider final : public Reducer {
 public:
  std::vector<std::int64_t> sites() const override { return {1}; }
  Plan plan(const Site& /*site*/) const override { return {}; }
};

const MethodRegistration registration{
    "test-outsider",
    {.summary = "for this test",
     .uses_schedule = false,
     .options = {{.name = "tiers", .kind = OptionInfo::Kind::text, .default_value = "", .help = "anything"},
                 {.name = "maps", .kind = OptionInfo::Kind::path, .default_value = "", .help = "a file"},
                 flag_option("loud", true, "noise")},
     .make = [](const MethodInput&) -> std::shared_ptr<const Reducer> { return std::make_shared<Outsider>(); }}};

const MethodRegistration makes_nothing{"test-makes-nothing", {.summary = "for this test", .uses_schedule = false}};
const MethodRegistration makes_null{
    "test-makes-null", {.summary = "for this test", .uses_schedule = false, .make = [](const MethodInput&) {
                          return std::shared_ptr<const Reducer>();
                        }}};

class SpecTest : public testing::Test {
 protected:
  static const Model& model() {
    static const Model model = Model::load(testing_support::demo_model());
    return model;
  }

  static Reduction parse(const std::string& spec) { return Reduction::parse(model(), spec); }

  /// The message with which a spec is refused.
  static std::string refusal(const std::string& spec) {
    try {
      parse(spec);
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  }

  TempFolder folder_;
};

TEST_F(SpecTest, FillsInWhatIsNotSaid) {
  const Reduction reduction = parse("utr");
  EXPECT_EQ(reduction.method(), "utr");
  EXPECT_EQ(reduction.flops(), 0.3);
  EXPECT_EQ(reduction.scope(), Reduction::Scope::prompt);
  EXPECT_EQ(reduction.window(), 0);
  EXPECT_EQ(reduction.core().protect_first, 1);
  EXPECT_EQ(reduction.core().protect_last, 1);
  EXPECT_THAT(reduction.core().schedule.sites, ElementsAre(3, 4, 5, 6, 8, 9, 10));
  EXPECT_TRUE(reduction.belongs_to(model()));
  EXPECT_EQ(reduction.text(),
            R"({"method":"utr","flops":0.3,"ramp":"flat","sites":[3,4,5,6,8,9,10],"metric":"clip","feature":"y",)"
            R"("hidden":"hybrid","residual":"merge","q":0.5,"direction":"any","carry":"off","protect_first":1,)"
            R"("protect_last":1,"window":0,"scope":"prompt"})");
}

TEST_F(SpecTest, TakesEveryKey) {
  const Reduction reduction = parse(
      "oldest:flops=.1,ramp=low-to-high,sites=2+7,carry=on,protect_first=4,protect_last=9,window=512,scope=sequence");
  EXPECT_EQ(reduction.flops(), 0.1);
  EXPECT_EQ(reduction.scope(), Reduction::Scope::sequence);
  EXPECT_EQ(reduction.window(), 512);
  EXPECT_EQ(reduction.core().protect_first, 4);
  EXPECT_EQ(reduction.core().protect_last, 9);
  EXPECT_THAT(reduction.core().schedule.sites, ElementsAre(2, 7));
  EXPECT_GT(reduction.core().schedule.ratios[0], reduction.core().schedule.ratios[1]);
}

TEST_F(SpecTest, RatiosStandInPlaceOfACut) {
  const Reduction one = parse("stride:ratio=0.5,sites=3+7");
  EXPECT_THAT(one.core().schedule.ratios, ElementsAre(0.5, 0.5));
  EXPECT_DOUBLE_EQ(one.flops(), (4 * 0.5 + 8 * 0.75) / 16);
  EXPECT_THAT(parse("stride:ratio=0.9+0.25,sites=3+7").core().schedule.ratios, ElementsAre(0.9, 0.25));
  EXPECT_THAT(refusal("stride:ratio=0.9+0.8+0.7,sites=3+7"), HasSubstr("ratio has 3 numbers for 2 sites (3+7)"));
  EXPECT_THAT(refusal("stride:ratio=0.9,flops=0.1"), HasSubstr("flops cannot stand beside it"));
  EXPECT_THAT(refusal("stride:ramp=rising,ratio=0.9"), HasSubstr("ramp cannot stand beside it"));
}

TEST_F(SpecTest, ProtectsWhatTheMethodSays) {
  EXPECT_EQ(parse("utr-released").core().protect_first, 0);
  EXPECT_EQ(parse("utr-released:protect_first=3").core().protect_first, 3);
  EXPECT_THAT(refusal("utr:protect_first=0"), HasSubstr("protect_first is '0'; it must be an integer from 1 on"));
}

TEST_F(SpecTest, NoneAsksForNothing) {
  for (const std::string name : {"none", "dense"}) {
    EXPECT_EQ(parse(name).flops(), 0);
    EXPECT_THAT(parse(name).core().reducer->sites(), ElementsAre());
    EXPECT_THAT(refusal(name + ":flops=0.1"), HasSubstr("unknown key 'flops'; " + name + " has no keys"));
  }
}

TEST_F(SpecTest, ReadsFiles) {
  const std::string path = folder_.write("a.json", R"({"method": "utr", "flops": 0.1, "sites": [2, 5], "carry": true,
                                                      "metric": "l2", "q": 1, "window": 300.0, "scope": null})");
  EXPECT_EQ(parse(path).text(), parse("utr:flops=0.1,sites=2+5,carry=on,metric=l2,q=1,window=300").text());
}

TEST_F(SpecTest, TextReadsBackAsTheSame) {
  for (const std::string spec :
       {"utr:metric=signed,feature=r+h,q=0.25,direction=later", "utr-released:flops=0.123456789012345",
        "evit:fused=on,ramp=falling", "pumer:sites=1+2+3", "random:seed=17", "stride:ratio=0.9+0.8,sites=1+2", "oldest",
        "truncate:flops=0", "contrib:carry=off", "bypass:from=2,to=14,which=contribution",
        "ltmp:prune_below=1e-30,merge_above=0.9", "none", "test-outsider:tiers=x y,loud=off"}) {
    const Reduction reduction = parse(spec);
    EXPECT_EQ(parse(folder_.write("b.json", reduction.text())).text(), reduction.text()) << spec;
  }
}

TEST_F(SpecTest, FilesMayHoldNestedTextAndPathsBesideThem) {
  const std::string path = folder_.write(
      "c.json", R"({"method": "test-outsider", "tiers": [{"a": [1, 2]}, {}], "maps": "m.safetensors", "loud": false})");
  EXPECT_THAT(parse(path).text(), AllOf(HasSubstr(R"("tiers":[{"a":[1,2]},{}])"), HasSubstr(R"("loud":"off")"),
                                        HasSubstr("\"maps\":\"" + folder_ / "m.safetensors" + "\"")));
  const std::string absolute = folder_.write("d.json", R"({"method": "test-outsider", "maps": "/m.safetensors"})");
  EXPECT_THAT(parse(absolute).text(), HasSubstr(R"("maps":"/m.safetensors")"));
  EXPECT_THAT(parse("test-outsider:maps=m.safetensors").text(), HasSubstr(R"("maps":"m.safetensors")"));
}

TEST_F(SpecTest, NamesTheUnknownAndListsTheKnown) {
  EXPECT_THAT(refusal("utrr"), AllOf(HasSubstr("unknown method 'utrr' (did you mean 'utr'?); known: bypass, contrib"),
                                     HasSubstr("utr-released")));
  EXPECT_THAT(refusal(""), HasSubstr("unknown method ''; known: "));
  EXPECT_THAT(refusal("utr:flop=0.1"), AllOf(HasSubstr("'utr:flop=0.1'"),
                                             HasSubstr("unknown key 'flop' (did you mean 'flops'?); utr has flops, ")));
  EXPECT_THAT(refusal("truncate:sites=3"), HasSubstr("unknown key 'sites'; truncate has flops, "));
  EXPECT_THAT(refusal("utr:metric=l3"), HasSubstr("metric is 'l3'; it must be clip | l1 | l2 | signed (did you mean"));
}

TEST_F(SpecTest, RefusesWrongValues) {
  EXPECT_THAT(refusal("utr:q=2"), HasSubstr("q is '2'; it must be a number between 0 and 1"));
  for (const std::string value : {"", "x", "nan", "inf", "-0.1", "1.01", "0.1x", "0.1+0.2", "1e400", "0,1"}) {
    EXPECT_THAT(refusal("utr:flops=" + value), testing::AnyOf(HasSubstr("flops is '"), HasSubstr("key=value")))
        << value;
  }
  EXPECT_THAT(refusal("utr:sites=3+99"),
              HasSubstr("sites is '3+99'; it must be integers, written a+b+c, each between 0 and 14"));
  EXPECT_THAT(refusal("utr:sites=5+3"), HasSubstr("sites is 5+3; they must ascend"));
  EXPECT_THAT(refusal("utr:sites=3+3"), HasSubstr("they must ascend"));
  EXPECT_THAT(refusal("utr:sites=3.5"), HasSubstr("sites is '3.5'"));
  EXPECT_THAT(refusal("utr:window=-1"), HasSubstr("window is '-1'; it must be an integer from 0 on"));
  EXPECT_THAT(refusal("utr:window=99999999999999999999"), HasSubstr("window is '9"));
  EXPECT_THAT(refusal("utr:carry=yes"), HasSubstr("carry is 'yes'; it must be on | off"));
  EXPECT_THAT(refusal("utr:flops=0.9"), HasSubstr("can cut at most 0.75 of the FLOPs, not 0.9"));
}

TEST_F(SpecTest, RefusesWrongGrammar) {
  EXPECT_THAT(refusal("utr:"), HasSubstr("key=value is wanted in place of ''"));
  EXPECT_THAT(refusal("utr:q=0.5,"), HasSubstr("key=value is wanted in place of ''"));
  EXPECT_THAT(refusal("utr:carry"), HasSubstr("key=value is wanted in place of 'carry'"));
  EXPECT_THAT(refusal("utr:=3"), HasSubstr("key=value is wanted in place of '=3'"));
  EXPECT_THAT(refusal("utr:q=0.5,q=0.5"), HasSubstr("the key 'q' stands there twice"));
}

TEST_F(SpecTest, RefusesWrongFilesByName) {
  EXPECT_THAT(refusal(folder_ / "absent.json"), HasSubstr("absent.json"));
  const auto of_file = [&](const std::string& text) { return refusal(folder_.write("e.json", text)); };
  const std::string name = folder_ / "e.json";
  EXPECT_THAT(of_file(""), HasSubstr(name));
  EXPECT_THAT(of_file("[1]"), HasSubstr(name + ": an object"));
  EXPECT_THAT(of_file("{}"), HasSubstr(name + ": the key \"method\" is missing; known methods: bypass"));
  EXPECT_THAT(of_file(R"({"method": 3})"), HasSubstr(name + ": \"method\" must be a string"));
  EXPECT_THAT(of_file(R"({"method": "utrr"})"), HasSubstr(name + ": unknown method 'utrr' (did you mean"));
  EXPECT_THAT(of_file(R"({"method": "utr", "q": 7})"),
              HasSubstr(name + ": q is '7'; it must be a number between 0 and 1"));
  EXPECT_THAT(of_file(R"({"method": "utr", "q": {"a": 1}})"), HasSubstr(name + R"(: q is '{"a":1}')"));
  EXPECT_THAT(of_file(R"({"method": "utr", "q": NaN})"), HasSubstr(name));
  EXPECT_THAT(of_file(R"({"method": "utr", "q": 0.1, "q": 0.2})"), HasSubstr(name));
  EXPECT_THAT(of_file(R"({"method": "utr", "flops": 0.9})"), HasSubstr(name + ": reduction behind 7 blocks"));
}

TEST_F(SpecTest, MethodsRefuseWhatTheyCannotDo) {
  EXPECT_THAT(refusal("ltmp"), HasSubstr("molt tune --method ltmp"));
  EXPECT_THAT(refusal("ltmp:prune_below=0.1+0.2"), HasSubstr("prune_below has 2 numbers for 7 sites"));
  EXPECT_THAT(refusal("ltmp:prune_below=0.1,sites=99"),
              HasSubstr("the model has 16 blocks, none to stop behind at 99"));
  EXPECT_THAT(refusal("bypass:from=9,to=9"), HasSubstr("from is 9 and to is 9"));
  EXPECT_THAT(refusal("bypass:to=17"), HasSubstr("from is 3 and to is 17: of 16 blocks"));
  EXPECT_THAT(refusal("bypass:from=2,to=4"), HasSubstr("cuts at most 0.125 of the FLOPs, not 0.3"));
  EXPECT_THAT(refusal("bypass:from=0,which=contribution"), HasSubstr("from must be at least 1"));
}

TEST_F(SpecTest, CountsThatDependOnContentAreNotRehearsed) {
  try {
    parse("ltmp:prune_below=0.1").rehearse(100);
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("ltmp decides from what a prompt says"));
  }
}

TEST_F(SpecTest, MethodsThatMakeNoReducerAreBlamed) {
  EXPECT_THAT(refusal("test-makes-nothing"), HasSubstr("the method test-makes-nothing makes no reducer"));
  EXPECT_THAT(refusal("test-makes-null"), HasSubstr("the method test-makes-null makes no reducer"));
}

TEST_F(SpecTest, HelpNamesEveryMethodAndKey) {
  const std::string help = describe_reductions();
  for (const auto& [name, method] : Registry<MethodInfo>::instance().entries()) {
    EXPECT_THAT(help, AllOf(HasSubstr("  " + name + "  "), HasSubstr(method.summary)));
    for (const OptionInfo& key : keys_of(method, 16)) EXPECT_THAT(help, HasSubstr(" " + key.name + ": " + key.help));
  }
}

}  // namespace
}  // namespace molt
