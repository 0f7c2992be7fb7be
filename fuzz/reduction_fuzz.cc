// Any bytes as a reduction's spec, on a tiny model: an Error, or a reduction that can be rehearsed, is carried out, and
// whose text reads back as itself.
//
// Input: a spec as it stands on a command line ("METHOD:key=value,..."), or a JSON file's text, or the text of a
// surrogate schedule's rules; all three are tried.
#include <cstdint>
#include <string>
#include <vector>

#include "base/check.h"
#include "molt/error.h"
#include "molt/session.h"
#include "molt/threads.h"
#include "tests/support/temp_folder.h"

namespace {

using molt::testing_support::TempFolder;

const molt::Model& model() {
  static const molt::Model model = [] {
    molt::set_num_threads(1);
    return molt::Model::load(MOLT_SOURCE_DIR "/tests/fixtures/tiny/mamba2-tiny", {.weights = molt::WeightType::f32});
  }();
  return model;
}

const TempFolder& folder() {
  static const TempFolder folder;
  return folder;
}

/// Everything that an accepted spec promises.
void use(const molt::Reduction& reduction) {
  const molt::Reduction again = molt::Reduction::parse(model(), folder().write("again.json", reduction.text()));
  MOLT_CHECK(again.text() == reduction.text());
  MOLT_CHECK(reduction.flops() >= 0 && reduction.flops() <= 1);
  for (const std::int64_t length : {1, 2, 3, 37}) {
    const molt::ReductionRecord record = reduction.rehearse(length);
    MOLT_CHECK(record.tokens == length && record.cut() >= -1e-9 && record.cut() <= 1);
    for (const std::int64_t full : record.full) MOLT_CHECK(full >= 1 && full <= length);
  }
  std::vector<molt::TokenId> ids;
  for (int i = 0; i < 37; ++i) ids.push_back(i * 5 % static_cast<int>(model().vocab_size()));
  molt::Session session(model(), {.window = 16, .progress = {}});
  molt::State state(model());
  molt::ReductionRecord record;
  session.feed(state, ids, {.reduction = &reduction, .record = &record});
  MOLT_CHECK(state.tokens() == 37);
}

void try_spec(const std::string& spec) {
  try {
    const molt::Reduction reduction = molt::Reduction::parse(model(), spec);
    use(reduction);
  } catch (const molt::Error&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  // Not as a path: what would be read is another file.
  if (!text.ends_with(".json")) try_spec(text);
  try_spec(folder().write("spec.json", text));
  try_spec(folder().write("rules.json", "{\"method\": \"surrogate\", \"rules\": " + text + "}"));
  return 0;
}
