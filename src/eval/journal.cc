#include "eval/journal.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/fail.h"
#include "base/mmap_file.h"
#include "base/random.h"
#include "eval/score_json.h"
#include "model/model.h"

namespace molt::eval {
namespace {

constexpr int kVersion = 1;

Json header_of(const Model& model, std::int64_t window) {
  Json header = {{"molt_eval_journal", kVersion},
                 {"model", model.core()->fingerprint()},
                 {"weights", model.core()->weight_formats()},
                 {"window", window}};
  if (model.core()->state_dtype() != DType::f32) header["states"] = name_of(model.core()->state_dtype());
  return header;
}

/// 16 hexadecimal digits that tell prompts apart.
std::string name_of_prompt(const Prompt& prompt) {
  std::uint64_t hash = 0;
  const auto take = [&](std::uint64_t value) { hash = Random(hash ^ value).next(); };
  const auto take_ids = [&](const std::vector<TokenId>& ids) {
    take(ids.size());
    for (const TokenId id : ids) take(static_cast<std::uint64_t>(id));
  };
  take_ids(prompt.context);
  for (const auto& continuation : prompt.continuations) take_ids(continuation);
  return fmt::format("{:016x}", hash);
}

Json to_json(const Outcome& outcome) {
  Json scores = Json::array();
  for (const Score& score : outcome.scores) scores.push_back(to_json(score));
  return {{"flops", outcome.flops},
          {"dense_flops", outcome.dense_flops},
          {"seconds", outcome.seconds},
          {"scores", std::move(scores)}};
}

Outcome outcome_of(const Json& json) {
  Outcome outcome;
  outcome.flops = json.at("flops").get<double>();
  outcome.dense_flops = json.at("dense_flops").get<double>();
  outcome.seconds = json.at("seconds").get<double>();
  for (const Json& entry : json.at("scores")) outcome.scores.push_back(score_of(entry));
  return outcome;
}

std::string key_of(const std::string& setting, const std::string& prompt) {
  return prompt + " " + setting;
}

}  // namespace

Journal::Journal(std::string path, const Model& model, std::int64_t window) : path_(std::move(path)) {
  const Json header = header_of(model, window);
  fd_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (fd_ < 0) fail("{}: cannot open for writing: {}", path_, std::strerror(errno));
  try {
    const auto file = MmapFile::open(path_);
    const std::string text(reinterpret_cast<const char*>(file->bytes().data()), file->bytes().size());
    if (text.empty()) {
      append(header.dump());
    } else {
      read(text, header);
      if (text.back() != '\n') append("");  // ends the line that a kill cut short
    }
  } catch (...) {
    ::close(fd_);
    throw;
  }
  found_ = outcomes_.size();
}

Journal::~Journal() {
  ::close(fd_);
}

void Journal::read(const std::string& text, const Json& header) {
  bool first = true;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    // A kill may have cut a line short: what it held is computed again.
    const Json line = Json::parse(text.begin() + static_cast<std::ptrdiff_t>(begin),
                                  text.begin() + static_cast<std::ptrdiff_t>(end), nullptr, false);
    begin = end + 1;
    if (first) {
      if (!line.is_object() || !line.contains("molt_eval_journal")) fail("{}: is no journal of molt eval", path_);
      if (line != header) {
        fail("{}: was written with {}, not with {}; name another file", path_, line.dump(), header.dump());
      }
      first = false;
      continue;
    }
    if (!line.is_object()) continue;
    try {
      outcomes_[key_of(line.at("setting").get<std::string>(), line.at("prompt").get<std::string>())] = outcome_of(line);
    } catch (const Json::exception&) {  // likewise
    }
  }
}

const Outcome* Journal::find(const std::string& setting, const Prompt& prompt, bool kl) const {
  const auto it = outcomes_.find(key_of(setting, name_of_prompt(prompt)));
  if (it == outcomes_.end() || it->second.scores.size() != prompt.continuations.size()) return nullptr;
  for (std::size_t c = 0; c < prompt.continuations.size(); ++c) {
    const Score& score = it->second.scores[c];
    if (score.logprobs.size() != prompt.continuations[c].size() || (kl && !score.kl)) return nullptr;
  }
  return &it->second;
}

void Journal::add(const std::string& setting, const Prompt& prompt, const Outcome& outcome) {
  const std::string name = name_of_prompt(prompt);
  Json line = to_json(outcome);
  line["setting"] = setting;
  line["prompt"] = name;
  append(line.dump());
  outcomes_[key_of(setting, name)] = outcome;
}

void Journal::append(const std::string& line) {
  const std::string bytes = line + "\n";
  std::size_t written = 0;
  while (written < bytes.size()) {
    const ssize_t count = ::write(fd_, bytes.data() + written, bytes.size() - written);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) fail("{}: cannot write: {}", path_, std::strerror(errno));
    written += static_cast<std::size_t>(count);
  }
}

}  // namespace molt::eval
