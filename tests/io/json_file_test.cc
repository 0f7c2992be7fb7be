#include "io/json_file.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>
#include <limits>

#include "tests/io/test_files.h"

namespace molt {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

Json parse(std::string_view text) {
  return parse_json(text, "file.json");
}

TEST(JsonFile, ReadsPlainJson) {
  const Json value = parse(R"({"a": [1, -2, 2.5, true, null, "x\"y"], "b": {}})");
  EXPECT_EQ(value, Json::parse(R"({"a": [1, -2, 2.5, true, null, "x\"y"], "b": {}})"));
}

TEST(JsonFile, UnderstandsBothSpellingsOfNonFiniteNumbers) {
  const Json old_style = parse(R"({"time_step_limit": [0.0, Infinity], "low": -Infinity, "odd": NaN})");
  EXPECT_EQ(number_of(old_style["time_step_limit"][1]), kInfinity);
  EXPECT_EQ(number_of(old_style["low"]), -kInfinity);
  EXPECT_TRUE(std::isnan(number_of(old_style["odd"]).value()));
  const Json new_style = parse(R"({"limit": {"__float__": "Infinity"}, "low": {"__float__": "-Infinity"}})");
  EXPECT_EQ(number_of(new_style["limit"]), kInfinity);
  EXPECT_EQ(number_of(new_style["low"]), -kInfinity);
  EXPECT_EQ(number_of(parse("Infinity")), kInfinity);
}

TEST(JsonFile, LeavesNonFiniteWordsInStringsAlone) {
  const Json value = parse(R"({"NaN": "to Infinity, \"-Infinity\" \\", "x": Infinity})");
  EXPECT_EQ(value["NaN"], "to Infinity, \"-Infinity\" \\");
  EXPECT_EQ(number_of(value["x"]), kInfinity);
}

TEST(JsonFile, RefusesNonFiniteWordsElsewhere) {
  for (const char* text : {"Infinityx", "-NaN", "1Infinity", "{Infinity: 1}", "infinity", "+Infinity", "[NaN NaN]"}) {
    EXPECT_THROW(parse(text), Error) << text;
  }
  EXPECT_THROW(parse_json("Infinity", "f", {.non_finite = false}), Error);
}

TEST(JsonFile, NamesFileLineAndColumn) {
  EXPECT_ERROR(parse("{\n  \"a\": 1,\n  \"b\": oops\n}"), "file.json: not valid JSON at line 3, column 8: ");
  // The place is one of the original text, whatever stands for Infinity inside.
  EXPECT_ERROR(parse("{\"a\": Infinity, \"b\": oops}"), "line 1, column 22");
  EXPECT_ERROR(parse(""), "line 1, column 1");
  EXPECT_ERROR(parse("{\"a\": 1"), "line 1, column 7");
  EXPECT_ERROR(parse("{} {}"), "line 1, column 4");
  EXPECT_ERROR(parse("[1e999]"), "number overflow");
  EXPECT_ERROR(parse("\"\xff\""), "UTF-8");
}

TEST(JsonFile, LimitsNesting) {
  const auto nested = [](std::size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  EXPECT_NO_THROW(parse(nested(100)));
  EXPECT_ERROR(parse(nested(101)), "more than 100 deep");
  EXPECT_ERROR(parse(nested(10'000'000)), "more than 100 deep");
  std::string objects;
  for (int i = 0; i < 1'000'000; ++i) objects += R"({"a":)";
  EXPECT_ERROR(parse(objects), "more than 100 deep");
}

TEST(JsonFile, RepeatedKeysCountLastOrAreRefused) {
  EXPECT_EQ(parse(R"({"a": {"x": 1}, "a": 2})"), Json::parse(R"({"a": 2})"));
  EXPECT_ERROR(parse_json(R"({"a": 1, "a": 2})", "f", {.duplicate_keys = false}), "`a` stands twice");
}

TEST(JsonFile, GetsTypedMembers) {
  const Json config = parse(R"({"n": 3, "f": 3.0, "half": 0.5, "big": 1e300, "huge": 18446744073709551615, "b": true,
                               "s": "text", "nothing": null, "inf": Infinity, "list": [1]})");
  EXPECT_EQ(get_int(config, "n", required, "c"), 3);
  EXPECT_EQ(get_int(config, "f", required, "c"), 3);
  EXPECT_EQ(get_int(config, "absent", 7, "c"), 7);
  EXPECT_EQ(get_int(config, "nothing", 7, "c"), 7);
  EXPECT_EQ(get_double(config, "n", required, "c"), 3.0);
  EXPECT_EQ(get_double(config, "inf", required, "c"), kInfinity);
  EXPECT_EQ(get_double(config, "absent", 0.25, "c"), 0.25);
  EXPECT_TRUE(get_bool(config, "b", required, "c"));
  EXPECT_TRUE(get_bool(config, "absent", true, "c"));
  EXPECT_EQ(get_string(config, "s", required, "c"), "text");
  EXPECT_EQ(get_string(config, "absent", "other", "c"), "other");
}

TEST(JsonFile, TypedMembersNameWhatIsWrong) {
  const Json config = parse(R"({"n": 3, "half": 0.5, "big": 1e300, "huge": 18446744073709551615, "s": "text",
                               "nothing": null, "list": [1], "inf": Infinity})");
  EXPECT_ERROR(get_int(config, "half", required, "dir/config.json"),
               "dir/config.json: \"half\" must be an integer, not 0.5");
  EXPECT_ERROR(get_int(config, "big", required, "c"), "must be an integer, not 1e+300");
  EXPECT_ERROR(get_int(config, "huge", required, "c"), "not 18446744073709551615");
  EXPECT_ERROR(get_int(config, "inf", required, "c"), "not Infinity");
  EXPECT_ERROR(get_int(config, "s", 1, "c"), "not the string `text`");
  EXPECT_ERROR(get_int(config, "absent", required, "c"), "the key \"absent\" (an integer) is missing");
  EXPECT_ERROR(get_int(config, "nothing", required, "c"), "missing");
  EXPECT_ERROR(get_int(config, "n", required, "c", {.low = 4, .high = 9}), "\"n\" is 3; it must lie between 4 and 9");
  EXPECT_NO_THROW(get_int(config, "absent", 0, "c", {.low = 4, .high = 9}));
  EXPECT_ERROR(get_double(config, "list", required, "c"), "must be a number, not an array of 1");
  EXPECT_ERROR(get_bool(config, "n", required, "c"), "must be true or false, not 3");
  EXPECT_ERROR(get_string(config, "n", required, "c"), "must be a string, not 3");
  EXPECT_ERROR(get_int(parse("[]"), "n", required, "c"),
               "c: an object with the key \"n\" is wanted, not an array of 0");
}

TEST(JsonFile, IntegersAtTheEdge) {
  EXPECT_EQ(integer_of(parse("9223372036854775807")), std::numeric_limits<std::int64_t>::max());
  EXPECT_EQ(integer_of(parse("-9223372036854775808")), std::numeric_limits<std::int64_t>::min());
  EXPECT_EQ(integer_of(parse("9223372036854775808")), std::nullopt);
  EXPECT_EQ(integer_of(parse("9.223372036854775808e18")), std::nullopt);
  EXPECT_EQ(integer_of(parse("-9.223372036854775808e18")), std::numeric_limits<std::int64_t>::min());
}

TEST(JsonFile, ReadsTheConfigurationsOfTheFixtures) {
  EXPECT_EQ(get_string(read_json_file(kTiny + "mamba2-tiny/config.json"), "model_type", required, "c"), "mamba2");
  EXPECT_EQ(get_int(read_json_file(kTiny + "mamba1-tiny-mamba_ssm/config.json"), "d_model", required, "c"), 64);
  EXPECT_ERROR(read_json_file(kTiny + "absent.json"), "absent.json: cannot open");
}

RC_GTEST_PROP(JsonFileProperty, AgreesWithTheLibraryOnMutatedText, ()) {
  std::string text = R"({"a": [1, -2.5e3, "Inf\u00e4\"", true], "b": {"c": null, "d": [[], {}]}})";
  const auto edits = *rc::gen::inRange(0, 4);
  for (int i = 0; i < edits; ++i) {
    text[*rc::gen::inRange<std::size_t>(0, text.size())] = *rc::gen::elementOf(std::string("{}[]\",:0e\\x "));
  }
  const Json expected = Json::parse(text, nullptr, false);
  try {
    RC_ASSERT(parse(text) == expected);
  } catch (const Error&) {
    RC_ASSERT(expected.is_discarded());
  }
}

}  // namespace
}  // namespace molt
