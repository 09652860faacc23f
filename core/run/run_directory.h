// The run directory: config.yaml, metrics.jsonl, log.txt, checkpoints/, report.html, loss.svg. Rank 0 writes it.
#pragma once

#include <string>

#include "core/config/config.h"

namespace trident {

struct RunDirectory {
  std::string path;
  std::string file(const char* name) const { return path + "/" + name; }
  std::string checkpoints() const { return path + "/checkpoints"; }
};

/// Whether the directory holds a run: metrics or checkpoints.
bool holds_a_run(const RunDirectory&);

/// Creates the directory and writes config.yaml (atomically). Throws RunError.
void write_config(const RunDirectory&, const Config&);

}  // namespace trident
