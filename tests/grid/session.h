// What the whole-run tests share: a world, small datasets, a table row for a grid, and the curve that a run draws.
//
// The reference of every comparison is the same experiment on one rank. A world can hold smaller grids: a Run uses its
// first ranks, the others wait. So one mpirun runs many grids, and a checkpoint travels between grids of any sizes.
//
// Assertions are CHECKs: a rank that left a test case would leave the others in a collective.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "checkpoint/support.h"
#include "core/comm/grid.h"
#include "core/config/config.h"
#include "core/run/run.h"

namespace trident::testing {

/// The model of an experiment, as members of the YAML mapping `model`.
struct TestModel {
  std::string name;
  std::string yaml;
  std::string data = "narrow";  ///< its tokens: narrow, 257 of them; wide, 50,257; upper, the last 57 of narrow
  int64_t global_batch = 12;
};

/// GPT-2 with tied embeddings, the same with dropout and 5 layers, odd sizes throughout, Llama with grouped-query
/// attention and an untied head, the same on tokens of its table's second half alone, and a vocabulary that no grid
/// divides.
const TestModel& gpt2();
const TestModel& dropout5();
const TestModel& uneven();
const TestModel& llama();
const TestModel& llama_upper();
const TestModel& wide_vocabulary();

/// One grid of the tables: what differs from the reference.
struct GridCase {
  const TestModel& model;
  std::string parallel;  ///< members of the YAML mapping `parallel`
  int zero = 0;
  int64_t micro_batch = 2;
  std::string precision = "fp32";
  std::string recompute = "none";
  std::string offload = "none";
  std::string state = "fp32";  ///< dtype of the moments

  std::string name() const;
};

/// What a run showed, step by step.
struct Curve {
  std::vector<double> loss, norm;
};

class Session {
 public:
  Session(int ranks, World& world);

  World& world() { return *world_; }
  /// Its waiting leaves the cores to the ranks that work; that of a split does not.
  void barrier() { all_->barrier(); }
  bool root() const { return world_->rank() == 0; }
  /// A directory on every rank's file system, under a name of its own for each call (the same on all ranks).
  std::string fresh_directory();
  /// Where the datasets lie.
  const std::string& directory() const { return directory_; }

  /// The resolved config, with `out` a fresh directory.
  Config config(const GridCase&);
  /// The same experiment on one rank, in micro-batches of 4.
  Config reference_config(const GridCase&);

  /// Builds a Run of `config` on the first ranks of the world and calls body on them. Collective over the world.
  void with_run(const Config& config, const std::function<void(Run&)>& body);
  /// `steps` steps: from fresh weights, or from a checkpoint when one is named. `save`: saves at the end; the path is
  /// then save_path(config, step). Ranks outside the grid get an empty curve.
  Curve train(const Config& config, int64_t steps, const std::string& from = "", bool save = false);

 private:
  World* world_;
  std::unique_ptr<Communicator> all_;
  std::unique_ptr<test::TempDir> owned_;  // rank 0's
  std::string directory_;
  int directories_ = 0;
};

inline std::string save_path(const Config& config, int64_t step) {
  return config.out + "/checkpoints/" + checkpoint_name(step);
}

/// Runs a test case on a world of `ranks`. What it throws on any rank ends the job with a message.
void on_ranks(int ranks, const std::function<void(Session&)>& body);

/// |a - b| / |b|; infinite when either is not finite.
double relative(double a, double b);

/// How far two grids may lie apart at any step, relative. The defaults are what the project promises of ten steps in
/// fp32: of the loss, and of gradients.
struct CurveBounds {
  double loss = 1e-5, norm = 1e-4;
};

/// Checks on rank 0 that two curves agree at every step and prints the worst step.
void check_follows(Session&, const std::string& what, const Curve& got, const Curve& want, const CurveBounds& = {});
/// Checks that two runs did the same, bit for bit: losses and norms, and what they saved.
void check_same(Session&, const std::string& what, const Curve& a, const Curve& b, const std::string& checkpoint_a,
                const std::string& checkpoint_b);

}  // namespace trident::testing
