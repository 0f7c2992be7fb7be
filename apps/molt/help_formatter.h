// HelpFormatter: option lines of --help that name what an option takes and its default, and leave the rest to its text.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace molt::cli {

class HelpFormatter final : public CLI::Formatter {
 public:
  std::string make_option_opts(const CLI::Option* option) const override {
    if (option->get_type_size() == 0) return "";
    const std::string type = option->get_type_name();
    std::string text = " " + type.substr(0, type.find(':'));  // behind it stand what validators say of themselves
    if (!option->get_default_str().empty()) text += " (" + option->get_default_str() + ")";
    return text;
  }

  std::string make_option_usage(const CLI::Option* option) const override {
    const std::string name = make_option_name(option, true);
    return option->get_required() ? name : "[" + name + "]";
  }
};

}  // namespace molt::cli
