// OptimizerState: master weights and moments of the segments this rank owns, and the walk that updates them, wherever
// they live: on the device, in host memory (ZeRO-Offload, arXiv 2101.06840) or in a file (ZeRO-Infinity, arXiv
// 2104.07857).
//
// On the device: one pass over each segment, on the given stream. Elsewhere the processor walks over chunks of at most
// 2^20 elements; while it works on one, the weights of the last are copied to the device and published block by block,
// so that the next step's forward starts behind its first block. A file is read ahead and written behind (StateFile);
// weights that the store keeps in host memory are rounded to their place, those in a file written there.
//
// A delayed update (ZeRO-Offload, section 5.2) runs beside the next step's forward and backward; its weights are
// published after them.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/device/device.h"
#include "core/train/state_file.h"
#include "core/train/zero_store.h"

namespace trident {

enum class StatePart : uint8_t { master, first_moment, second_moment };

struct StateOptions {
  std::string file_directory;  ///< where the states live when the store's gradients are offloaded; "" is host memory
  bool delayed = false;        ///< updates are; with offload
};

class OptimizerState {
 public:
  /// Allocates everything. Store and device outlive the state. Throws RunError when there is no room, on disk either.
  OptimizerState(const StateOptions&, ZeroStore&, Device&);

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

  /// Visits all state in order of blocks and publishes the weights, or does so later when updates are delayed. After
  /// all work submitted to the stream so far.
  void update(const Visit&, Stream);
  /// Publishes the weights of a delayed update, if there is one.
  void settle(Stream);
  /// Rounds the master weights to the compute dtype and publishes them: after initialisation and loading.
  void publish_masters(Stream);

  /// Elements [begin, end) of a segment to, or from, f32 values in host memory; to moments in bf16 they are rounded to
  /// nearest. Waits until that is done.
  void read(const Segment&, StatePart, int64_t begin, int64_t end, float* out);
  void write(const Segment&, StatePart, int64_t begin, int64_t end, const float* values);
  /// All of a segment's part is zero.
  void clear(const Segment&, StatePart);

  /// Of what is on disk; nullptr when nothing is.
  const StateFile* file() const { return file_.get(); }

 private:
  /// One block's states, flat over the part of the block that this rank owns.
  struct Block {
    int64_t block = 0;
    int64_t numel = 0;
    int64_t first_chunk = 0;
    Memory memory[3];  ///< as StatePart; the master's is empty where the weight is the master, all with a file
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
  void allocate(Block&);
  void cut_into_chunks();
  const Block& block_of(const Segment&) const;
  /// A segment's part where the states are on the device.
  Tensor on_device_part(const Segment&, StatePart) const;
  Tensor over(const Stage&, const Chunk&) const;
  /// All of a chunk's elements of a part; of an open chunk with a file.
  Tensor part_of(size_t chunk, StatePart) const;
  /// The pieces of a chunk, whose weights go to `weights`: the chunk's part of that memory.
  std::vector<Piece> pieces_of(size_t chunk, Tensor weights) const;
  /// Where the weights of a chunk are rounded to when they have no memory of their own.
  enum class Weights : uint8_t { in_place, none };
  std::vector<Piece> pieces_of(size_t chunk, Weights) const;
  /// The pieces of a chunk for an update by the processor, whose weights go on to where the store keeps them.
  std::vector<Piece> pieces_for_host(size_t chunk);
  void update_on_device(const Visit&, Stream);
  void update_on_host(const Visit&, bool changes, Stream);
  void update_later(const Visit&, Stream);
  void finish_chunk(size_t chunk, bool changed);
  /// Visits the runs of a segment's elements [begin, end) chunk by chunk, in host memory; `change`: to change them.
  void for_each_run(const Segment&, StatePart, int64_t begin, int64_t end, bool change,
                    const std::function<void(Tensor run, int64_t begin)>&);

  const StateOptions options_;
  ZeroStore& store_;
  Device& device_;
  std::vector<Block> blocks_;
  std::vector<Chunk> chunks_;
  std::array<Stage, 2> stages_;
  std::unique_ptr<StateFile> file_;
  bool unpublished_ = false;  // a delayed update's weights
};

}  // namespace trident
