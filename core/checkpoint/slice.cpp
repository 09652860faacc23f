#include "core/checkpoint/slice.h"

#include <algorithm>

#include "core/base/error.h"

namespace trident {

int64_t Slice::numel() const { return shape_numel(size); }

std::string Slice::describe() const {
  std::string text = "[";
  for (size_t d = 0; d < begin.size(); ++d) {
    text += build_string(d > 0 ? "," : "", begin[d], ":", begin[d] + size[d]);
  }
  return text + "]";
}

int64_t shape_numel(std::span<const int64_t> shape) {
  int64_t n = 1;
  for (const int64_t dim : shape) n *= dim;
  return n;
}

std::string describe_shape(std::span<const int64_t> shape) {
  std::string text = "[";
  for (size_t d = 0; d < shape.size(); ++d) text += build_string(d > 0 ? "," : "", shape[d]);
  return text + "]";
}

Slice whole(std::span<const int64_t> shape) {
  return {std::vector<int64_t>(shape.size(), 0), std::vector<int64_t>(shape.begin(), shape.end())};
}

bool inside(const Slice& slice, std::span<const int64_t> shape) {
  if (slice.begin.size() != shape.size() || slice.size.size() != shape.size()) return false;
  for (size_t d = 0; d < shape.size(); ++d) {
    // Subtraction cannot overflow where the sum of two numbers from a file could.
    if (slice.begin[d] < 0 || slice.size[d] < 0 || slice.begin[d] > shape[d]) return false;
    if (slice.size[d] > shape[d] - slice.begin[d]) return false;
  }
  return true;
}

std::optional<Slice> intersection(const Slice& a, const Slice& b) {
  ensure(a.begin.size() == b.begin.size(), "slices of one tensor have as many dimensions");
  Slice common = a;
  for (size_t d = 0; d < a.begin.size(); ++d) {
    const int64_t first = std::max(a.begin[d], b.begin[d]);
    const int64_t last = std::min(a.begin[d] + a.size[d], b.begin[d] + b.size[d]);
    if (first >= last) return std::nullopt;
    common.begin[d] = first;
    common.size[d] = last - first;
  }
  return common;
}

namespace {

/// Appends the boxes of [begin, end), indices into dimensions `depth`... with the indices before fixed in `fixed`.
void add_rectangles(std::span<const int64_t> shape, size_t depth, const std::vector<int64_t>& fixed, int64_t begin,
                    int64_t end, std::vector<Slice>& out) {
  if (begin >= end) return;
  const int64_t row = shape_numel(shape.subspan(depth + 1));
  const auto add_rows = [&](int64_t first, int64_t last) {
    if (first >= last) return;
    Slice box = whole(shape);
    for (size_t d = 0; d < depth; ++d) {
      box.begin[d] = fixed[d];
      box.size[d] = 1;
    }
    box.begin[depth] = first;
    box.size[depth] = last - first;
    out.push_back(std::move(box));
  };
  const auto add_part_of_row = [&](int64_t index, int64_t first, int64_t last) {
    std::vector<int64_t> deeper = fixed;
    deeper.push_back(index);
    add_rectangles(shape, depth + 1, deeper, first, last, out);
  };

  const int64_t first_whole = (begin + row - 1) / row, end_whole = end / row;
  if (first_whole > end_whole) {  // inside one row
    add_part_of_row(end_whole, begin - end_whole * row, end - end_whole * row);
    return;
  }
  if (begin < first_whole * row) add_part_of_row(first_whole - 1, begin - (first_whole - 1) * row, row);
  add_rows(first_whole, end_whole);
  if (end > end_whole * row) add_part_of_row(end_whole, 0, end - end_whole * row);
}

}  // namespace

std::vector<Slice> rectangles(std::span<const int64_t> shape, int64_t flat_begin, int64_t flat_end) {
  ensure(!shape.empty() && flat_begin >= 0 && flat_begin <= flat_end && flat_end <= shape_numel(shape),
         "a flat range stays inside its tensor");
  std::vector<Slice> out;
  if (flat_begin < flat_end) add_rectangles(shape, 0, {}, flat_begin, flat_end, out);
  return out;
}

std::string coverage_problem(const Slice& box, std::span<const Slice> slices) {
  std::vector<const Slice*> sorted;
  for (const Slice& slice : slices) sorted.push_back(&slice);
  std::sort(sorted.begin(), sorted.end(), [](const Slice* a, const Slice* b) { return a->begin < b->begin; });
  int64_t total = 0;
  for (size_t i = 0; i < sorted.size(); ++i) {
    // Sorted by the first dimension: only those that begin before this one ends can overlap it.
    for (size_t j = i + 1; j < sorted.size() && sorted[j]->begin[0] < sorted[i]->begin[0] + sorted[i]->size[0]; ++j) {
      if (const auto common = intersection(*sorted[i], *sorted[j])) {
        return build_string("elements ", common->describe(), " are in two pieces, ", sorted[i]->describe(), " and ",
                            sorted[j]->describe());
      }
    }
    total += sorted[i]->numel();
  }
  if (total == box.numel()) return "";
  return build_string(box.numel() - total, " of the ", box.numel(), " elements of ", box.describe(),
                      " are in no piece");
}

Runs::Runs(const Slice& part, const Slice& from, const Slice& to) {
  const size_t dims = part.begin.size();
  ensure(dims > 0 && from.begin.size() == dims && to.begin.size() == dims, "the boxes are of one tensor");
  int64_t stride_from = 1, stride_to = 1;
  bool contiguous = true;
  count_ = 1;
  for (size_t d = dims; d-- > 0;) {
    const int64_t in_from = part.begin[d] - from.begin[d], in_to = part.begin[d] - to.begin[d];
    ensure(in_from >= 0 && in_to >= 0 && in_from + part.size[d] <= from.size[d] && in_to + part.size[d] <= to.size[d],
           "the part lies inside both boxes");
    from_ += in_from * stride_from;
    to_ += in_to * stride_to;
    if (contiguous) {
      count_ *= part.size[d];
    } else {
      index_.push_back(0);
      extent_.push_back(part.size[d]);
      stride_from_.push_back(stride_from);
      stride_to_.push_back(stride_to);
    }
    contiguous = contiguous && part.size[d] == from.size[d] && part.size[d] == to.size[d];
    stride_from *= from.size[d];
    stride_to *= to.size[d];
  }
  done_ = part.numel() == 0;
}

std::optional<ElementRun> Runs::next() {
  if (done_) return std::nullopt;
  const ElementRun run = {from_, to_, count_};
  done_ = true;
  for (size_t d = 0; d < index_.size(); ++d) {  // innermost first: the odometer's next position
    from_ += stride_from_[d];
    to_ += stride_to_[d];
    if (++index_[d] < extent_[d]) {
      done_ = false;
      break;
    }
    from_ -= index_[d] * stride_from_[d];
    to_ -= index_[d] * stride_to_[d];
    index_[d] = 0;
  }
  return run;
}

}  // namespace trident
