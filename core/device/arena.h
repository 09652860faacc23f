// Arena: a bump allocator over one Memory. Sizes are learnt by running the real code on a dry arena (no memory, any
// size, tensors with data == nullptr); the real arena is then made with exactly the peak.
#pragma once

#include <cstddef>
#include <initializer_list>
#include <limits>

#include "core/base/error.h"
#include "core/base/integer.h"
#include "core/base/tensor.h"

namespace trident {

class Arena {
 public:
  static constexpr size_t kAlign = 64;

  /// A dry arena: hands out dry tensors and counts.
  Arena() : capacity_(std::numeric_limits<size_t>::max()) {}
  /// Over memory that outlives it; `base == nullptr` with a capacity is dry but bounded.
  Arena(void* base, size_t capacity, Place place)
      : base_(static_cast<char*>(base)), capacity_(capacity), place_(place) {}

  /// An uninitialised tensor, 64-byte aligned. Throws InternalError beyond the capacity: the plan was wrong.
  Tensor alloc(DType dtype, std::initializer_list<int64_t> shape) {
    Tensor t(base_ == nullptr ? nullptr : base_ + used_, dtype, shape, place_);
    const size_t bytes = round_up(t.bytes(), kAlign);
    ensure(bytes <= capacity_ - used_, "an arena holds what the plan gave it");
    used_ += bytes;
    if (used_ > peak_) peak_ = used_;
    return t;
  }

  size_t used() const { return used_; }
  size_t peak() const { return peak_; }
  /// Frees everything allocated since `used()` was `mark`.
  void release_to(size_t mark) { used_ = mark; }

 private:
  char* base_ = nullptr;
  size_t capacity_ = 0;
  Place place_ = Place::host;
  size_t used_ = 0, peak_ = 0;
};

/// Frees on scope exit what was allocated inside: scratch is a stack.
class ScratchScope {
 public:
  explicit ScratchScope(Arena& arena) : arena_(arena), mark_(arena.used()) {}
  ~ScratchScope() { arena_.release_to(mark_); }
  ScratchScope(const ScratchScope&) = delete;
  ScratchScope& operator=(const ScratchScope&) = delete;

 private:
  Arena& arena_;
  size_t mark_;
};

}  // namespace trident
