#include "models/checkpoints/plain_pickle.h"

#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <utility>

#include "apo/base/error.h"

namespace apo::models {
namespace {

constexpr int kDeepest = 32;  // a state_dict needs 6

enum class Kind { none, boolean, integer, text, tuple, dictionary, global, storage, tensor, mark };

struct Items;

struct Value {
  Kind kind = Kind::none;
  int64_t number = 0;                                // boolean, integer
  std::string text = {};                             // text; global: "module name"
  std::shared_ptr<Items> items = {};                 // tuple; dictionary: key, value, key, value ...
  std::shared_ptr<const PickledTensor> tensor = {};  // storage, tensor
};

struct Items {
  std::vector<Value> values;
  int depth = 0;
  bool is_inside = false;  // of others, whose depth rests on this one's: it takes no more
};

struct Storage {
  std::string_view name;
  at::ScalarType type;
};
constexpr std::array<Storage, 4> kStorages{{{"torch FloatStorage", at::kFloat},
                                            {"torch BFloat16Storage", at::kBFloat16},
                                            {"torch HalfStorage", at::kHalf},
                                            {"torch DoubleStorage", at::kDouble}}};

class Machine {
 public:
  Machine(std::string_view pickle, const std::string& where) : rest_(pickle), where_(where) {}

  Value run() {
    while (true) {
      const auto code = static_cast<unsigned char>(byte());
      if (code == '.') return pop();
      step(code);
    }
  }

  template <class... Pieces>
  [[noreturn]] void fail(const Pieces&... pieces) const {
    throw DataError(concat(where_, ": ", pieces...));
  }

 private:
  std::string_view take(size_t count) {
    if (rest_.size() < count) fail("truncated: the pickle ends within an instruction");
    const std::string_view taken = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return taken;
  }
  char byte() { return take(1)[0]; }
  // Little-endian, unsigned.
  uint64_t number(size_t bytes) {
    uint64_t value = 0;
    const std::string_view taken = take(bytes);
    for (size_t i = bytes; i-- > 0;) value = value << 8 | static_cast<unsigned char>(taken[i]);
    return value;
  }
  std::string line() {
    const size_t end = rest_.find('\n');
    if (end == std::string_view::npos) fail("truncated: the pickle ends within a name");
    std::string text(take(end));
    take(1);
    return text;
  }

  void push(Value value) { stack_.push_back(std::move(value)); }
  Value pop() {
    if (stack_.empty() || stack_.back().kind == Kind::mark) fail("damaged: an instruction lacks its value");
    Value value = std::move(stack_.back());
    stack_.pop_back();
    return value;
  }
  // Those behind the last mark, which is taken away.
  std::vector<Value> pop_to_mark() {
    const auto is_mark = [](const Value& value) { return value.kind == Kind::mark; };
    const auto mark = std::find_if(stack_.rbegin(), stack_.rend(), is_mark);
    if (mark == stack_.rend()) fail("damaged: an instruction lacks its mark");
    std::vector<Value> values(std::make_move_iterator(mark.base()), std::make_move_iterator(stack_.end()));
    stack_.erase(mark.base() - 1, stack_.end());
    return values;
  }
  Value& top() {
    if (stack_.empty()) fail("damaged: an instruction lacks its value");
    return stack_.back();
  }

  void push_number(int64_t value) { push({.kind = Kind::integer, .number = value}); }
  void push_text(size_t length) { push({.kind = Kind::text, .text = std::string(take(length))}); }
  // Puts values into a tuple or dictionary.
  void fill(Items& items, std::vector<Value> values) {
    for (const Value& value : values) {
      if (!value.items) continue;
      value.items->is_inside = true;
      items.depth = std::max(items.depth, value.items->depth + 1);
    }
    if (items.depth > kDeepest || items.is_inside) fail("nested otherwise than a dictionary of tensors");
    items.values.insert(items.values.end(), std::make_move_iterator(values.begin()),
                        std::make_move_iterator(values.end()));
  }
  void push_tuple(std::vector<Value> values) {
    Value tuple{.kind = Kind::tuple, .items = std::make_shared<Items>()};
    fill(*tuple.items, std::move(values));
    push(std::move(tuple));
  }
  void push_last(size_t count) {
    std::vector<Value> items(count);
    for (size_t i = count; i-- > 0;) items[i] = pop();
    push_tuple(std::move(items));
  }
  void push_dictionary() { push({.kind = Kind::dictionary, .items = std::make_shared<Items>()}); }
  void set_items(std::vector<Value> values) {
    const Value& dictionary = top();
    if (dictionary.kind != Kind::dictionary || values.size() % 2 != 0)
      fail("expected a dictionary of tensors, found something else");
    fill(*dictionary.items, std::move(values));
  }
  void push_global(std::string name) {
    static constexpr std::array<std::string_view, 3> known{
        "collections OrderedDict", "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter"};
    const auto is_storage = [&name](const Storage& storage) { return storage.name == name; };
    if (std::ranges::find(known, name) == known.end() && std::ranges::none_of(kStorages, is_storage))
      fail("expected plain tensors of float32, bfloat16, float16 or float64, found \"", name.substr(0, 80),
           "\", which only running the file could make; convert it to .safetensors where you trust it");
    push({.kind = Kind::global, .text = std::move(name)});
  }

  const Value& item(const std::vector<Value>& items, size_t i, Kind kind, const char* what) const {
    if (i >= items.size() || items[i].kind != kind)
      fail("damaged: ", what, " is not as torch.save writes it");
    return items[i];
  }
  std::vector<int64_t> numbers_of(const Value& tuple) const {
    std::vector<int64_t> numbers;
    for (const Value& each : tuple.items->values) {
      if (each.kind != Kind::integer || each.number < 0)
        fail("damaged: a tensor's shape is not one of numbers");
      numbers.push_back(each.number);
    }
    return numbers;
  }
  // ("storage", type, record, device, numbers)
  void push_storage() {
    const Value id = pop();
    const char* what = "a storage";
    if (id.kind != Kind::tuple) fail("damaged: ", what, " is not as torch.save writes it");
    PickledTensor storage;
    if (item(id.items->values, 0, Kind::text, what).text != "storage") fail("damaged: expected a storage");
    const std::string& type = item(id.items->values, 1, Kind::global, what).text;
    const auto* found = std::ranges::find_if(kStorages, [&](const Storage& s) { return s.name == type; });
    if (found == kStorages.end()) fail("damaged: expected a storage of numbers, found ", type);
    storage.type = found->type;
    storage.storage = item(id.items->values, 2, Kind::text, what).text;
    storage.storage_size = item(id.items->values, 4, Kind::integer, what).number;
    push({.kind = Kind::storage, .tensor = std::make_shared<PickledTensor>(std::move(storage))});
  }
  void reduce() {
    const Value arguments = pop(), function = pop();
    if (function.kind != Kind::global || arguments.kind != Kind::tuple)
      fail("damaged: expected a call as torch.save writes it");
    const std::vector<Value>& items = arguments.items->values;
    const char* what = "a tensor";
    if (function.text == "collections OrderedDict" && items.empty()) {
      push_dictionary();
    } else if (function.text == "torch._utils _rebuild_tensor_v2") {
      PickledTensor tensor = *item(items, 0, Kind::storage, what).tensor;
      tensor.offset = item(items, 1, Kind::integer, what).number;
      tensor.sizes = numbers_of(item(items, 2, Kind::tuple, what));
      tensor.strides = numbers_of(item(items, 3, Kind::tuple, what));
      push({.kind = Kind::tensor, .tensor = std::make_shared<PickledTensor>(std::move(tensor))});
    } else if (function.text == "torch._utils _rebuild_parameter") {
      push(item(items, 0, Kind::tensor, what));
    } else {
      fail("expected plain tensors, found a call of ", function.text);
    }
  }

  void remember(uint64_t place) { memory_[place] = top(); }
  void recall(uint64_t place) {
    const auto found = memory_.find(place);
    if (found == memory_.end()) fail("damaged: nothing was kept under ", place);
    push(found->second);
  }

  void step(unsigned char code) {
    switch (code) {
      case 0x80:  // PROTO
        take(1);
        return;
      case 0x95:  // FRAME
        take(8);
        return;
      case '(':
        return push({.kind = Kind::mark});
      case 'N':
        return push({});
      case 0x88:
      case 0x89:
        return push({.kind = Kind::boolean, .number = code == 0x88});
      case 'K':
        return push_number(static_cast<int64_t>(number(1)));
      case 'M':
        return push_number(static_cast<int64_t>(number(2)));
      case 'J':
        return push_number(static_cast<int32_t>(number(4)));
      case 0x8a:
        return push_long();
      case 'X':
        return push_text(number(4));
      case 0x8c:
        return push_text(number(1));
      case 'c': {
        const std::string module = line();
        return push_global(module + " " + line());
      }
      case 0x93: {  // STACK_GLOBAL
        const Value name = pop(), module = pop();
        return push_global(module.text + " " + name.text);
      }
      case ')':
        return push_tuple({});
      case 't':
        return push_tuple(pop_to_mark());
      case 0x85:
      case 0x86:
      case 0x87:
        return push_last(code - 0x84U);
      case '}':
        return push_dictionary();
      case 's': {
        Value value = pop(), key = pop();
        std::vector<Value> pair;
        pair.push_back(std::move(key));
        pair.push_back(std::move(value));
        return set_items(std::move(pair));
      }
      case 'u':
        return set_items(pop_to_mark());
      case 'Q':
        return push_storage();
      case 'R':
        return reduce();
      case 'b':  // BUILD: a state_dict's _metadata, of which nothing is wanted
        pop();
        if (top().kind != Kind::dictionary) fail("expected plain tensors, found an object with a state");
        return;
      case 'q':
        return remember(number(1));
      case 'r':
        return remember(number(4));
      case 0x94:  // MEMOIZE
        return remember(memory_.size());
      case 'h':
        return recall(number(1));
      case 'j':
        return recall(number(4));
      default:
        fail("expected a pickled dictionary of tensors, found the instruction ", static_cast<int>(code));
    }
  }

  // LONG1: bytes of a signed number.
  void push_long() {
    const size_t bytes = number(1);
    if (bytes > 8) fail("damaged: a number of ", bytes, " bytes");
    uint64_t value = number(bytes);
    if (bytes > 0 && bytes < 8 && (value >> (8 * bytes - 1) & 1) != 0) value |= ~uint64_t{0} << (8 * bytes);
    push_number(static_cast<int64_t>(value));
  }

  std::string_view rest_;
  const std::string& where_;
  std::vector<Value> stack_;
  std::map<uint64_t, Value> memory_;
};

}  // namespace

std::map<std::string, PickledTensor> read_plain_pickle(std::string_view pickle, const std::string& where) {
  Machine machine(pickle, where);
  const Value whole = machine.run();
  if (whole.kind != Kind::dictionary) machine.fail("expected a dictionary of tensors, found something else");
  std::map<std::string, PickledTensor> tensors;
  const std::vector<Value>& values = whole.items->values;
  for (size_t i = 0; i + 1 < values.size(); i += 2) {
    const Value &key = values[i], &value = values[i + 1];
    if (key.kind != Kind::text || value.kind != Kind::tensor)
      machine.fail("expected a dictionary of tensors, found ",
                   key.kind == Kind::text ? concat("\"", key.text.substr(0, 80), "\", which is none")
                                          : std::string("a key that is no text"));
    tensors[key.text] = *value.tensor;
  }
  return tensors;
}

}  // namespace apo::models
