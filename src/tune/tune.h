// tune(): finds a surrogate schedule for a model on calibration text, fits its maps, and judges it on text held apart.
//
// docs/reduction.md explains the method. Used by one thread; takes minutes.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "molt/model.h"
#include "tune/judge.h"
#include "tune/search.h"

namespace molt {

struct TuneOptions {
  double flops = 0.3;  // the cut that is wanted, above 0 and at most 0.9
  std::uint64_t seed = 1;

  /// How much text each step uses, relative to the usual amount, 0.01 .. 100: less is faster and less certain.
  double effort = 1;

  /// Called as work goes on: what is being done, and how far it is.
  std::function<void(const std::string& what, std::int64_t done, std::int64_t total)> progress;
};

/// Throws Error for a cut or an effort that makes no sense.
void check_options(const TuneOptions& options);

/// Throws Error for a model with blocks that token reduction cannot work on.
void check_tunable(const Model& model);

/// What was found for one class of prompt lengths.
struct TunedClass {
  std::string name;
  std::optional<std::int64_t> up_to;
  SurrogateRule rule;
  double cut = 0;
  std::vector<Sensitivity> sensitivities;

  std::vector<Judged> judged;  // on text held apart
};

struct Tuned {
  SurrogateSchedule schedule;
  std::map<WriteMapKey, WriteMapTensors> maps;
  std::vector<TunedClass> classes;
};

/// Throws Error when the text is too short, or the cut cannot be had. `text`: documents separated by "<|endoftext|>".
Tuned tune(const Model& model, const std::string& text, const TuneOptions& options);

/// Writes the schedule to `path` (JSON) and its maps beside it (.safetensors). Throws Error.
void save_schedule(const Tuned& tuned, const Model& model, double flops, const std::string& path);

/// Where save_schedule() puts the maps of a schedule at `path`.
std::string maps_path(const std::string& path);

}  // namespace molt
