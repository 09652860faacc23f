#include "core/train/state.h"

#include <algorithm>
#include <functional>

#include "core/base/error.h"

namespace trident {
namespace {

constexpr int64_t kBoxElements = int64_t{4} << 20;

struct Kind {
  const char* prefix;
  StatePart part;
};
constexpr Kind kWeights{"model.", StatePart::master};
constexpr Kind kMoments[] = {{"optimizer.exp_avg.", StatePart::first_moment},
                             {"optimizer.exp_avg_sq.", StatePart::second_moment}};

// Calls visit(box in the logical tensor, the segment's elements it covers) for boxes of bounded size. Padding rows,
// which lie behind the logical ones, are left out.
void for_each_box(const Segment& s, int tensor, int tensor_rank,
                  const std::function<void(Slice, int64_t begin, int64_t end)>& visit) {
  const LocalSlice where = local_slice(s.param->spec, tensor, tensor_rank);
  const int64_t logical_end = std::min(s.end, shape_numel(where.size));
  for (int64_t begin = s.begin; begin < logical_end; begin += kBoxElements) {
    int64_t at = begin;
    for (Slice& box : rectangles(where.size, begin, std::min(begin + kBoxElements, logical_end))) {
      const int64_t next = at + box.numel();
      for (size_t d = 0; d < box.begin.size(); ++d) box.begin[d] += where.begin[d];
      visit(std::move(box), at - s.begin, next - s.begin);
      at = next;
    }
  }
}

}  // namespace

StatePieces::StatePieces(const ZeroStore& store, OptimizerState& state) : state_(state) {
  int64_t largest = 0;
  const auto add = [&](const Kind& kind) {
    for (const Segment& s : store.segments()) {
      if (!s.counts) continue;
      for_each_box(s, store.tensor_size(), store.tensor_rank(), [&](Slice box, int64_t begin, int64_t end) {
        largest = std::max(largest, end - begin);
        pieces_.push_back({.tensor = kind.prefix + s.param->spec.name,
                           .shape = s.param->spec.shape,
                           .slice = std::move(box),
                           .data = Tensor(nullptr, DType::f32, {end - begin}),
                           .produce = [this, &s, part = kind.part, begin, end] {
                             state_.read(s, part, begin, end, buffer_.data());
                             return Tensor(buffer_.data(), DType::f32, {end - begin});
                           }});
      });
    }
  };
  add(kWeights);
  for (const Kind& kind : kMoments) add(kind);
  buffer_.resize(static_cast<size_t>(largest));
}

size_t state_bytes(const ZeroStore& store) {
  int64_t elements = 0;
  for (const Segment& s : store.segments()) {
    if (!s.counts) continue;
    const LocalSlice where = local_slice(s.param->spec, store.tensor_size(), store.tensor_rank());
    elements += std::max<int64_t>(0, std::min(s.end, shape_numel(where.size)) - s.begin);
  }
  return static_cast<size_t>(elements) * 3 * sizeof(float);
}

bool load_state(const ZeroStore& store, OptimizerState& state, Device& device, CheckpointReader& reader) {
  std::vector<float> buffer(static_cast<size_t>(kBoxElements));
  const auto load = [&](const Kind& kind) {
    for (const Segment& s : store.segments()) {
      const ParamSpec& spec = s.param->spec;
      const std::string name = kind.prefix + spec.name;
      if (const ManifestTensor& found = reader.find(name); found.shape != spec.shape) {
        throw UserError(build_string("the checkpoint ", reader.path(), " has ", name, " as ",
                                     describe_shape(found.shape), ", this config's model as ",
                                     describe_shape(spec.shape),
                                     ": set the model section as in the checkpoint's config"));
      }
      // Padding rows are zero and stay so.
      state.clear(s, kind.part);
      for_each_box(s, store.tensor_size(), store.tensor_rank(), [&](Slice box, int64_t begin, int64_t end) {
        const Tensor host(buffer.data(), DType::f32, {end - begin});
        reader.read(name, box, host);
        state.write(s, kind.part, begin, end, buffer.data());
      });
    }
  };
  load(kWeights);
  const bool moments = reader.has(build_string(kMoments[0].prefix, "embed.token.weight"));
  for (const Kind& kind : kMoments) {
    if (moments) {
      load(kind);
    } else {
      for (const Segment& s : store.segments()) state.clear(s, kind.part);
    }
  }
  state.publish_masters(device.stream(Role::compute));
  return moments;
}

}  // namespace trident
