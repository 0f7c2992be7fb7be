// NFC: Unicode canonical composition (Unicode Standard Annex 15) as Hugging Face tokenizers does it.
//
// Its tables are those of Unicode 9.0: code points added later, on which NFC would act, are left alone here and end a
// sequence of combining marks. Everything else comes from utf8proc and is stable across versions of Unicode.
// Time is linear, n log n within a run of combining marks. Thread-safe.
#pragma once

#include <string>
#include <string_view>

namespace molt {

/// The NFC of `text` (valid UTF-8): `text` itself where it is NFC already, which costs one quick pass; otherwise a view
/// of `buffer`, which is overwritten.
std::string_view nfc(std::string_view text, std::string& buffer);

}  // namespace molt
