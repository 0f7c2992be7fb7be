// Calibration text: the windows over which a model is watched while it is compressed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/architecture.h"
#include "molt/model.h"
#include "molt/types.h"
#include "tune/probes.h"

namespace molt {

struct CalibrationText {
  std::int64_t samples = 64;   // windows
  std::int64_t length = 1024;  // tokens of each
  std::uint64_t seed = 1;      // of the choice of windows
};

/// `text`, documents separated by "<|endoftext|>", as one run of tokens (the begin-of-text token in front of each
/// document), cut into windows of `length` that do not overlap; of those `samples`, drawn by `seed`. Throws Error when
/// the text is too short, or as encode_documents() does.
std::vector<std::vector<TokenId>> calibration_windows(const Model& model, const std::string& text,
                                                      const CalibrationText& options);

/// The same for documents that are encoded already.
std::vector<std::vector<TokenId>> calibration_windows(const Documents& documents, const CalibrationText& options);

/// The same for a model of which only the configuration and the tokenizer are read. `tokenizer`: of a tokenizer.json to
/// use instead of the folder's own, or "". Throws Error, too, when there is none.
std::vector<std::vector<TokenId>> calibration_windows(const std::string& folder, const ModelConfig& config,
                                                      const std::string& tokenizer, const std::string& text,
                                                      const CalibrationText& options);

}  // namespace molt
