// molt logits: writes a model's logits for given tokens, so that anyone can compare with another implementation.
#include <algorithm>
#include <charconv>
#include <cstring>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/atomic_file.h"
#include "base/fail.h"
#include "command.h"
#include "io/safetensors.h"
#include "model_options.h"
#include "molt/session.h"
#include "output.h"
#include "progress.h"
#include "reduce_option.h"
#include "token_rows.h"

namespace molt::cli {
namespace {

using Ids = std::vector<std::vector<TokenId>>;

struct Options {
  ModelOptions model;
  std::optional<std::string> text;
  std::optional<std::string> ids;
  std::string ids_file;
  std::string out;
  bool all = false;
  ReduceOption reduce;
  std::string record;
  std::int64_t window = 2048;
};

/// Numbers separated by commas or blanks.
std::vector<TokenId> parse_ids(std::string_view text, const std::string& where) {
  std::vector<TokenId> ids;
  const char* at = text.data();
  const char* end = at + text.size();
  const auto is_separator = [](char c) { return c == ',' || c == ' ' || c == '\t' || c == '\r'; };
  while (true) {
    at = std::find_if_not(at, end, is_separator);
    if (at == end) return ids;
    TokenId id = 0;
    const auto [next, error] = std::from_chars(at, end, id);
    if (error == std::errc::result_out_of_range) {
      fail("{}: token id {} is out of range", where, std::string_view(at, static_cast<std::size_t>(next - at)));
    }
    if (error != std::errc() || (next != end && !is_separator(*next))) {
      fail("{}: '{}' is no list of token ids; write them as 1,2,3", where,
           std::string_view(at, static_cast<std::size_t>(std::min<std::ptrdiff_t>(end - at, 40))));
    }
    ids.push_back(id);
    at = next;
  }
}

Ids read_ids(const Options& options, const Model& model) {
  if (options.text) return {model.tokenizer().encode(*options.text)};
  if (options.ids) return {parse_ids(*options.ids, "--ids")};
  const std::string text = read_text(options.ids_file);
  // A safetensors file begins with the length of its header, below 2^32 in practice: zeros in its high bytes. Text has
  // none.
  if (text.size() >= 8 && text.substr(4, 4) == std::string(4, '\0')) {
    const SafetensorsFile file = read_safetensors(std::as_bytes(std::span(text)), nullptr, options.ids_file);
    return token_rows(file, "input_ids", options.ids_file);
  }
  Ids rows;
  std::size_t line_number = 0;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    const std::string where = fmt::format("{}:{}", options.ids_file, ++line_number);
    const auto row = parse_ids(std::string_view(text).substr(begin, end - begin), where);
    if (!row.empty()) rows.push_back(row);
    begin = end + 1;
  }
  return rows;
}

/// All sequences' ids one after another, with their lengths if these differ: [S, L] where they do not.
Tensor ids_tensor(const Ids& rows, bool ragged) {
  std::vector<std::int64_t> flat;
  for (const auto& row : rows) flat.insert(flat.end(), row.begin(), row.end());
  const auto count = static_cast<std::int64_t>(flat.size());
  const auto sequences = static_cast<std::int64_t>(rows.size());
  Tensor tensor =
      Tensor::uninitialized(DType::i64, ragged || sequences == 1 ? Shape{count} : Shape{sequences, count / sequences});
  std::copy(flat.begin(), flat.end(), tensor.as<std::int64_t>());
  return tensor;
}

/// What was done to each sequence's tokens, as JSON.
void write_record(const std::string& path, const Reduction& reduction, const std::vector<ReductionRecord>& records) {
  nlohmann::json json = {{"spec", nlohmann::json::parse(reduction.text())}, {"sequences", nlohmann::json::array()}};
  for (const ReductionRecord& record : records) json["sequences"].push_back(to_json(record));
  write_file(path, json_text(json) + "\n");
}

void run(const Options& options) {
  check_output(options.out);
  if (!options.record.empty()) {
    if (options.reduce.specs.empty()) fail("--record tells what a reduction did: name one with --reduce");
    check_output(options.record);
  }
  if (options.all && !options.reduce.specs.empty()) {
    fail("--all and --reduce exclude each other: tokens that are gone have no logits; leave out --all");
  }
  const Model model = options.model.load();
  const std::optional<Reduction> reduction = options.reduce.make(model);
  const Ids rows = read_ids(options, model);
  if (rows.empty() || std::any_of(rows.begin(), rows.end(), [](const auto& row) { return row.empty(); })) {
    fail("nothing to run: the input holds no token (or an empty sequence)");
  }
  const auto sequences = static_cast<std::int64_t>(rows.size());
  const bool ragged = std::any_of(rows.begin(), rows.end(), [&](const auto& r) { return r.size() != rows[0].size(); });

  Progress progress("computing logits");
  Session session(model, {.window = options.window,
                          .progress = [&](std::int64_t done, std::int64_t total) { progress.update(done, total); }});
  std::vector<State> states(rows.size(), State(model));
  std::vector<ReductionRecord> records(rows.size());
  std::vector<Sequence> batch;
  std::vector<std::int64_t> offsets{0};
  for (std::size_t s = 0; s < rows.size(); ++s) {
    batch.push_back({&states[s], rows[s], {.reduction = reduction ? &*reduction : nullptr, .record = &records[s]}});
    offsets.push_back(offsets.back() + static_cast<std::int64_t>(rows[s].size()));
  }

  const std::int64_t vocab = model.vocab_size();
  const std::int64_t count = options.all ? offsets.back() : sequences;
  const bool rows_by_sequence = options.all && !ragged && sequences > 1;
  Tensor logits = Tensor::uninitialized(
      DType::f32, rows_by_sequence ? Shape{sequences, count / sequences, vocab} : Shape{count, vocab});
  const auto put = [&](std::int64_t row, std::span<const float> values) {
    std::copy(values.begin(), values.end(), logits.as<float>() + row * vocab);
  };
  if (options.all) {
    session.feed_all(batch, [&](std::size_t s, std::int64_t position, std::span<const float> values) {
      put(offsets[s] + position, values);
    });
  } else {
    put(0, session.feed(batch));
  }
  progress.finish();

  std::vector<std::pair<std::string, Tensor>> tensors{{"input_ids", ids_tensor(rows, ragged)}, {"logits", logits}};
  if (ragged) {
    Tensor bounds = Tensor::uninitialized(DType::i64, {sequences + 1});
    std::copy(offsets.begin(), offsets.end(), bounds.as<std::int64_t>());
    tensors.insert(tensors.begin(), {"offsets", bounds});
  }
  write_safetensors(options.out, tensors, {{"model", model.source()}});
  if (!options.record.empty()) write_record(options.record, *reduction, records);
  fmt::print(stderr, "{}: logits {} of {} {}\n", options.out, to_string(logits.shape()), sequences,
             sequences == 1 ? "sequence" : "sequences");
}

void setup(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  options->model.add_to(app);
  auto* input = app.add_option_group("input", "What to run (one of these)");
  input->add_option("--text", options->text, "A text, tokenized with the model's tokenizer")->type_name("TEXT");
  input->add_option("--ids", options->ids, "Token ids: 1,2,3")->type_name("IDS");
  input
      ->add_option("--ids-file", options->ids_file,
                   "A safetensors file with input_ids [S, L], or a text file with a sequence of ids a line; all run as "
                   "one ragged batch")
      ->type_name("FILE");
  input->require_option(1);
  app.add_option("-o,--out", options->out, "The safetensors file to write")->type_name("FILE")->required();
  options->reduce.add_to(app);
  app.add_option("--record", options->record,
                 "Write what the reduction did to this JSON file: survivors behind each site, the fate of each token")
      ->type_name("FILE");
  app.add_flag("--all", options->all, "Logits of every position, not only of each sequence's last");
  app.add_option("--window", options->window, "Tokens that are read together")
      ->type_name("N")
      ->check(count_from(1))
      ->capture_default_str();
  app.footer(
      "Writes input_ids and logits in float32: [S, vocabulary], the last position of each of S sequences; with --all "
      "[L, vocabulary] of one sequence, [S, L, vocabulary] of several. Where lengths differ, both lie packed as [T], "
      "[T, vocabulary], and offsets [S + 1] tells where sequences begin.\n"
      "Examples:\n"
      "  molt logits models/demo --text \"Hello there\" --out logits.safetensors\n"
      "  molt logits models/demo --text \"Hello there\" --reduce utr:flops=0.2 --record r.json --out "
      "logits.safetensors\n"
      "  molt logits models/demo --ids 0,5,17 --all --dtype f32 --out logits.safetensors");
  app.callback([options] { run(*options); });
}

const Registration<Command> registration{"logits", {"Write a model's logits for given tokens to a file", &setup}};

}  // namespace
}  // namespace molt::cli
