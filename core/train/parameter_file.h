// ParameterFile: the shards of the weights in a file (ZeRO-Infinity, arXiv 2104.07857), chunk by chunk through pinned
// memory. Chunks of the block that comes next are read while the one before is in use, and go on to the device when it
// is wanted; an update's weights are written while the next are computed.
//
// Policy: the calling thread drives it, and waits for the disk where it wants a block. Of what is on its way in memory
// there are two layers' worth, a bounded number of chunks: larger blocks pass through in turns.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/base/integer.h"
#include "core/device/chunk_file.h"
#include "core/device/device.h"

namespace trident {

class ParameterFile {
 public:
  struct Options {
    std::string directory;
    DType dtype = DType::f32;
    int64_t elements = 0;      ///< of a chunk: a multiple of 2048
    int64_t chunks = 0;        ///< of all blocks, each of which begins with one of its own
    int64_t layer_chunks = 0;  ///< of the largest layer
  };

  /// Allocates the windows; on a dry device there is no file. Throws RunError when the directory has no room.
  ParameterFile(const Options&, Device&);

  /// Starts to read the block of `numel` elements that begins with this chunk; what was read ahead of another is lost.
  void read_ahead(int64_t first_chunk, int64_t numel);
  /// Submits the copy of a block to device memory on the upload stream. Waits for the disk. Throws RunError for its
  /// faults.
  void fetch(int64_t first_chunk, Tensor to);

  /// Pinned memory for the new weights of a chunk; the processor may write there from now on, until write(). What was
  /// read ahead is lost. Two chunks may be open.
  Tensor open(int64_t chunk);
  /// Starts to write an open chunk, whose weights are all there.
  void write(int64_t chunk);

  int64_t elements() const { return options_.elements; }
  size_t file_bytes() const { return static_cast<size_t>(options_.chunks) * chunk_bytes_; }
  /// For the log; "" on a dry device.
  std::string describe() const { return file_ ? file_->describe() : ""; }

 private:
  struct Window {
    char* address = nullptr;
    int64_t chunk = -1;          ///< what is on its way to it or from it
    ChunkFile::Ticket transfer;  ///< with the file
    Event sent;                  ///< its copy to the device is done
  };

  /// The next window, with nothing on its way.
  Window& take();
  /// Waits for what is on its way between the file and a chunk's windows.
  void settle(int64_t chunk);
  /// Starts to read the block's chunks up to `end`.
  void start_reads(int64_t end);
  int64_t chunks_of(int64_t numel) const { return ceil_div(numel, options_.elements); }
  Tensor over(const Window&, int64_t numel) const;

  const Options options_;
  const size_t chunk_bytes_;
  Device& device_;
  Memory memory_;
  std::vector<Window> windows_;  ///< taken in turn
  size_t next_ = 0;
  // Of the block that is read ahead:
  int64_t first_ = -1;   ///< its first chunk; none when negative
  int64_t started_ = 0;  ///< chunks that are read, or will be
  size_t first_window_ = 0;
  std::unique_ptr<ChunkFile> file_;  ///< ends first: what is on its way uses the memory
};

}  // namespace trident
