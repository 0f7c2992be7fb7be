#include "io/unpickler.h"

#include <algorithm>
#include <bit>
#include <unordered_map>
#include <utility>

#include "base/fail.h"
#include "io/untrusted.h"

namespace molt {
namespace {

using Kind = PickleNode::Kind;

constexpr std::string_view kOrderedDict = "collections.OrderedDict";
// A state dict takes some 30 nodes a tensor. The limit keeps a hostile file from turning each of its bytes into a node.
constexpr std::size_t kMaxNodes = 4'000'000;

/// The pickle machine's opcodes, by the letters or numbers that stand for them.
enum class Op : std::uint8_t {
  mark = '(',
  stop = '.',
  pop = '0',
  pop_mark = '1',
  none = 'N',
  newtrue = 0x88,
  newfalse = 0x89,
  binint = 'J',
  binint1 = 'K',
  binint2 = 'M',
  long1 = 0x8a,
  long4 = 0x8b,
  binfloat = 'G',
  short_binstring = 'U',
  binstring = 'T',
  short_binbytes = 'C',
  binbytes = 'B',
  short_binunicode = 0x8c,
  binunicode = 'X',
  binunicode8 = 0x8d,
  empty_tuple = ')',
  tuple1 = 0x85,
  tuple2 = 0x86,
  tuple3 = 0x87,
  tuple = 't',
  empty_list = ']',
  append = 'a',
  appends = 'e',
  empty_dict = '}',
  setitem = 's',
  setitems = 'u',
  global = 'c',
  stack_global = 0x93,
  inst = 'i',
  reduce = 'R',
  build = 'b',
  binpersid = 'Q',
  binput = 'q',
  long_binput = 'r',
  memoize = 0x94,
  binget = 'h',
  long_binget = 'j',
  proto = 0x80,
  frame = 0x95
};

class Unpickler {
 public:
  Unpickler(std::span<const std::byte> bytes, const std::set<std::string, std::less<>>& globals,
            const std::string& where)
      : bytes_(bytes), globals_(globals), where_(where) {}

  PickleGraph run() {
    for (;;) {
      op_at_ = at_;
      const auto op = static_cast<Op>(number<std::uint8_t>());
      if (op == Op::stop) break;
      if (!(scalar(op) || text(op) || container(op) || memo(op) || object(op) || framing(op))) {
        broken("the opcode 0x{:02x} has no place in a state dict", static_cast<unsigned>(op));
      }
    }
    graph_.root = pop();
    return std::move(graph_);
  }

 private:
  template <class... Args>
  [[noreturn]] void broken(fmt::format_string<Args...> format, Args&&... args) const {
    fail("{}: byte {}: {}", where_, op_at_, fmt::format(format, std::forward<Args>(args)...));
  }

  // --- reading

  std::span<const std::byte> take(std::uint64_t size) {
    if (size > bytes_.size() - at_) broken("the pickle is truncated or corrupt; fetch the file again");
    const auto slice = bytes_.subspan(at_, static_cast<std::size_t>(size));
    at_ += slice.size();
    return slice;
  }
  template <class T>
  T number() {
    return load_little_endian<T>(take(sizeof(T)), 0);
  }
  std::string string(std::uint64_t size) {
    const auto slice = take(size);
    return {reinterpret_cast<const char*>(slice.data()), slice.size()};
  }
  std::string line() {
    const auto rest = bytes_.subspan(at_);
    const auto newline = std::find(rest.begin(), rest.end(), std::byte{'\n'});
    std::string result = string(static_cast<std::uint64_t>(newline - rest.begin()));
    take(1);
    return result;
  }

  // --- the stack

  void push_id(PickleId id) {
    if (stack_.size() >= kMaxNodes) broken("more than {} values on the stack", kMaxNodes);
    stack_.push_back(id);
  }
  void push(PickleNode node) {
    if (graph_.nodes.size() >= kMaxNodes) broken("more than {} values: this is no state dict", kMaxNodes);
    push_id(static_cast<PickleId>(graph_.nodes.size()));
    graph_.nodes.push_back(std::move(node));
  }
  std::size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }
  PickleId top() const {
    if (stack_.size() <= floor()) broken("the pickle takes a value from an empty stack: it is corrupt");
    return stack_.back();
  }
  PickleId pop() {
    const PickleId id = top();
    stack_.pop_back();
    return id;
  }
  std::vector<PickleId> pop_to_mark() {
    if (marks_.empty()) broken("the pickle closes a container that it did not open: it is corrupt");
    const auto begin = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
    std::vector<PickleId> items(begin, stack_.end());
    stack_.erase(begin, stack_.end());
    marks_.pop_back();
    return items;
  }
  PickleNode& top_of(Kind kind, const char* what) {
    PickleNode& node = graph_.nodes[top()];
    if (node.kind != kind)
      broken("{} is wanted on the stack: the pickle is corrupt or holds more than a state dict", what);
    return node;
  }

  // --- groups of opcodes: each tells whether `op` is one of its own

  bool scalar(Op op) {
    switch (op) {
      case Op::none: push({.kind = Kind::none}); return true;
      case Op::newtrue: push({.kind = Kind::boolean, .integer = 1}); return true;
      case Op::newfalse: push({.kind = Kind::boolean, .integer = 0}); return true;
      case Op::binint: push_integer(static_cast<std::int32_t>(number<std::uint32_t>())); return true;
      case Op::binint1: push_integer(number<std::uint8_t>()); return true;
      case Op::binint2: push_integer(number<std::uint16_t>()); return true;
      case Op::long1: push_long(number<std::uint8_t>()); return true;
      case Op::long4: push_long(number<std::uint32_t>()); return true;
      case Op::binfloat: push_real(); return true;
      default: return false;
    }
  }

  bool text(Op op) {
    switch (op) {
      case Op::short_binunicode:
      case Op::short_binstring: push_text(Kind::text, number<std::uint8_t>()); return true;
      case Op::binunicode:
      case Op::binstring: push_text(Kind::text, number<std::uint32_t>()); return true;
      case Op::binunicode8: push_text(Kind::text, number<std::uint64_t>()); return true;
      case Op::short_binbytes: push_text(Kind::bytes, number<std::uint8_t>()); return true;
      case Op::binbytes: push_text(Kind::bytes, number<std::uint32_t>()); return true;
      default: return false;
    }
  }

  bool container(Op op) {
    switch (op) {
      case Op::mark: push_mark(); return true;
      case Op::pop: pop_or_unmark(); return true;
      case Op::pop_mark: pop_to_mark(); return true;
      case Op::empty_tuple: push({.kind = Kind::tuple}); return true;
      case Op::tuple1: push_tuple(1); return true;
      case Op::tuple2: push_tuple(2); return true;
      case Op::tuple3: push_tuple(3); return true;
      case Op::tuple: push({.kind = Kind::tuple, .items = pop_to_mark()}); return true;
      case Op::empty_list: push({.kind = Kind::list}); return true;
      case Op::append: extend(Kind::list, "a list", {pop()}); return true;
      case Op::appends: extend(Kind::list, "a list", pop_to_mark()); return true;
      case Op::empty_dict: push({.kind = Kind::dict}); return true;
      case Op::setitem: set_item(); return true;
      case Op::setitems: extend_dict(pop_to_mark()); return true;
      default: return false;
    }
  }

  bool memo(Op op) {
    switch (op) {
      case Op::binput: remember(number<std::uint8_t>()); return true;
      case Op::long_binput: remember(number<std::uint32_t>()); return true;
      case Op::memoize: remember(static_cast<std::uint32_t>(memo_.size())); return true;
      case Op::binget: recall(number<std::uint8_t>()); return true;
      case Op::long_binget: recall(number<std::uint32_t>()); return true;
      default: return false;
    }
  }

  bool object(Op op) {
    switch (op) {
      case Op::global:
      case Op::inst: push_global_of_lines(); return true;
      case Op::stack_global: push_global_of_stack(); return true;
      case Op::reduce: call(); return true;
      case Op::build: build(); return true;
      case Op::binpersid: push_persistent(); return true;
      default: return false;
    }
  }

  bool framing(Op op) {
    if (op == Op::frame) {
      take(8);  // its length, of use to readers of streams only
      return true;
    }
    if (op != Op::proto) return false;
    const auto protocol = number<std::uint8_t>();
    if (protocol < 2 || protocol > 5) broken("pickle protocol {}; molt reads 2 to 5", protocol);
    return true;
  }

  // --- their work

  void push_integer(std::int64_t value) { push({.kind = Kind::integer, .integer = value}); }

  void push_long(std::uint32_t size) {
    const auto slice = take(size);
    if (size > 8) broken("an integer of {} bytes; no size or count is that large", size);
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < size; ++i) value |= static_cast<std::uint64_t>(slice[i]) << (8 * i);
    const bool negative = size > 0 && (slice[size - 1] & std::byte{0x80}) != std::byte{0};
    if (negative && size < 8) value |= ~std::uint64_t{0} << (8 * size);
    push_integer(static_cast<std::int64_t>(value));
  }

  void push_real() {
    const auto big_endian = number<std::uint64_t>();
    push({.kind = Kind::real, .real = std::bit_cast<double>(__builtin_bswap64(big_endian))});
  }

  void push_text(Kind kind, std::uint64_t size) { push({.kind = kind, .text = string(size)}); }

  void push_mark() {
    if (marks_.size() >= kMaxNodes) broken("more than {} containers in one another", kMaxNodes);
    marks_.push_back(stack_.size());
  }

  void pop_or_unmark() {
    if (!marks_.empty() && stack_.size() == marks_.back()) {
      marks_.pop_back();
    } else {
      pop();
    }
  }

  void push_tuple(std::size_t size) {
    PickleNode node{.kind = Kind::tuple};
    for (std::size_t i = 0; i < size; ++i) node.items.push_back(pop());
    std::reverse(node.items.begin(), node.items.end());
    push(std::move(node));
  }

  void extend(Kind kind, const char* what, const std::vector<PickleId>& items) {
    auto& all = top_of(kind, what).items;
    all.insert(all.end(), items.begin(), items.end());
  }

  void extend_dict(const std::vector<PickleId>& items) {
    if (items.size() % 2 != 0) broken("a key without a value: the pickle is corrupt");
    extend(Kind::dict, "a dict", items);
  }

  void set_item() {
    const PickleId value = pop();
    const PickleId key = pop();
    extend_dict({key, value});
  }

  void remember(std::uint32_t slot) {
    if (memo_.size() >= kMaxNodes) broken("more than {} values remembered", kMaxNodes);
    memo_[slot] = top();
  }

  void recall(std::uint32_t slot) {
    const auto it = memo_.find(slot);
    if (it == memo_.end()) broken("the pickle refers to value {}, which it has not set: it is corrupt", slot);
    push_id(it->second);
  }

  void push_global(const std::string& module, const std::string& name) {
    std::string full = module + "." + name;
    if (full != kOrderedDict && !globals_.contains(full)) {
      broken(
          "refuses to load {}: a state dict needs no such thing, and unpickling it could run code. If you trust the "
          "file, load it with PyTorch and save its tensors alone, best as safetensors",
          quote(full));
    }
    push({.kind = Kind::global, .text = std::move(full)});
  }

  void push_global_of_lines() {
    const std::string module = line();
    const std::string name = line();
    push_global(module, name);
    // INST would call it at once, which no writer has done since protocol 1.
    if (static_cast<Op>(bytes_[op_at_]) == Op::inst) broken("the opcode INST has no place in a state dict");
  }

  void push_global_of_stack() {
    const PickleId name = pop();
    const PickleId module = pop();
    if (graph_[name].kind != Kind::text || graph_[module].kind != Kind::text) {
      broken("a global's name must be a text: the pickle is corrupt");
    }
    push_global(graph_[module].text, graph_[name].text);
  }

  void call() {
    const PickleId arguments = pop();
    const PickleId callable = pop();
    if (graph_[callable].kind != Kind::global || graph_[arguments].kind != Kind::tuple) {
      broken("a call of something that is no known function: refused");
    }
    if (graph_[callable].text != kOrderedDict) {
      push({.kind = Kind::call, .items = {callable, arguments}});
      return;
    }
    if (!graph_[arguments].items.empty()) broken("an OrderedDict made with arguments: not what PyTorch writes");
    push({.kind = Kind::dict});
  }

  /// Attributes of an OrderedDict: PyTorch hangs the modules' versions on it. They are of no use here.
  void build() {
    pop();
    top_of(Kind::dict, "a dict to set attributes of");
  }

  void push_persistent() {
    const PickleId id = pop();
    push({.kind = Kind::persistent, .items = {id}});
  }

  std::span<const std::byte> bytes_;
  const std::set<std::string, std::less<>>& globals_;
  const std::string& where_;
  std::size_t at_ = 0;
  std::size_t op_at_ = 0;  // of the opcode at work, for messages
  PickleGraph graph_;
  std::vector<PickleId> stack_;
  std::vector<std::size_t> marks_;  // heights of the stack
  std::unordered_map<std::uint32_t, PickleId> memo_;
};

}  // namespace

PickleGraph unpickle(std::span<const std::byte> bytes, const std::set<std::string, std::less<>>& globals,
                     const std::string& where) {
  return Unpickler(bytes, globals, where).run();
}

}  // namespace molt
