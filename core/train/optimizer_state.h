// OptimizerState: master weights and moments of the segments this rank owns, and the walk that updates them, wherever
// they live: on the device, in host memory (ZeRO-Offload, arXiv 2101.06840) or in a file (ZeRO-Infinity, arXiv
// 2104.07857).
//
// On the device: one pass over each segment, on the given stream. Elsewhere the processor walks over chunks of at most
// 2^20 elements; while it works on one, the weights of the last are copied to the device and published block by block,
// so that the next step's forward starts behind its first block.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/device/device.h"
#include "core/train/zero_store.h"

namespace trident {

enum class StatePart : uint8_t { master, first_moment, second_moment };

class OptimizerState {
 public:
  /// Allocates everything. Store and device outlive the state.
  OptimizerState(ZeroStore&, Device&);

  /// A run of elements of a segment with its state at hand: f32, but for the weight and moments in bf16.
  struct Piece {
    const Segment* segment = nullptr;
    int64_t begin = 0;  ///< in the segment
    Tensor grad, master, m, v;
    Tensor weight;  ///< where the rounded master goes; `master` itself in f32 on the device. Absent when none is wanted
  };
  /// Calls operations for one piece. Where the state is not on the device it is called on the processor, later: what it
  /// refers to is then in host memory and stays.
  using Visit = std::function<void(const Ops&, Stream, const Piece&)>;

  /// Visits all state in order of blocks and publishes the weights. After all work submitted to the stream so far.
  void update(const Visit&, Stream);
  /// Rounds the master weights to the compute dtype and publishes them: after initialisation and loading.
  void publish_masters(Stream);

  /// Elements [begin, end) of a segment to, or from, f32 values in host memory; to moments in bf16 they are rounded to
  /// nearest. Waits until that is done.
  void read(const Segment&, StatePart, int64_t begin, int64_t end, float* out);
  void write(const Segment&, StatePart, int64_t begin, int64_t end, const float* values);
  /// All of a segment's part is zero.
  void clear(const Segment&, StatePart);

 private:
  /// One block's states, flat over the part of the block that this rank owns.
  struct Block {
    int64_t block = 0;
    int64_t numel = 0;
    Memory memory[3];  ///< as StatePart; the master's is empty where the weight is the master
    std::vector<const Segment*> segments;
  };
  /// What is updated in one go: a whole block on the device, a run of it elsewhere.
  struct Chunk {
    const Block* block = nullptr;
    int64_t begin = 0, end = 0;
  };
  /// Where the weights of a chunk wait for their copy to the device.
  struct Stage {
    Memory memory;
    Event written, sent;
  };

  bool on_device() const { return !store_.options().offload; }
  DType dtype_of(StatePart part) const { return part == StatePart::master ? DType::f32 : store_.options().state_dtype; }
  Tensor part_of(const Block&, StatePart) const;
  Tensor part_of(const Segment&, StatePart) const;
  /// The pieces of a chunk; `stage`: memory for the weights, absent where they are written in place.
  std::vector<Piece> pieces_of(const Chunk&, Tensor stage) const;
  void walk_here(const Visit&, Stream);
  void walk_on_host(const Visit&, Stream);
  void send_weights(const Chunk&, Stage&);

  ZeroStore& store_;
  Device& device_;
  std::vector<Block> blocks_;
  std::vector<Chunk> chunks_;
  std::array<Stage, 2> stages_;
};

}  // namespace trident
