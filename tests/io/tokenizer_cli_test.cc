// molt tokenize, run as a program: what goes in, what comes out, exit codes.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdio>
#include <filesystem>
#include <string>

namespace molt {
namespace {

struct Result {
  std::string output;  // both streams
  int code;
};

// Runs `molt tokenize models/demo ARGUMENTS`, reading what `input` (a printf format) gives.
Result tokenize(const std::string& input, const std::string& arguments) {
  const std::string command =
      "printf '" + input + "' | '" MOLT_BINARY "' tokenize '" MOLT_SOURCE_DIR "/models/demo' " + arguments + " 2>&1";
  std::FILE* pipe = popen(command.c_str(), "r");
  Result result;
  char buffer[4096];
  while (const std::size_t count = std::fread(buffer, 1, sizeof buffer, pipe)) result.output.append(buffer, count);
  result.code = WEXITSTATUS(pclose(pipe));
  return result;
}

class TokenizeCommand : public testing::Test {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(MOLT_BINARY)) GTEST_SKIP() << MOLT_BINARY << " is not built";
  }
};

TEST_F(TokenizeCommand, LinesToIdsAndBack) {
  EXPECT_EQ(tokenize("Hello, world!\\n\\nHello", "").output, "41 10684 13 1097 2\n\n41 10684\n");
  EXPECT_EQ(tokenize("Hello, world!\\n", "--json").output, "{\"ids\": [41, 10684, 13, 1097, 2]}\n");
  EXPECT_EQ(tokenize("", "--text 'Hello'").output, "41 10684\n");
  EXPECT_EQ(tokenize("41, 10684\\n13 0\\n", "--decode").output, "Hello\n,<|endoftext|>\n");
  EXPECT_EQ(tokenize("13 0\\n", "--decode --skip-special").output, ",\n");
  EXPECT_EQ(tokenize("{\"ids\": [200, 41]}\\n", "--decode --json").output, "{\"text\": \"\\nH\"}\n");
  EXPECT_EQ(tokenize("\"a\\\\nb\"\\n", "--json-input").output, "66 200 67\n");
}

TEST_F(TokenizeCommand, BadInputExitsWith2AndNamesTheLine) {
  for (const auto& [input, arguments, named] :
       {std::tuple{"a\\nb\\377\\n", "", "line 2 of the input: the text is not valid UTF-8: byte 0xFF at offset 1"},
        {"1 x\\n", "--decode", "\"x\""},
        {"99999\\n", "--decode", "99999"},
        {"{\"ids\": 3}\\n", "--decode --json", "line 1"},
        {"[]\\n", "--json-input", "line 1"},
        {"", "--decode --json-input", "--json-input"}}) {
    const Result result = tokenize(input, arguments);
    EXPECT_EQ(result.code, 2) << input;
    EXPECT_NE(result.output.find(named), std::string::npos) << result.output;
  }
}

}  // namespace
}  // namespace molt
