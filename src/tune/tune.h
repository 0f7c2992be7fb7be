// tune(): finds a surrogate schedule for a model on calibration text, fits its maps, and judges it on text held apart.
//
// docs/reduction.md explains the method. Used by one thread; takes minutes.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "molt/model.h"
#include "tune/search.h"

namespace molt {

struct TuneOptions {
  double flops = 0.3;  // the cut that is wanted, 0 .. 1
  std::uint64_t seed = 1;

  /// How much text each step uses, relative to the usual amount: less is faster and less certain.
  double effort = 1;

  /// Called as work goes on: what is being done, and how far it is.
  std::function<void(const std::string& what, std::int64_t done, std::int64_t total)> progress;
};

/// What was found for one class of prompt lengths.
struct TunedClass {
  std::string name;
  std::optional<std::int64_t> up_to;
  SurrogateRule rule;
  double cut = 0;
  std::vector<Sensitivity> sensitivities;

  /// On held-apart text, by probe set: the schedule beside others at the same cut.
  struct Judged {
    std::string set;
    std::string method;
    Loss loss;
  };
  std::vector<Judged> judged;
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
