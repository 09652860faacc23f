#include "core/train/state.h"

#include <algorithm>
#include <functional>

#include "core/base/error.h"

namespace trident {
namespace {

constexpr int64_t kBoxElements = int64_t{4} << 20;

struct Kind {
  const char* prefix;
  Tensor Segment::*state;
};
constexpr Kind kWeights{"model.", &Segment::master};
constexpr Kind kMoments[] = {{"optimizer.exp_avg.", &Segment::m}, {"optimizer.exp_avg_sq.", &Segment::v}};

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

StatePieces::StatePieces(const ZeroStore& store, Device& device) : device_(device) {
  int64_t largest = 0;
  const auto add = [&](const Kind& kind) {
    for (const Segment& s : store.segments()) {
      if (!s.counts) continue;
      for_each_box(s, store.tensor_size(), store.tensor_rank(), [&](Slice box, int64_t begin, int64_t end) {
        largest = std::max(largest, end - begin);
        const Tensor source = (s.*kind.state).rows(begin, end);
        pieces_.push_back({.tensor = kind.prefix + s.param->spec.name,
                           .shape = s.param->spec.shape,
                           .slice = std::move(box),
                           .data = Tensor(nullptr, DType::f32, {end - begin}),
                           .produce = [this, source] {
                             Tensor host(buffer_.data(), DType::f32, {source.numel()});
                             const Stream stream = device_.stream(Role::compute);
                             device_.copy(host, source, stream);
                             device_.synchronize(stream);
                             return host;
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

bool load_state(ZeroStore& store, Device& device, CheckpointReader& reader) {
  const Stream stream = device.stream(Role::compute);
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
      device.fill_zero(s.*kind.state, stream);
      for_each_box(s, store.tensor_size(), store.tensor_rank(), [&](Slice box, int64_t begin, int64_t end) {
        const Tensor host(buffer.data(), DType::f32, {end - begin});
        reader.read(name, box, host);
        device.copy((s.*kind.state).rows(begin, end), host, stream);
        device.synchronize(stream);
      });
    }
  };
  load(kWeights);
  const bool moments = reader.has(build_string(kMoments[0].prefix, "embed.token.weight"));
  for (const Kind& kind : kMoments) {
    if (moments) {
      load(kind);
    } else {
      for (const Segment& s : store.segments()) device.fill_zero(s.*kind.state, stream);
    }
  }
  store.publish_weights(stream, true);
  return moments;
}

}  // namespace trident
