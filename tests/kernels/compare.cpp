#include "compare.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "core/base/error.h"
#include "kernels/check.h"
#include "kernels/reference/reference_ops.h"

namespace trident::cases {
namespace {

constexpr char kCanary = '\xff';  // NaN in every float dtype, -1 in i32
constexpr size_t kAlignment = 256;

class HostRoom final : public Room {
 public:
  char* alloc(size_t bytes) override {
    blocks_.push_back(std::make_unique<char[]>(bytes + kAlignment));
    const auto address = reinterpret_cast<uintptr_t>(blocks_.back().get());
    return blocks_.back().get() + (kAlignment - address % kAlignment) % kAlignment;
  }
  void release_all() override { blocks_.clear(); }
  void upload(char* to, const std::vector<char>& from) override { std::memcpy(to, from.data(), from.size()); }
  std::vector<char> download(const char* from, size_t bytes) override { return {from, from + bytes}; }
  Place place() const override { return Place::host; }
  Stream stream() const override { return {}; }

 private:
  std::vector<std::unique_ptr<char[]>> blocks_;
};

template <class T>
void encode_as(const Values& values, std::vector<char>& bytes) {
  for (size_t i = 0; i < values.size(); ++i) {
    T element;
    if constexpr (std::is_same_v<T, bf16> || std::is_same_v<T, f16>) {
      element = T(static_cast<float>(values[i]));
    } else {
      element = static_cast<T>(values[i]);
    }
    std::memcpy(bytes.data() + i * sizeof(T), &element, sizeof(T));
  }
}

template <class T>
Values decode_as(const std::vector<char>& bytes) {
  Values values(bytes.size() / sizeof(T));
  for (size_t i = 0; i < values.size(); ++i) {
    T element;
    std::memcpy(&element, bytes.data() + i * sizeof(T), sizeof(T));
    if constexpr (std::is_same_v<T, bf16> || std::is_same_v<T, f16>) {
      values[i] = static_cast<double>(static_cast<float>(element));
    } else {
      values[i] = static_cast<double>(element);
    }
  }
  return values;
}

std::vector<char> encode(DType dtype, const Values& values) {
  std::vector<char> bytes(values.size() * dtype_bytes(dtype));
  switch (dtype) {
    case DType::f64: encode_as<double>(values, bytes); break;
    case DType::f32: encode_as<float>(values, bytes); break;
    case DType::bf16: encode_as<bf16>(values, bytes); break;
    case DType::f16: encode_as<f16>(values, bytes); break;
    case DType::i32: encode_as<int32_t>(values, bytes); break;
    default: throw InternalError(build_string("no case has operands of dtype ", dtype_name(dtype)));
  }
  return bytes;
}

Values decode(DType dtype, const std::vector<char>& bytes) {
  switch (dtype) {
    case DType::f64: return decode_as<double>(bytes);
    case DType::f32: return decode_as<float>(bytes);
    case DType::bf16: return decode_as<bf16>(bytes);
    case DType::f16: return decode_as<f16>(bytes);
    case DType::i32: return decode_as<int32_t>(bytes);
    default: throw InternalError(build_string("no case has operands of dtype ", dtype_name(dtype)));
  }
}

/// Which operands lie one element off their alignment.
enum class Offsets { none, all, one };

/// Lays a case's operands out in a room, each between two red zones.
class Placed final : public Arguments {
 public:
  Placed(const std::vector<Operand>& operands, Room& room, Offsets offsets, size_t chosen = 0) : room_(room) {
    for (size_t i = 0; i < operands.size(); ++i) {
      const Operand& o = operands[i];
      const size_t offset = offsets == Offsets::all || (offsets == Offsets::one && i == chosen) ? 1 : 0;
      Block block = make_block(Tensor(nullptr, o.dtype, o.shape, room.place()), offset);
      if (o.use != Use::out) block.initial = encode(o.dtype, o.values);
      ensure(block.initial.size() == block.tensor.bytes(), "an operand has as many values as its shape");
      upload(block);
      blocks_.emplace(o.name, std::move(block));
    }
  }
  ~Placed() override { room_.release_all(); }

  Tensor operator[](std::string_view name) const override {
    const auto found = blocks_.find(name);
    if (found == blocks_.end()) throw InternalError(build_string("the case has no operand named ", name));
    return found->second.tensor;
  }

  Tensor scratch(size_t bytes) override {
    if (bytes == 0) return {};
    Block block = make_block(Tensor(nullptr, DType::u8, {static_cast<int64_t>(bytes)}, room_.place()), 0);
    upload(block);
    const Tensor tensor = block.tensor;
    blocks_.emplace(build_string("scratch ", blocks_.size()), std::move(block));
    return tensor;
  }

  Stream stream() const override { return room_.stream(); }

  std::vector<char> bytes(std::string_view name) const {
    const Tensor t = (*this)[name];
    return room_.download(static_cast<const char*>(t.data), t.bytes());
  }

  bool changed(std::string_view name) const { return bytes(name) != blocks_.find(name)->second.initial; }

  /// Names of the tensors whose red zones were written.
  std::vector<std::string> trampled() const {
    std::vector<std::string> names;
    for (const auto& [name, block] : blocks_) {
      const size_t before = block.before, size = block.tensor.bytes();
      const std::vector<char> all = room_.download(block.base, before + size + room_.zone());
      for (size_t i = 0; i < all.size(); ++i) {
        if ((i < before || i >= before + size) && all[i] != kCanary) {
          const auto at = static_cast<int64_t>(i) - static_cast<int64_t>(before);
          names.push_back(build_string(name, " at byte ", at, " of ", size));
          break;
        }
      }
    }
    return names;
  }

 private:
  struct Block {
    char* base = nullptr;
    size_t before = 0;  ///< bytes of the red zone in front
    Tensor tensor;
    std::vector<char> initial;
  };

  Block make_block(Tensor shape, size_t offset) {
    const size_t before = room_.zone() + offset * dtype_bytes(shape.dtype);
    const size_t bytes = before + shape.bytes() + room_.zone();
    Block block{room_.alloc(bytes), before, shape, std::vector<char>(shape.bytes(), kCanary)};
    block.tensor.data = block.base + before;
    return block;
  }

  void upload(const Block& block) {
    std::vector<char> all(block.before + block.initial.size() + room_.zone(), kCanary);
    std::copy(block.initial.begin(), block.initial.end(), all.begin() + static_cast<ptrdiff_t>(block.before));
    room_.upload(block.base, all);
  }

  Room& room_;
  std::map<std::string, Block, std::less<>> blocks_;
};

/// The worst element of an output, as a line; empty when every element is within its tolerance.
std::string worst_element(const Operand& o, const Values& got, const Values& want, const Bounds& bounds) {
  const auto bound = bounds.find(o.name);
  ensure(bound == bounds.end() || bound->second.size() == want.size(), "a bound for every element");
  const double eps = dtype_epsilon(o.dtype);
  double worst = 0;
  std::string line;
  for (size_t i = 0; i < want.size(); ++i) {
    double target = want[i], tolerance = 0;
    if (bound == bounds.end()) {
      target = round_to(o.dtype, want[i]);
    } else {
      tolerance = bound->second[i] * (1 + eps) + eps * std::abs(want[i]) + underflow(o.dtype);
    }
    if (got[i] == target) continue;  // also both infinite
    const double error = std::abs(got[i] - target);
    if (error <= tolerance) continue;
    const double excess = std::isnan(error) ? std::numeric_limits<double>::infinity() : error / (tolerance + 0x1p-1022);
    if (excess <= worst) continue;
    worst = excess;
    line = build_string(o.name, "[", i, "] of ", want.size(), ": got ", got[i], ", want ", target, ", error ", error,
                        ", tolerance ", tolerance);
  }
  return line;
}

std::map<std::string, Values, std::less<>> decode_all(const std::vector<Operand>& operands, const Placed& placed) {
  std::map<std::string, Values, std::less<>> all;
  for (const Operand& o : operands) all[o.name] = decode(o.dtype, placed.bytes(o.name));
  return all;
}

std::map<std::string, Values, std::less<>> run_oracle(const Case& c, std::vector<Operand> operands) {
  for (Operand& o : operands) {
    if (is_float(o.dtype)) o.dtype = DType::f64;
  }
  const std::unique_ptr<Room> room = make_host_room();
  Placed placed(operands, *room, Offsets::none);
  c.run(*make_reference_ops(), placed);
  return decode_all(operands, placed);
}

std::vector<std::string> check_run(const std::vector<Operand>& operands, const Placed& placed, const Oracle& oracle,
                                   const Bounds& bounds) {
  std::vector<std::string> wrong;
  for (const Operand& o : operands) {
    if (o.use == Use::in) {
      if (placed.changed(o.name)) wrong.push_back(build_string("input ", o.name, " was changed"));
      continue;
    }
    const std::string line = worst_element(o, decode(o.dtype, placed.bytes(o.name)), oracle.after(o.name), bounds);
    if (!line.empty()) wrong.push_back(line);
  }
  for (const std::string& name : placed.trampled()) wrong.push_back("written outside " + name);
  return wrong;
}

}  // namespace

std::unique_ptr<Room> make_host_room() { return std::make_unique<HostRoom>(); }

std::vector<std::string> compare(const Ops& table, const Case& c, Room& room) {
  const std::vector<Operand> operands = c.operands();
  std::map<std::string, Values, std::less<>> before;
  for (const Operand& o : operands) before[o.name] = o.values;
  const Oracle oracle(std::move(before), run_oracle(c, operands));
  const Bounds bounds = c.bounds(oracle);

  std::vector<std::string> wrong;
  std::map<std::string, std::vector<char>> first;
  const int aligned = room.repeats();
  // Another operand in each case: whoever forgets one of several alignments is found.
  const size_t chosen = seed_of(c.name) % operands.size();
  const int runs = aligned + (c.one_alignment ? 1 : 2);
  for (int run = 0; run < runs; ++run) {
    const Offsets offsets = run < aligned ? Offsets::none : run == aligned ? Offsets::all : Offsets::one;
    room.begin_run(run);
    Placed placed(operands, room, offsets, chosen);
    c.run(table, placed);
    for (const std::string& line : check_run(operands, placed, oracle, bounds)) {
      constexpr const char* kNames[] = {"aligned", "unaligned", "one unaligned"};
      wrong.push_back(build_string(c.name, " (", kNames[static_cast<int>(offsets)], "): ", line));
    }
    for (const Operand& o : operands) {
      const std::vector<char> bytes = placed.bytes(o.name);
      if (first.count(o.name) == 0) first[o.name] = bytes;
      if (run < aligned && bytes != first[o.name]) {
        wrong.push_back(
            build_string(c.name, ": ", o.name, " differs between two equal runs (the first and number ", run + 1, ")"));
      }
    }
  }
  return wrong;
}

std::string join_lines(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

}  // namespace trident::cases
