#include "io/tokenizer/spec.h"

#include <nlohmann/json.hpp>
#include <optional>

#include "base/fail.h"

namespace molt {
namespace {

using Json = nlohmann::json;

// Ids index tables: a bound keeps a broken file from asking for gigabytes. The largest vocabularies have 2^18 tokens.
constexpr std::int64_t kMaxId = (std::int64_t{1} << 22) - 1;

// A value in the file and the path to it, for errors.
class Node {
 public:
  Node(const Json& value, std::string where) : value_(&value), where_(std::move(where)) {}

  const std::string& where() const { return where_; }
  const Json& json() const { return *value_; }
  bool is_null() const { return value_->is_null(); }

  Node at(const char* key) const {
    if (auto found = find(key)) return *found;
    fail("{}: the key \"{}\" is missing", where_, key);
  }

  /// The value under `key`, or nothing when it is missing or null.
  std::optional<Node> find(const char* key) const {
    if (!value_->is_object()) wrong_type("an object");
    const auto it = value_->find(key);
    if (it == value_->end() || it->is_null()) return std::nullopt;
    return Node(*it, where_ + "." + key);
  }

  Node operator[](std::size_t index) const { return {(*value_)[index], fmt::format("{}[{}]", where_, index)}; }

  std::size_t array_size() const {
    if (!value_->is_array()) wrong_type("an array");
    return value_->size();
  }

  const std::string& string() const {
    if (!value_->is_string()) wrong_type("a string");
    return value_->get_ref<const std::string&>();
  }

  bool boolean() const {
    if (!value_->is_boolean()) wrong_type("true or false");
    return value_->get<bool>();
  }

  TokenId id() const {
    if (!value_->is_number_integer()) wrong_type("an integer");
    if (value_->is_number_unsigned() ? value_->get<std::uint64_t>() > kMaxId : true) {
      fail("{}: the id {} is out of range; ids go from 0 to {}", where_, value_->dump(), kMaxId);
    }
    return static_cast<TokenId>(value_->get<std::uint64_t>());
  }

  bool flag(const char* key, bool otherwise) const {
    const auto found = find(key);
    return found ? found->boolean() : otherwise;
  }

  [[noreturn]] void wrong_type(const char* wanted) const {
    fail("{}: {} is wanted, not {}", where_, wanted, value_->type_name());
  }

 private:
  const Json* value_;
  std::string where_;
};

[[noreturn]] void refuse(const Node& node, std::string_view what, std::string_view known) {
  fail("{}: {} is not supported; molt knows {}", node.where(), what, known);
}

/// Calls visit(component) for a component or, one after the other, for the members of a Sequence of them.
template <class Visit>
void for_each_component(const Node& node, const char* members, const Visit& visit, int depth = 0) {
  if (node.at("type").string() != "Sequence") return visit(node);
  if (depth == 8) fail("{}: Sequences are nested too deep", node.where());
  const Node list = node.at(members);
  for (std::size_t i = 0; i < list.array_size(); ++i) for_each_component(list[i], members, visit, depth + 1);
}

void read_normalizer(const Node& root, TokenizerSpec& spec) {
  const auto normalizer = root.find("normalizer");
  if (!normalizer) return;
  for_each_component(*normalizer, "normalizers", [&](const Node& node) {
    const std::string& type = node.at("type").string();
    if (type != "NFC") refuse(node, fmt::format("the normalizer \"{}\"", type), "NFC, Sequence and null");
    spec.nfc = true;
  });
}

SplitBehavior read_behavior(const Node& node) {
  constexpr std::pair<std::string_view, SplitBehavior> kBehaviors[] = {
      {"Isolated", SplitBehavior::kIsolated},
      {"Removed", SplitBehavior::kRemoved},
      {"MergedWithPrevious", SplitBehavior::kMergedWithPrevious},
      {"MergedWithNext", SplitBehavior::kMergedWithNext},
      {"Contiguous", SplitBehavior::kContiguous}};
  for (const auto& [name, behavior] : kBehaviors) {
    if (node.string() == name) return behavior;
  }
  refuse(node, fmt::format("the behavior \"{}\"", node.string()),
         "Isolated, Removed, MergedWithPrevious, MergedWithNext and Contiguous");
}

SplitSpec read_split(const Node& node) {
  SplitSpec split;
  split.where = node.where();
  const Node pattern = node.at("pattern");
  const auto regex = pattern.find("Regex");
  split.is_regex = regex.has_value();
  split.pattern = regex ? regex->string() : pattern.at("String").string();
  split.behavior = read_behavior(node.at("behavior"));
  split.invert = node.flag("invert", false);
  return split;
}

/// Digits: every numeric character by itself, or runs of them.
SplitSpec read_digits(const Node& node) {
  SplitSpec split;
  split.where = node.where();
  split.pattern = R"(\p{N})";
  split.behavior = node.flag("individual_digits", false) ? SplitBehavior::kIsolated : SplitBehavior::kContiguous;
  return split;
}

void read_pre_tokenizer(const Node& root, TokenizerSpec& spec) {
  const Node pre_tokenizer = root.at("pre_tokenizer");
  bool byte_level = false;
  for_each_component(pre_tokenizer, "pretokenizers", [&](const Node& node) {
    const std::string& type = node.at("type").string();
    if (byte_level) {
      refuse(node, fmt::format("the pre-tokenizer \"{}\" after ByteLevel", type), "ByteLevel as the last one");
    }
    if (type == "Split") {
      spec.splits.push_back(read_split(node));
    } else if (type == "Digits") {
      spec.splits.push_back(read_digits(node));
    } else if (type == "ByteLevel") {
      byte_level = true;
      spec.add_prefix_space = node.flag("add_prefix_space", true);
      spec.use_regex = node.flag("use_regex", true);
    } else {
      refuse(node, fmt::format("the pre-tokenizer \"{}\"", type), "ByteLevel, Digits, Split and Sequence");
    }
  });
  if (!byte_level) fail("{}: no ByteLevel pre-tokenizer; molt reads byte-level BPE only", pre_tokenizer.where());
}

void read_decoder(const Node& root) {
  bool byte_level = false;
  const Node decoder = root.at("decoder");
  for_each_component(decoder, "decoders", [&](const Node& node) {
    const std::string& type = node.at("type").string();
    if (type != "ByteLevel" || byte_level) refuse(node, fmt::format("the decoder \"{}\"", type), "a single ByteLevel");
    byte_level = true;
  });
  if (!byte_level) fail("{}: no ByteLevel decoder; molt reads byte-level BPE only", decoder.where());
}

// Post-processors may add special tokens, which molt never asks for; so those that do nothing else are read and
// ignored.
void check_post_processor(const Node& root) {
  const auto processor = root.find("post_processor");
  if (!processor) return;
  for_each_component(*processor, "processors", [](const Node& node) {
    const std::string& type = node.at("type").string();
    if (type == "ByteLevel") return;
    if (type != "TemplateProcessing") {
      refuse(node, fmt::format("the post-processor \"{}\"", type), "ByteLevel, TemplateProcessing, Sequence and null");
    }
    const Node single = node.at("single");
    int texts = 0;
    for (std::size_t i = 0; i < single.array_size(); ++i) {
      if (single[i].find("Sequence")) {
        ++texts;
      } else {
        single[i].at("SpecialToken");
      }
    }
    if (texts != 1) fail("{}: the template has the text {} times; molt wants it once", single.where(), texts);
  });
}

void check_unset(const Node& model, const char* key) {
  const auto value = model.find(key);
  if (!value || value->json() == Json("") || value->json() == Json(0)) return;
  refuse(*value, fmt::format("a {}", key), "null");
}

void read_merges(const Node& list, TokenizerSpec& spec) {
  spec.merges.reserve(list.array_size());
  for (std::size_t i = 0; i < list.array_size(); ++i) {
    const Json& merge = list.json()[i];
    if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      spec.merges.emplace_back(merge[0].get<std::string>(), merge[1].get<std::string>());
      continue;
    }
    if (!merge.is_string()) fail("{}: a merge is \"left right\" or [\"left\", \"right\"]", list[i].where());
    const auto& text = merge.get_ref<const std::string&>();
    const std::size_t space = text.find(' ');
    if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos) {
      fail("{}: \"{}\" is no merge: two tokens with one space between them are wanted", list[i].where(), text);
    }
    spec.merges.emplace_back(text.substr(0, space), text.substr(space + 1));
  }
}

void read_model(const Node& root, TokenizerSpec& spec) {
  const Node model = root.at("model");
  // Files of the first versions have no type for BPE.
  if (const auto type = model.find("type"); type && type->string() != "BPE") {
    refuse(*type, fmt::format("the model \"{}\"", type->string()), "BPE");
  }
  if (const auto unknown = model.find("unk_token")) spec.unknown = unknown->string();  // of rare bytes; see Vocabulary
  spec.fuse_unknown = model.flag("fuse_unk", false);
  check_unset(model, "dropout");
  check_unset(model, "continuing_subword_prefix");
  check_unset(model, "end_of_word_suffix");
  if (model.flag("byte_fallback", false)) refuse(model, "byte_fallback", "byte-level BPE");
  spec.ignore_merges = model.flag("ignore_merges", false);

  const Node vocab = model.at("vocab");
  if (!vocab.json().is_object()) vocab.wrong_type("an object");
  spec.vocab.reserve(vocab.json().size());
  for (const auto& [token, id] : vocab.json().items()) {
    if (id.is_number_unsigned() && id.get<std::uint64_t>() <= kMaxId) {
      spec.vocab.emplace_back(token, static_cast<TokenId>(id.get<std::uint64_t>()));
    } else {
      spec.vocab.emplace_back(token, Node(id, fmt::format("{}[\"{}\"]", vocab.where(), token)).id());  // the error
    }
  }
  read_merges(model.at("merges"), spec);
}

void read_added_tokens(const Node& root, TokenizerSpec& spec) {
  const auto list = root.find("added_tokens");
  if (!list) return;
  for (std::size_t i = 0; i < list->array_size(); ++i) {
    const Node node = (*list)[i];
    AddedToken token;
    token.id = node.at("id").id();
    token.content = node.at("content").string();
    if (token.content.empty()) fail("{}: the content of an added token is empty", node.where());
    token.special = node.flag("special", false);
    token.normalized = node.flag("normalized", !token.special);
    token.lstrip = node.flag("lstrip", false);
    token.rstrip = node.flag("rstrip", false);
    token.single_word = node.flag("single_word", false);
    spec.added.push_back(std::move(token));
  }
}

}  // namespace

TokenizerSpec read_tokenizer_spec(std::string_view json, std::string_view where) {
  Json document;
  try {
    document = Json::parse(json);
  } catch (const Json::exception& error) {
    fail("{}: not valid JSON: {}", where, error.what());
  }
  const Node root(document, std::string(where));
  if (!document.is_object()) root.wrong_type("an object");
  TokenizerSpec spec;
  read_model(root, spec);
  read_normalizer(root, spec);
  read_pre_tokenizer(root, spec);
  read_decoder(root);
  check_post_processor(root);
  read_added_tokens(root, spec);
  return spec;
}

}  // namespace molt
