// StateFile: optimizer states in a file, chunk by chunk, with a few chunks of it in host memory (ZeRO-Infinity, arXiv
// 2104.07857): while one is updated the next two are read and the last is written.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "core/device/chunk_file.h"
#include "core/device/device.h"

namespace trident {

class StateFile {
 public:
  static constexpr int kParts = 3;  ///< tensors of equal length: the first in f32, the others in `moments`

  /// Chunks of `elements` elements of each part, a multiple of 2048. Allocates the windows; on a dry device there is no
  /// file. Throws RunError when the directory has no room. One thread at a time uses it.
  StateFile(const std::string& directory, int64_t elements, int64_t chunks, DType moments, Device&);

  /// Waits until the chunk is in its window and lets the next two be read. It stays there until another is opened that
  /// is a multiple of kWindows away.
  void open(int64_t chunk);
  /// Elements of an open chunk.
  Tensor part(int64_t chunk, int part) const;
  /// The chunk was changed and will be again soon: it is written when its window is wanted.
  void change(int64_t chunk) { window_of(chunk).changed = true; }
  /// The chunk was changed: it is written now, while others are used.
  void write(int64_t chunk);

  size_t file_bytes() const { return static_cast<size_t>(chunks_) * chunk_bytes_; }
  /// For the log; "" on a dry device.
  std::string describe() const { return file_ ? file_->describe() : ""; }

 private:
  static constexpr int64_t kWindows = 4;
  struct Window {
    char* address = nullptr;
    int64_t chunk = -1;
    bool changed = false;
    ChunkFile::Ticket ticket;
  };

  Window& window_of(int64_t chunk) { return windows_[static_cast<size_t>(chunk % kWindows)]; }
  /// Brings the chunk on its way into its window.
  void fetch(int64_t chunk);

  const int64_t elements_, chunks_;
  const DType moments_;
  const size_t chunk_bytes_;
  Memory memory_;
  std::array<Window, kWindows> windows_;
  std::unique_ptr<ChunkFile> file_;  // ends first: what is on its way uses the memory
};

}  // namespace trident
