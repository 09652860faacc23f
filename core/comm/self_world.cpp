// A world of one rank, without MPI.
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>

#include "core/base/error.h"
#include "core/comm/grid.h"

namespace trident {
namespace {

class SelfWorld final : public World {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  int local_rank() const override { return 0; }
  int local_size() const override { return 1; }
  Ledger& ledger() override { return ledger_; }

  std::string host() const override {
    std::array<char, 256> name{};
    if (gethostname(name.data(), name.size() - 1) != 0) return "unknown host";
    return name.data();
  }

  std::unique_ptr<Communicator> split(int, std::string_view axis) override { return make_self_communicator(axis); }

  void abort(int code, std::string_view message) override {
    const std::string line = build_string("trident: rank 0 (", host(), "): ", message, "\n");
    std::fwrite(line.data(), 1, line.size(), stderr);
    std::fflush(stderr);
    std::_Exit(code);
  }

 private:
  Ledger ledger_;
};

}  // namespace

std::unique_ptr<World> make_self_world() { return std::make_unique<SelfWorld>(); }

}  // namespace trident
