#include "apps/launch.h"

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <thread>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/checkpoint/manifest.h"
#include "core/comm/mpi_session.h"
#include "core/config/load.h"
#include "core/run/threads.h"

namespace trident {
namespace {

// The same mistake usually strikes every rank: rank 0 speaks at once, the others wait a moment for it to end the job.
[[noreturn]] void end_job(World& world, int code) {
  std::fflush(stdout);
  world.abort(code, "stopping all ranks");
}

}  // namespace

bool is_checkpoint(const std::string& path) { return std::filesystem::exists(path + "/manifest.json"); }

Config load_experiment(const ConfigArguments& arguments, int ranks) {
  if (!is_checkpoint(arguments.path)) return load_config(arguments.path, arguments.overrides, ranks);
  // The grid that wrote it says nothing about the ranks that read it.
  std::vector<std::string> overrides = {"parallel={}", "zero={}"};
  overrides.insert(overrides.end(), arguments.overrides.begin(), arguments.overrides.end());
  return load_config_text(read_manifest(arguments.path).meta.config, arguments.path + "/manifest.json", overrides,
                          ranks);
}

int report_exception(const std::string& prefix) {
  try {
    throw;
  } catch (const UserError& e) {
    std::fprintf(stderr, "%s: %s\n", prefix.c_str(), e.what());
    return 1;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s: fault: %s\n", prefix.c_str(), e.what());
    return 2;
  }
}

int with_world(const ConfigArguments& arguments, const std::function<int(const Config&, World&)>& body) {
  const MpiSession mpi;
  Config config;
  std::unique_ptr<World> world;
  try {
    config = load_experiment(arguments, mpi.ranks());
    world = make_mpi_world(std::chrono::duration<double>(config.comm.timeout));
  } catch (const std::exception&) {
    // Every rank reads the same file and fails alike; one speaks.
    if (mpi.rank() == 0) return report_exception("trident");
    return 1;
  }
  log::configure(world->rank(), config.log.level);
  const std::string threads = place_threads(world->local_rank(), world->local_size());
  log::debug(threads);
  try {
    return body(config, *world);
  } catch (const std::exception&) {
    if (world->size() == 1) return report_exception("trident");
    if (world->rank() != 0) std::this_thread::sleep_for(std::chrono::milliseconds(500));
    const int code = report_exception(build_string("trident: rank ", world->rank(), " on ", world->host()));
    end_job(*world, code);
  }
}

}  // namespace trident
