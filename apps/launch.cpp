#include "apps/launch.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <thread>
#include <utility>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/checkpoint/manifest.h"
#include "core/comm/mpi_session.h"
#include "core/config/load.h"
#include "core/run/threads.h"

namespace trident {
namespace {

struct Failure {
  int code;
  std::string message;
};

// Of the exception in flight.
Failure current_failure() {
  try {
    throw;
  } catch (const UserError& e) {
    return {1, e.what()};
  } catch (const std::exception& e) {
    return {2, build_string("fault: ", e.what())};
  }
}

// What strikes every rank is best told by rank 0. Whoever comes first speaks, alone, and the job ends. (GCC does not
// see that a virtual function does not return, hence a result.)
int end_job(World& world, const Failure& failure) {
  std::fflush(stdout);
  if (world.rank() != 0) std::this_thread::sleep_for(std::chrono::milliseconds(500));
  world.abort(failure.code, failure.message);
  return failure.code;
}

}  // namespace

std::string named_checkpoint(const ConfigArguments& arguments, const std::string& option) {
  return option.empty() && is_checkpoint(arguments.path) ? arguments.path : option;
}

Config load_experiment(const ConfigArguments& arguments, int ranks) {
  if (!is_checkpoint(arguments.path)) return load_config(arguments.path, arguments.overrides, ranks);
  // The grid that wrote it says nothing about the ranks that read it.
  std::vector<std::string> overrides = {
      "parallel.pipeline=1",    "parallel.tensor=1",         "parallel.data=auto", "parallel.sequence=false",
      "parallel.schedule=1f1b", "parallel.virtual_stages=1", "zero.stage=0"};
  overrides.insert(overrides.end(), arguments.overrides.begin(), arguments.overrides.end());
  return load_config_text(read_manifest(arguments.path).meta.config, arguments.path + "/manifest.json", overrides,
                          ranks);
}

int report_exception() {
  const Failure failure = current_failure();
  std::fprintf(stderr, "trident: %s\n", failure.message.c_str());
  return failure.code;
}

int with_world(const ConfigArguments& arguments, const std::function<int(const Config&, World&)>& body) {
  const MpiSession mpi;
  Config config;
  int code = 0;
  std::string mistake;
  try {
    config = load_experiment(arguments, mpi.ranks());
  } catch (const std::exception&) {
    Failure failure = current_failure();
    code = failure.code;
    mistake = std::move(failure.message);
  }
  // Usually every rank fails alike, and one speaks; a node that lacks the file must not leave the others waiting.
  const int speaker = mpi.lowest_rank(code != 0);
  if (speaker == mpi.rank()) std::fprintf(stderr, "trident: %s\n", mistake.c_str());
  if (speaker >= 0) return std::max(code, 1);
  std::unique_ptr<World> world;
  try {
    world = make_mpi_world(std::chrono::duration<double>(config.comm.timeout),
                           {.shared_memory = config.comm.shared_memory});
  } catch (const std::exception&) {
    return report_exception();
  }
  log::configure(world->rank(), config.log.level);
  const std::string threads = place_threads(world->local_rank(), world->local_size());
  log::debug(threads);
  try {
    return body(config, *world);
  } catch (const std::exception&) {
    if (world->size() == 1) return report_exception();
    return end_job(*world, current_failure());
  }
}

}  // namespace trident
