// The group of one. Reductions and broadcasts are the identity; a gather or scatter between two buffers is a copy on
// the stream. Dry tensors pass through: the planner runs the real code on them.
#include <cstring>
#include <string>

#include "core/base/error.h"
#include "core/comm/communicator.h"
#include "core/device/device.h"

namespace trident {
namespace {

class SelfCommunicator final : public Communicator {
 public:
  explicit SelfCommunicator(std::string_view axis) : axis_(axis) {}

  int rank() const override { return 0; }
  int size() const override { return 1; }
  std::string_view axis() const override { return axis_; }

  void all_reduce(Tensor, Reduce, Stream) override {}
  void reduce_scatter(Tensor shard, Tensor full, Reduce, Stream stream) override { copy(shard, full, stream); }
  void all_gather(Tensor full, Tensor shard, Stream stream) override { copy(full, shard, stream); }
  void broadcast(Tensor, int root, Stream) override { ensure(root == 0, "the root is a member of the group"); }

  void send(Tensor, int, int, Stream) override { no_peer(); }
  void recv(Tensor, int, int, Stream) override { no_peer(); }

  std::vector<std::vector<std::byte>> all_gather_bytes(std::span<const std::byte> mine) override {
    return {std::vector<std::byte>(mine.begin(), mine.end())};
  }
  void barrier() override {}

 private:
  static void copy(Tensor to, Tensor from, Stream stream) {
    ensure(to.dtype == from.dtype && to.numel() == from.numel(), "in a group of one the shard is the whole tensor");
    if (to.data == from.data || to.dry() || from.dry() || to.numel() == 0) return;
    submit(stream, [to, from] { std::memcpy(to.data, from.data, to.bytes()); });
  }
  static void no_peer() { ensure(false, "a group of one has no peer to send to or receive from"); }

  std::string axis_;
};

}  // namespace

std::unique_ptr<Communicator> make_self_communicator(std::string_view axis) {
  return std::make_unique<SelfCommunicator>(axis);
}

}  // namespace trident
