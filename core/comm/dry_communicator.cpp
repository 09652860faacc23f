#include "core/comm/dry_communicator.h"

#include <string>

namespace trident {
namespace {

class DryCommunicator final : public Communicator {
 public:
  DryCommunicator(std::string_view axis, int rank, int size) : axis_(axis), rank_(rank), size_(size) {}

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  std::string_view axis() const override { return axis_; }
  void all_reduce(Tensor, Reduce, Stream) override {}
  void reduce_scatter(Tensor, Tensor, Reduce, Stream) override {}
  void all_gather(Tensor, Tensor, Stream) override {}
  void broadcast(Tensor, int, Stream) override {}
  void send(Tensor, int, int, Stream) override {}
  void recv(Tensor, int, int, Stream) override {}
  std::vector<std::vector<std::byte>> all_gather_bytes(std::span<const std::byte> mine) override {
    return std::vector<std::vector<std::byte>>(static_cast<size_t>(size_), {mine.begin(), mine.end()});
  }
  void barrier() override {}

 private:
  std::string axis_;
  int rank_, size_;
};

}  // namespace

std::unique_ptr<Communicator> make_dry_communicator(std::string_view axis, int rank, int size) {
  return std::make_unique<DryCommunicator>(axis, rank, size);
}

Grid make_dry_grid(const Topology& topology, int rank) {
  const Coordinates at = topology.coordinates(rank);
  const bool at_end = topology.pipeline > 1 && (at.pipeline == 0 || at.pipeline == topology.pipeline - 1);
  const int shards = topology.shards();
  return {.topology = topology,
          .at = at,
          .world = make_dry_communicator("world", rank, topology.ranks()),
          .tensor = make_dry_communicator("tensor", at.tensor, topology.tensor),
          .context = make_dry_communicator("context", at.context, topology.context),
          .data = make_dry_communicator("data", at.data, topology.data),
          .pipeline = make_dry_communicator("pipeline", at.pipeline, topology.pipeline),
          .ends = make_dry_communicator("ends", at.pipeline == 0 ? 0 : 1, at_end ? 2 : 1),
          .shards = shards < topology.data ? make_dry_communicator("shards", at.data % shards, shards) : nullptr,
          .replicas = make_dry_communicator("replicas", at.data / shards, topology.data / shards)};
}

}  // namespace trident
