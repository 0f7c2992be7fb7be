// Any bytes as a JSON file: an Error, or a value whose members can be asked for.
#include "io/json_file.h"

#include <string_view>

#include "bytes.h"
#include "molt/error.h"

namespace {

void visit(const molt::Json& value) {
  molt::number_of(value);
  molt::integer_of(value);
  molt::describe(value);
  if (!value.is_structured()) return;
  for (const auto& [key, member] : value.items()) {
    if (value.is_object()) {
      try {
        molt::get_int(value, key, molt::required, "fuzz", {.low = -5, .high = 1000});
      } catch (const molt::Error&) {
      }
    }
    visit(member);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  for (const bool lenient : {true, false}) {
    try {
      visit(molt::parse_json(text, "fuzz", {.non_finite = lenient, .duplicate_keys = lenient}));
    } catch (const molt::Error&) {
    }
  }
  return 0;
}
