#include "core/train/input_offload.h"

#include "core/base/error.h"

namespace trident {

InputOffload::InputOffload(DType dtype, int64_t rows, int64_t hidden, Device& device) : device_(device) {
  for (size_t i = 0; i < buffers_.size(); ++i) {
    buffers_[i].memory = device.alloc(static_cast<size_t>(rows * hidden) * dtype_bytes(dtype), Place::device,
                                      build_string("inputs in use: buffer ", i));
  }
}

Tensor InputOffload::over(const Buffer& buffer, Tensor like) const {
  ensure(like.bytes() <= buffer.memory.bytes(), "an input fits its buffer");
  return Tensor(buffer.memory.data(), like.dtype, {like.dim[0], like.dim[1]}, buffer.memory.place());
}

InputOffload::Buffer& InputOffload::take() {
  Buffer& buffer = buffers_[next_++ % buffers_.size()];
  buffer.holds = nullptr;
  return buffer;
}

Tensor InputOffload::keep(Tensor y_RD, Stream stream) {
  // (What was fetched into it came before free, which is of the stream that waited for it.)
  Buffer& buffer = take();
  device_.wait(stream, buffer.free);
  const Tensor kept = over(buffer, y_RD);
  device_.copy(kept, y_RD, stream);
  return kept;
}

Tensor InputOffload::send(Tensor part_RD, Tensor x_RD, Stream stream) {
  const Tensor host = host_->alloc(part_RD.dtype, {part_RD.dim[0], part_RD.dim[1]});
  const Stream download = device_.stream(Role::download);
  device_.wait(download, device_.record(stream));
  device_.copy(host, part_RD, download);
  sent_ = device_.record(download);
  for (Buffer& buffer : buffers_) {
    if (buffer.memory.data() == x_RD.data) buffer.free = sent_;
  }
  return host;
}

InputOffload::Buffer& InputOffload::start(Tensor host_RD) {
  const Stream upload = device_.stream(Role::upload);
  Buffer& buffer = take();
  device_.wait(upload, buffer.free);
  device_.wait(upload, sent_);
  device_.copy(over(buffer, host_RD), host_RD, upload);
  buffer.filled = device_.record(upload);
  buffer.holds = host_RD.data;
  return buffer;
}

Tensor InputOffload::fetch(Tensor host_RD, Tensor next_RD, Stream stream) {
  fetched_ = nullptr;
  for (Buffer& buffer : buffers_) {
    if (buffer.holds != nullptr && buffer.holds == host_RD.data) fetched_ = &buffer;
  }
  if (fetched_ == nullptr) fetched_ = &start(host_RD);
  fetched_->holds = nullptr;
  device_.wait(stream, fetched_->filled);
  if (next_RD.defined()) (void)start(next_RD);
  return over(*fetched_, host_RD);
}

void InputOffload::done(Stream stream) { fetched_->free = device_.record(stream); }

}  // namespace trident
