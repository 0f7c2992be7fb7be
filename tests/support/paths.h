// Where tests find models and reference outputs.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <string>

namespace molt::testing_support {

/// Small files that lie in the repository.
inline std::string fixture(const std::string& name) {
  return std::string(MOLT_SOURCE_DIR) + "/tests/fixtures/" + name;
}

inline std::string demo_model() {
  return std::string(MOLT_SOURCE_DIR) + "/models/demo";
}

/// Large files beside the repository, which not everybody has.
inline std::string shared(const std::string& name) {
  return std::string(MOLT_SHARED_DIR) + "/" + name;
}

/// The folder of a large model: the unpacked one in the build tree, or the demo model.
inline std::string large_model(const std::string& name) {
  return name == "mamba2-demo-11m" ? demo_model() : std::string(MOLT_MODELS_DIR) + "/" + name;
}

}  // namespace molt::testing_support

/// Skips the test when a large file is absent.
#define MOLT_NEEDS(path)                                                                             \
  if (!std::filesystem::exists(path)) {                                                              \
    GTEST_SKIP() << (path) << " is absent: this test needs the large reference data (docs: README)"; \
  }
