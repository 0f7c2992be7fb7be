#include "reduce_option.h"

#include <nlohmann/json.hpp>

namespace molt::cli {

void ReduceOption::add_to(CLI::App& app, bool several) {
  auto* reduce = app.add_option("--reduce", specs,
                                "Shorten the prompt on its way through the layers: METHOD, METHOD:key=value,... or "
                                "FILE.json; `molt inspect --methods` lists them")
                     ->type_name("SPEC")
                     ->allow_extra_args(false);
  if (!several) reduce->expected(1)->multi_option_policy(CLI::MultiOptionPolicy::Throw);
  app.add_option("--plugin", plugins, "A shared library that brings reduction methods of its own")
      ->type_name("FILE")
      ->allow_extra_args(false);
}

void ReduceOption::load_plugins() const {
  for (const std::string& plugin : plugins) load_reduction_plugin(plugin);
}

std::vector<Reduction> ReduceOption::make_all(const Model& model) const {
  load_plugins();
  std::vector<Reduction> reductions;
  for (const std::string& spec : specs) reductions.push_back(Reduction::parse(model, spec));
  return reductions;
}

std::optional<Reduction> ReduceOption::make(const Model& model) const {
  const std::vector<Reduction> all = make_all(model);
  return all.empty() ? std::nullopt : std::optional<Reduction>(all.front());
}

nlohmann::json summary_json(const ReductionRecord& record) {
  return {{"tokens", record.tokens},           {"cut", record.cut()},          {"flops", record.flops},
          {"dense_flops", record.dense_flops}, {"full_by_layer", record.full}, {"writing_by_layer", record.writing}};
}

nlohmann::json to_json(const ReductionRecord& record) {
  nlohmann::json json = summary_json(record);
  nlohmann::json survivors = nlohmann::json::object();
  for (const std::int64_t site : record.sites) survivors[std::to_string(site)] = record.survivors(site);
  json["survivors"] = std::move(survivors);
  nlohmann::json fates = nlohmann::json::array();
  for (const TokenFate& fate : record.fates) {
    nlohmann::json entry = {{"position", fate.position}, {"site", fate.site}, {"fate", name_of(fate.kind)}};
    if (fate.kind == TokenFate::Kind::merged) {
      entry["hidden_into"] = fate.hidden_into;
      entry["residual_into"] = fate.residual_into;
    }
    if (fate.return_at >= 0) entry["return_at"] = fate.return_at;
    fates.push_back(std::move(entry));
  }
  json["fates"] = std::move(fates);
  return json;
}

}  // namespace molt::cli
