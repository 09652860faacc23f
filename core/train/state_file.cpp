#include "core/train/state_file.h"

#include <algorithm>

#include "core/base/error.h"

namespace trident {

StateFile::StateFile(const std::string& directory, int64_t elements, int64_t chunks, DType moments, Device& device)
    : elements_(elements),
      chunks_(chunks),
      moments_(moments),
      chunk_bytes_(static_cast<size_t>(elements) * (sizeof(float) + 2 * dtype_bytes(moments))) {
  memory_ = device.alloc(kWindows * chunk_bytes_ + ChunkFile::kAlign, Place::host, "optimizer states in use");
  if (memory_.data() == nullptr) return;
  char* const aligned = ChunkFile::aligned(memory_.data());
  for (size_t i = 0; i < windows_.size(); ++i) windows_[i].address = aligned + i * chunk_bytes_;
  file_ = std::make_unique<ChunkFile>(ChunkFile::Options{
      .directory = directory, .chunk_bytes = chunk_bytes_, .chunks = chunks, .queue_depth = kWindows});
}

void StateFile::fetch(int64_t chunk) {
  Window& window = window_of(chunk);
  if (!file_ || window.chunk == chunk) return;
  file_->wait(window.ticket);
  if (window.changed) {
    window.ticket = file_->start_write(window.chunk, window.address);
    file_->wait(window.ticket);
    window.changed = false;
  }
  window.ticket = file_->start_read(chunk, window.address);
  window.chunk = chunk;
}

void StateFile::open(int64_t chunk) {
  for (int64_t next = chunk; next < std::min(chunk + 3, chunks_); ++next) fetch(next);
  if (file_) file_->wait(window_of(chunk).ticket);
}

Tensor StateFile::part(int64_t chunk, int part) const {
  const Window& window = windows_[static_cast<size_t>(chunk % kWindows)];
  const auto elements = static_cast<size_t>(elements_);
  const size_t offset =
      part == 0 ? 0 : elements * (sizeof(float) + static_cast<size_t>(part - 1) * dtype_bytes(moments_));
  char* const address = window.address == nullptr ? nullptr : window.address + offset;
  return Tensor(address, part == 0 ? DType::f32 : moments_, {elements_}, Place::host);
}

void StateFile::write(int64_t chunk) {
  Window& window = window_of(chunk);
  if (!file_) return;
  ensure(window.chunk == chunk, "a chunk is written while it is open");
  window.ticket = file_->start_write(chunk, window.address);
  window.changed = false;
}

}  // namespace trident
