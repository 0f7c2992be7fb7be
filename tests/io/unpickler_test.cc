#include "io/unpickler.h"

#include <gtest/gtest.h>

#include "tests/io/torch_files.h"

namespace molt {
namespace {

using Kind = PickleNode::Kind;
using std::string_literals::operator""s;

PickleGraph run(const std::string& pickle) {
  const ExactBytes exact(pickle);
  return unpickle(exact.bytes(), {"torch.FloatStorage", "torch._utils._rebuild_tensor_v2"}, "m.bin, data.pkl");
}

const PickleNode& root(const PickleGraph& graph) {
  return graph[graph.root];
}

TEST(Unpickler, ReadsWhatPythonWrites) {
  // pickle.dumps({"a": (1, -2, 300, 70000, 2**40, -2**40), "b": [1.5, None, True, "xy"], "e": {}}, protocol) of Python.
  const std::string two =
      "\x80\x02}q\x00(X\x01\x00\x00\x00"s
      "aq\x01(K\x01J\xfe\xff\xff\xffM,\x01Jp\x11\x01\x00\x8a\x06\x00\x00\x00\x00\x00\x01\x8a\x06\x00\x00\x00\x00\x00\xfftq"s
      "\x02X\x01\x00\x00\x00"s
      "bq\x03]q\x04(G?\xf8\x00\x00\x00\x00\x00\x00N\x88X\x02\x00\x00\x00xyq\x05"s
      "eX\x01\x00\x00\x00"s
      "eq\x06}q\x07u."s;
  const std::string four =
      "\x80\x04\x95I\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x01"s
      "a\x94(K\x01J\xfe\xff\xff\xffM,\x01Jp\x11\x01\x00\x8a\x06\x00\x00\x00\x00\x00\x01\x8a\x06\x00\x00\x00\x00\x00\xfft\x94\x8c\x01"s
      "b\x94]\x94(G?\xf8\x00\x00\x00\x00\x00\x00N\x88"s
      "\x8c\x02xy\x94"s
      "e\x8c\x01"s
      "e\x94}\x94u."s;
  for (const std::string& pickle : {two, four}) {
    const PickleGraph graph = run(pickle);
    ASSERT_EQ(root(graph).kind, Kind::dict);
    const auto& items = root(graph).items;
    ASSERT_EQ(items.size(), 6U);
    EXPECT_EQ(graph[items[0]].text, "a");
    std::vector<std::int64_t> integers;
    for (const PickleId id : graph[items[1]].items) integers.push_back(graph[id].integer);
    EXPECT_EQ(integers, (std::vector<std::int64_t>{1, -2, 300, 70000, 1LL << 40, -(1LL << 40)}));
    const PickleNode& list = graph[items[3]];
    ASSERT_EQ(list.kind, Kind::list);
    ASSERT_EQ(list.items.size(), 4U);
    EXPECT_EQ(graph[list.items[0]].real, 1.5);
    EXPECT_EQ(graph[list.items[1]].kind, Kind::none);
    EXPECT_EQ(graph[list.items[2]].kind, Kind::boolean);
    EXPECT_EQ(graph[list.items[3]].text, "xy");
    EXPECT_EQ(graph[items[5]].kind, Kind::dict);
  }
}

TEST(Unpickler, KeepsCallsAsCalls) {
  const PickleGraph graph =
      run(pickle::whole(pickle::call(pickle::global("torch._utils", "_rebuild_tensor_v2"), {pickle::integer(7)})));
  ASSERT_EQ(root(graph).kind, Kind::call);
  EXPECT_EQ(graph[root(graph).items[0]].text, "torch._utils._rebuild_tensor_v2");
  EXPECT_EQ(graph[graph[root(graph).items[1]].items[0]].integer, 7);
}

TEST(Unpickler, OrderedDictsAreDictsWithIgnoredAttributes) {
  const PickleGraph graph = run(pickle::whole(pickle::global("collections", "OrderedDict") + ")R" + pickle::text("k") +
                                              "K\x05s" + pickle::dict({{"_metadata", "N"}}) + "b"));
  ASSERT_EQ(root(graph).kind, Kind::dict);
  EXPECT_EQ(graph[root(graph).items[1]].integer, 5);
}

TEST(Unpickler, RefusesGlobalsByName) {
  EXPECT_ERROR(run("\x80\x02"
                   "cos\nsystem\n(X\x07\x00\x00\x00touch x"
                   "tR."s),
               "refuses to load `os.system`");
  EXPECT_ERROR(run(pickle::whole(pickle::call(pickle::global("posix", "system"), {pickle::text("ls")}))),
               "m.bin, data.pkl: byte 2: refuses to load `posix.system`");
  EXPECT_ERROR(run(pickle::whole(pickle::global("builtins", "eval"))), "`builtins.eval`");
  EXPECT_ERROR(run("\x80\x04\x8c\x08"
                   "builtins\x8c\x04"
                   "eval\x93."s),
               "`builtins.eval`");
  EXPECT_ERROR(run("(ios\nsystem\n."), "`os.system`");
  EXPECT_ERROR(run(pickle::whole(pickle::global("torch", "FloatStorage.x"))), "`torch.FloatStorage.x`");
  EXPECT_ERROR(run(pickle::whole(pickle::global("torch\x1b[31m", "x"))), "`torch\\x1b[31m.x`");
}

TEST(Unpickler, RefusesCallsOfOtherThings) {
  EXPECT_ERROR(run(pickle::whole(pickle::text("os.system") + ")R")), "no known function");
  EXPECT_ERROR(run(pickle::whole(pickle::global("torch", "FloatStorage") + "]R")), "no known function");
  EXPECT_ERROR(run(pickle::whole(pickle::global("collections", "OrderedDict") + "(]tR")),
               "OrderedDict made with arguments");
  EXPECT_ERROR(run(pickle::whole(pickle::global("torch", "FloatStorage") + ")R}b")), "a dict to set attributes of");
  // NEWOBJ, OBJ, EXT1, BUILD on nothing, protocol 0's PERSID
  for (const char* op : {"\x81", "o", "\x82\x01", "\x92", "P1\n"}) {
    EXPECT_ERROR(run("\x80\x02" + pickle::global("torch", "FloatStorage") + ")" + op + "."),
                 "has no place in a state dict");
  }
  EXPECT_ERROR(run("}b."), "empty stack");
}

TEST(Unpickler, BrokenPicklesAreErrors) {
  EXPECT_ERROR(run(""), "truncated");
  EXPECT_ERROR(run("."), "empty stack");
  EXPECT_ERROR(run("t."), "did not open");
  EXPECT_ERROR(run("N(s."), "empty stack");
  EXPECT_EQ(root(run("N(N00.")).kind, Kind::none);  // the second POP takes the mark
  EXPECT_ERROR(run("N(N000."), "empty stack");
  EXPECT_ERROR(run("h\x05."), "refers to value 5");
  EXPECT_ERROR(run("}(Nu."), "a key without a value");
  EXPECT_ERROR(run("N(NNu."), "a dict is wanted");
  EXPECT_ERROR(run("}(Ne."), "a list is wanted");
  EXPECT_ERROR(run("\x80\x01."s), "protocol 1");
  EXPECT_ERROR(run("\x80\xff."s), "protocol 255");
  EXPECT_ERROR(run("cos\nsyst"), "truncated");
  EXPECT_ERROR(run("NN\x93."), "a global's name must be a text");
  EXPECT_ERROR(run("I1\n."), "opcode 0x49");
}

TEST(Unpickler, EveryTruncationIsAnError) {
  const std::string whole =
      pickle::whole(pickle::dict({{"w", pickle::tensor(pickle::storage("FloatStorage", "0", 4), 0, {2, 2}, {2, 1})}}));
  EXPECT_NO_THROW(run(whole));
  for (std::size_t size = 0; size < whole.size(); ++size) EXPECT_THROW(run(whole.substr(0, size)), Error) << size;
}

TEST(Unpickler, BombsAreErrorsOrHarmless) {
  // Lists within lists: nothing recurses, neither here nor when the graph is destroyed.
  std::string nested = "]";
  for (int i = 0; i < 1'000'000; ++i) nested += "\x85";
  EXPECT_EQ(run(nested + ".").nodes.size(), 1'000'001U);
  // A list that holds itself.
  EXPECT_EQ(run("]q\x00h\x00"s + "a.").nodes.size(), 1U);
  EXPECT_ERROR(run(std::string(5'000'000, 'N')), "values");
  EXPECT_ERROR(run(std::string(5'000'000, '(')), "containers");
  EXPECT_ERROR(run("N2."), "has no place");  // DUP
  std::string copies = "Nq\x00"s;
  for (int i = 0; i < 5'000'000; ++i) copies += "h\x00"s;
  EXPECT_ERROR(run(copies), "on the stack");
  // Slots and lengths as large as can be, of nothing.
  EXPECT_EQ(run("Nr\xff\xff\xff\xff.").nodes.size(), 1U);
  EXPECT_ERROR(run("\x8b\xff\xff\xff\xff."), "truncated");
  EXPECT_ERROR(run("\x8b\x10\x00\x00\x00"s + std::string(16, '\x7f') + "."), "an integer of 16 bytes");
  EXPECT_ERROR(run("\x8d\xff\xff\xff\xff\xff\xff\xff\xff."), "truncated");
  EXPECT_ERROR(run("X\xff\xff\xff\xff."), "truncated");
}

TEST(Unpickler, BytesAndOldStrings) {
  const PickleGraph graph = run("(C\x02xyB\x01\x00\x00\x00zU\x03oldT\x01\x00\x00\x00st."s);
  const auto& items = root(graph).items;
  ASSERT_EQ(items.size(), 4U);
  EXPECT_EQ(graph[items[0]].kind, Kind::bytes);
  EXPECT_EQ(graph[items[0]].text, "xy");
  EXPECT_EQ(graph[items[1]].text, "z");
  EXPECT_EQ(graph[items[2]].kind, Kind::text);
  EXPECT_EQ(graph[items[2]].text, "old");
  EXPECT_EQ(graph[items[3]].text, "s");
}

TEST(Unpickler, LongIntegers) {
  EXPECT_EQ(root(run("\x8a\x00."s)).integer, 0);
  EXPECT_EQ(root(run("\x8a\x01\xff."s)).integer, -1);
  EXPECT_EQ(root(run("\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f."s)).integer, INT64_MAX);
  EXPECT_EQ(root(run("\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x80."s)).integer, INT64_MIN);
  EXPECT_EQ(root(run("\x8b\x02\x00\x00\x00\x00\x01."s)).integer, 256);
}

}  // namespace
}  // namespace molt
