// molt quantize: makes a model folder smaller by rounding its matrices to 8 or 4 bits.
#include "compress/quantize_model.h"

#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/fail.h"
#include "command.h"
#include "compress/quantizer.h"
#include "model_options.h"
#include "molt/threads.h"
#include "progress.h"

namespace molt::cli {
namespace {

struct Options {
  std::string model;
  std::string out;
  std::string format = "int8";
  std::string embedding = "int8";
  std::string method = "rtn";
  std::int64_t group = 64;
  std::string calibration;
  CalibrationText text;
  int threads = 0;
  bool json = false;
};

QuantizedFormat format_of(const std::string& name, std::int64_t group) {
  return name == "int8" ? QuantizedFormat{8, 0} : QuantizedFormat{4, group};
}

void print(const QuantizeReport& report) {
  fmt::print("{:<12} {:>8}  {:<20} {:>9} {:>9} {:>12} {:>15}\n", "", "matrices", "format", "MB before", "MB after",
             "bits/weight", "relative error");
  std::int64_t before = report.kept.bytes_before;
  std::int64_t after = report.kept.bytes_after;
  const auto row = [](const std::string& name, const QuantizedKind& kind, const std::string& error) {
    fmt::print("{:<12} {:>8}  {:<20} {:>9.1f} {:>9.1f} {:>12.2f} {:>15}\n", name, kind.matrices, kind.format,
               static_cast<double>(kind.bytes_before) / 1e6, static_cast<double>(kind.bytes_after) / 1e6,
               8.0 * static_cast<double>(kind.bytes_after) / static_cast<double>(kind.weights), error);
  };
  for (const auto& [name, kind] : report.kinds) {
    row(name, kind, fmt::format("{:.3f}%", 100 * kind.relative_error()));
    before += kind.bytes_before;
    after += kind.bytes_after;
  }
  if (report.kept.matrices > 0) row("the rest", report.kept, "");
  fmt::print("{:.1f} MB become {:.1f} MB: {:.2f}x smaller\n", static_cast<double>(before) / 1e6,
             static_cast<double>(after) / 1e6, static_cast<double>(before) / static_cast<double>(after));
}

nlohmann::json to_json(const QuantizeReport& report) {
  nlohmann::json kinds = nlohmann::json::array();
  for (const auto& [name, kind] : report.kinds) {
    kinds.push_back({{"kind", name},
                     {"format", kind.format},
                     {"matrices", kind.matrices},
                     {"weights", kind.weights},
                     {"bytes_before", kind.bytes_before},
                     {"bytes_after", kind.bytes_after},
                     {"relative_error", kind.relative_error()}});
  }
  return {{"kinds", kinds}, {"kept", {{"tensors", report.kept.matrices}, {"bytes", report.kept.bytes_after}}}};
}

void run(const Options& options) {
  if (options.threads > 0) set_num_threads(options.threads);
  QuantizeOptions quantize;
  quantize.plan = {format_of(options.format, options.group), format_of(options.embedding, options.group)};
  quantize.method = options.method;
  quantize.calibration = options.text;
  if (find_quantizer(options.method).calibrated) {
    if (options.calibration.empty()) {
      fail("--method {} needs text to watch the model by: --calibration FILE, some MB like what the model will read",
           options.method);
    }
    quantize.text = read_text(options.calibration);
  } else if (!options.calibration.empty()) {
    fail("--method {} takes no text; leave --calibration out, or take --method gptq", options.method);
  }
  std::string what;
  std::unique_ptr<Progress> progress;
  quantize.progress = [&](const std::string& now, std::int64_t done, std::int64_t total) {
    if (now != what) progress = std::make_unique<Progress>(what = now);
    progress->update(done, total);
  };
  const QuantizeReport report = quantize_model(options.model, options.out, quantize);
  progress.reset();
  if (options.json) {
    std::cout << json_text(to_json(report), 2) << "\n";
  } else {
    print(report);
  }
  fmt::print(stderr, "{} written; use it as any model: molt generate {}\n", options.out, options.out);
}

std::string methods() {
  std::string text;
  for (const auto& [name, entry] : Registry<QuantizerEntry>::instance().entries()) {
    text += fmt::format("{}{}: {}", text.empty() ? "" : "; ", name, entry.summary);
  }
  return text;
}

void setup(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  app.add_option("MODEL", options->model,
                 "Model folder: config.json with model.safetensors (Hugging Face) or pytorch_model.bin (mamba_ssm)")
      ->type_name("FOLDER")
      ->required();
  app.add_option("-o,--out", options->out, "The folder to write; it must not exist")->type_name("FOLDER")->required();
  app.add_option("--format", options->format,
                 "Of the blocks' projections. int8: a scale a row; half of bf16's size. int4: a scale and a zero point "
                 "a group of columns; about a quarter")
      ->type_name("int8|int4")
      ->check(CLI::IsMember({"int8", "int4"}))
      ->capture_default_str();
  app.add_option("--group", options->group,
                 "Columns a group of int4: 32 (4.75 bits a weight in all), 64 (4.38) or 128 (4.19); smaller is closer "
                 "to the original")
      ->type_name("32|64|128")
      ->check(CLI::IsMember({32, 64, 128}))
      ->capture_default_str();
  app.add_option("--embedding", options->embedding, "Of the embedding and the head, on which every token's logits hang")
      ->type_name("int8|int4")
      ->check(CLI::IsMember({"int8", "int4"}))
      ->capture_default_str();
  app.add_option("--method", options->method, methods())->type_name("NAME")->capture_default_str();
  app.add_option("--calibration", options->calibration,
                 "Text for --method gptq, documents separated by <|endoftext|>; not what the model is judged by later")
      ->type_name("FILE");
  app.add_option("--samples", options->text.samples, "Windows of that text")
      ->type_name("N")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str();
  app.add_option("--length", options->text.length, "Tokens a window")
      ->type_name("N")
      ->check(CLI::Range(2, 65536))
      ->capture_default_str();
  app.add_option("--seed", options->text.seed, "Of the choice of windows")->type_name("N")->capture_default_str();
  app.add_option("--threads", options->threads, "Threads to use (default: the cores available to this process)")
      ->type_name("N")
      ->check(CLI::Range(1, 1024));
  app.add_flag("--json", options->json, "Print one JSON object: sizes and errors by kind of matrix");
  app.footer(
      "Writes a model folder that every command takes: its matrices are stored in fewer bits and multiplied so, with "
      "inputs rounded to 8 bits. dt's projection is in int8 throughout; norms, convolutions and A stay as they are. "
      "Shown for each kind of matrix: how "
      "far "
      "the rounded weights are from the original ones. What that costs a model: molt eval.\n"
      "Examples:\n"
      "  molt quantize models/demo --format int8 --out demo-int8\n"
      "  molt quantize models/demo --format int4 --group 32 --out demo-int4\n"
      "  molt quantize models/demo --format int4 --method gptq --calibration text.txt --out demo-gptq\n"
      "  molt eval demo-int4 --tasks suffix_nll --data heldout.txt");
  app.callback([options] { run(*options); });
}

const Registration<Command> registration{"quantize", {"Make a model smaller: matrices in 8 or 4 bits", &setup}};

}  // namespace
}  // namespace molt::cli
