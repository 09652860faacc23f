#include "core/train/gradient_offload.h"

#include <algorithm>

#include "core/base/error.h"

namespace trident {

GradientOffload::GradientOffload(int64_t elements, Device& device) : elements_(elements), device_(device) {
  for (size_t i = 0; i < buffers_.size(); ++i) {
    buffers_[i].memory = device.alloc(static_cast<size_t>(elements) * sizeof(float), Place::pinned,
                                      build_string("gradients on their way: buffer ", i));
  }
}

Event GradientOffload::send(Tensor host, Tensor device, bool overwrite, Event ready) {
  ensure(host.numel() == device.numel(), "a gradient has the same length on both sides");
  const Stream download = device_.stream(Role::download);
  device_.wait(download, ready);
  for (int64_t begin = 0; begin < host.numel(); begin += elements_) {
    const int64_t end = std::min(host.numel(), begin + elements_);
    Buffer& buffer = buffers_[next_++ % buffers_.size()];
    flush(buffer);
    device_.wait(download, buffer.taken);
    buffer.piece = Tensor(buffer.memory.data(), DType::f32, {end - begin}, Place::pinned);
    device_.copy(buffer.piece, device.rows(begin, end), download);
    buffer.copied = device_.record(download);
    buffer.destination = host.rows(begin, end);
    buffer.overwrite = overwrite;
  }
  return device_.record(download);
}

void GradientOffload::flush(Buffer& buffer) {
  if (!buffer.destination.defined()) return;
  const Stream host = device_.stream(Role::host);
  device_.wait(host, buffer.copied);
  device_.on_host([&ops = device_.host_ops(), piece = buffer.piece, destination = buffer.destination,
                   overwrite = buffer.overwrite] {
    if (overwrite) {
      ops.scale({}, destination, piece, 1.0f);
    } else {
      ops.add({}, destination, piece);
    }
  });
  buffer.taken = device_.record(host);
  buffer.destination = {};
}

void GradientOffload::flush() {
  for (size_t i = 0; i < buffers_.size(); ++i) flush(buffers_[(next_ + i) % buffers_.size()]);
}

}  // namespace trident
