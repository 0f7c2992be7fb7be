// Reduction: from a spec to a reducer that is ready to be asked.
#include "molt/reduction.h"

#include <algorithm>

#include "base/fail.h"
#include "base/registry.h"
#include "reduction/core.h"
#include "reduction/schedule.h"
#include "reduction/spec.h"

namespace molt {
namespace {

constexpr std::int64_t kAnyDepth = std::int64_t{1} << 40;  // of no model in particular, for help

Ramp ramp_of(const std::string& name) {
  if (name == "rising" || name == "low-to-high") return Ramp::rising;
  if (name == "falling" || name == "high-to-low") return Ramp::falling;
  return Ramp::flat;
}

/// Adds the defaults to what the user gave. A keep ratio stands in place of a cut and its ramp.
void fill_defaults(const WrittenSpec& spec, std::span<const OptionInfo> keys, std::int64_t layers, KeyValues& values) {
  const bool by_ratio = values.contains("ratio");
  const bool scheduled = std::any_of(keys.begin(), keys.end(), [](const OptionInfo& k) { return k.name == "ratio"; });
  for (const OptionInfo& key : keys) {
    if (by_ratio && scheduled && (key.name == "flops" || key.name == "ramp")) {
      if (values.contains(key.name))
        fail("{}: ratio says how many tokens stay; {} cannot stand beside it", spec.where, key.name);
      continue;
    }
    if (!key.default_value.empty()) values.emplace(key.name, key.default_value);
  }
  if (scheduled && !values.contains("sites")) {
    const std::vector<std::int64_t> sites = paper_sites(layers);
    if (!sites.empty()) values["sites"] = fmt::format("{}", fmt::join(sites, "+"));
  }
}

void check_sites(const WrittenSpec& spec, std::span<const std::int64_t> sites) {
  if (std::adjacent_find(sites.begin(), sites.end(), std::greater_equal<>()) != sites.end()) {
    fail("{}: sites is {}; they must ascend", spec.where, fmt::join(sites, "+"));
  }
}

Schedule make_schedule(const WrittenSpec& spec, const OptionValues& values, std::int64_t layers) {
  std::vector<std::int64_t> sites;
  if (values.has("sites")) sites = values.integers("sites");
  check_sites(spec, sites);
  if (!values.has("ratio")) {
    return solve_schedule(std::move(sites), layers, values.number("flops"), ramp_of(values.text("ramp")));
  }
  std::vector<double> ratios = values.numbers("ratio");
  if (ratios.size() == 1) ratios.resize(sites.size(), ratios.front());
  if (ratios.size() != sites.size()) {
    fail("{}: ratio has {} numbers for {} sites ({}); one is wanted for all of them, or one for each", spec.where,
         ratios.size(), sites.size(), fmt::join(sites, "+"));
  }
  return {std::move(sites), std::move(ratios)};
}

/// Errors of `make`, with where the spec was written.
template <class Make>
auto blame(const WrittenSpec& spec, Make make) {
  try {
    return make();
  } catch (const Error& error) {
    const std::string_view what = error.what();
    if (what.starts_with(spec.where)) throw;
    fail("{}: {}", spec.where, what);
  }
}

std::shared_ptr<const Reduction::Core> make_core(const std::shared_ptr<const ModelCore>& model,
                                                 const WrittenSpec& spec) {
  const MethodInfo& method = find_method(spec);
  if (const auto block = model->first_without_scan()) {
    // Of a token that left, later tokens would miss the keys, and positions would have to be carried along.
    fail("{}: token reduction works on the states of state space models; block {} of this model is {}", spec.where,
         *block, model->block(*block).kind());
  }
  const std::int64_t layers = model->config().n_layer;
  const std::vector<OptionInfo> keys = keys_of(method, layers);
  KeyValues given = check_values(spec, keys);
  fill_defaults(spec, keys, layers, given);

  auto core = std::make_shared<Reduction::Core>();
  core->model = model;
  core->method = spec.method;
  core->counts_by_content = method.counts_by_content;
  core->text = spec_json(spec.method, keys, given);
  const OptionValues values(std::move(given));
  if (method.removes) {
    core->scope = values.text("scope") == "sequence" ? Reduction::Scope::sequence : Reduction::Scope::prompt;
    core->window = values.integer("window");
    core->protect_first = values.integer("protect_first");
    core->protect_last = values.integer("protect_last");
    if (method.uses_schedule) core->schedule = blame(spec, [&] { return make_schedule(spec, values, layers); });
    core->flops = values.has("flops") ? values.number("flops") : cut_of(core->schedule, layers);
  }
  const ModelFacts facts{.layers = layers, .d_model = model->config().d_model, .core = *model};
  const MethodInput input{.model = facts,
                          .options = values,
                          .schedule = core->schedule,
                          .flops = core->flops,
                          .carry = values.has("carry") && values.flag("carry"),
                          .protect_first = core->protect_first,
                          .protect_last = core->protect_last};
  if (method.make != nullptr) core->reducer = blame(spec, [&] { return method.make(input); });
  if (core->reducer == nullptr)
    fail("{}: the method {} makes no reducer; that is a bug of it", spec.where, spec.method);
  const std::vector<std::int64_t> sites = core->reducer->sites();
  check_sites(spec, sites);
  for (const std::int64_t site : sites) {
    if (site < -1 || site >= layers)
      fail("{}: the model has {} blocks, none to stop behind at {}", spec.where, layers, site);
  }
  return core;
}

std::string describe(const OptionInfo& key) {
  const std::string standard = key.default_value.empty() ? "" : fmt::format(" [{}]", key.default_value);
  return fmt::format("      {}: {}; {}{}\n", key.name, key.help, expectation(key), standard);
}

}  // namespace

Reduction Reduction::parse(const Model& model, const std::string& spec) {
  return Reduction(make_core(model.core(), read_spec(spec)));
}

const std::string& Reduction::text() const {
  return core_->text;
}

const std::string& Reduction::method() const {
  return core_->method;
}

double Reduction::flops() const {
  return core_->flops;
}

Reduction::Scope Reduction::scope() const {
  return core_->scope;
}

std::int64_t Reduction::window() const {
  return core_->window;
}

bool Reduction::belongs_to(const Model& model) const {
  return core_->model == model.core();
}

std::string describe_reductions() {
  std::string text = "METHOD[:key=value,...] or a JSON file with the same keys and \"method\".\n\nMethods\n";
  for (const auto& [name, method] : Registry<MethodInfo>::instance().entries()) {
    text += fmt::format("  {}  {}\n", name, method.summary);
    if (method.carry && *method.carry) text += "      carry: on unless you say off\n";
    for (const OptionInfo& key : method.options) text += describe(key);
  }
  text += "\nKeys of all methods that remove tokens\n";
  MethodInfo others;
  others.uses_schedule = false;
  others.carry = false;
  for (const OptionInfo& key : keys_of(others, kAnyDepth)) text += describe(key);
  text += "\nKeys of those that remove a count of tokens at each site (";
  std::vector<std::string> scheduled;
  for (const auto& [name, method] : Registry<MethodInfo>::instance().entries()) {
    if (method.uses_schedule && method.removes) scheduled.push_back(name);
  }
  text += fmt::format("{})\n", fmt::join(scheduled, ", "));
  for (const OptionInfo& key : keys_of(MethodInfo{}, kAnyDepth)) {
    if (key.name == "ratio" || key.name == "ramp" || key.name == "sites") text += describe(key);
  }
  return text;
}

}  // namespace molt
