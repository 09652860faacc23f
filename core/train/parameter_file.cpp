#include "core/train/parameter_file.h"

#include <algorithm>

#include "core/base/error.h"

namespace trident {
namespace {

/// Enough to keep any disk busy; more would only take memory.
constexpr int64_t kMostWindows = 64;

}  // namespace

ParameterFile::ParameterFile(const Options& options, Device& device)
    : options_(options),
      chunk_bytes_(static_cast<size_t>(options.elements) * dtype_bytes(options.dtype)),
      device_(device),
      windows_(static_cast<size_t>(std::min(2 * options.layer_chunks, kMostWindows))) {
  memory_ = device.alloc(windows_.size() * chunk_bytes_ + ChunkFile::kAlign, Place::pinned, "parameters on their way");
  if (memory_.data() == nullptr) return;
  char* const aligned = ChunkFile::aligned(memory_.data());
  for (size_t i = 0; i < windows_.size(); ++i) windows_[i].address = aligned + i * chunk_bytes_;
  file_ = std::make_unique<ChunkFile>(ChunkFile::Options{.directory = options.directory,
                                                         .chunk_bytes = chunk_bytes_,
                                                         .chunks = options.chunks,
                                                         .queue_depth = static_cast<int>(windows_.size()),
                                                         .name = "trident-parameters"});
}

Tensor ParameterFile::over(const Window& window, int64_t numel) const {
  return Tensor(window.address, options_.dtype, {numel}, Place::pinned);
}

ParameterFile::Window& ParameterFile::take() {
  Window& window = windows_[next_++ % windows_.size()];
  file_->wait(window.transfer);
  device_.synchronize(window.sent);
  window.chunk = -1;
  return window;
}

void ParameterFile::settle(int64_t chunk) {
  for (Window& window : windows_) {
    if (window.chunk == chunk) file_->wait(window.transfer);
  }
}

void ParameterFile::start_reads(int64_t end) {
  for (; started_ < end; ++started_) {
    const int64_t chunk = first_ + started_;
    settle(chunk);
    Window& window = take();
    window.transfer = file_->start_read(chunk, window.address);
    window.chunk = chunk;
  }
}

void ParameterFile::read_ahead(int64_t first_chunk, int64_t numel) {
  if (!file_ || first_ == first_chunk) return;
  first_ = first_chunk;
  started_ = 0;
  first_window_ = next_;
  start_reads(std::min(chunks_of(numel), static_cast<int64_t>(windows_.size())));
}

void ParameterFile::fetch(int64_t first_chunk, Tensor to) {
  if (!file_) return;
  read_ahead(first_chunk, to.numel());
  const Stream upload = device_.stream(Role::upload);
  const int64_t count = chunks_of(to.numel());
  for (int64_t i = 0; i < count; ++i) {
    start_reads(std::min(count, i + static_cast<int64_t>(windows_.size())));
    Window& window = windows_[(first_window_ + static_cast<size_t>(i)) % windows_.size()];
    file_->wait(window.transfer);
    const int64_t begin = i * options_.elements, end = std::min(begin + options_.elements, to.numel());
    device_.copy(to.rows(begin, end), over(window, end - begin), upload);
    window.sent = device_.record(upload);
  }
  first_ = -1;
}

Tensor ParameterFile::open(int64_t chunk) {
  if (!file_) return over(windows_.front(), options_.elements);
  first_ = -1;
  settle(chunk);
  Window& window = take();
  // A window that was read before the update holds it no more.
  for (Window& other : windows_) {
    if (other.chunk == chunk) other.chunk = -1;
  }
  window.chunk = chunk;
  return over(window, options_.elements);
}

void ParameterFile::write(int64_t chunk) {
  if (!file_) return;
  const auto window = std::find_if(windows_.begin(), windows_.end(), [&](const Window& w) { return w.chunk == chunk; });
  ensure(window != windows_.end(), "a chunk is written while it is open");
  window->transfer = file_->start_write(chunk, window->address);
}

}  // namespace trident
