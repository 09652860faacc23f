// The report of a run: its loss as a picture and its last numbers as one page.
#pragma once

#include <string>

namespace trident {

/// Reads run_dir/metrics.jsonl and writes, replacing what is there:
///   loss.svg     the picture (core/run/chart.h);
///   report.html  one self-contained page: the picture, the last step's numbers, every validation (the last 50), the
///                memory plan against what was measured (plan.txt, when the run wrote one) and the resolved config
///                (config.yaml, when there is one).
/// The title is the name of the directory. Throws UserError when there are no metrics to read, RunError when a file
/// cannot be written.
void write_report(const std::string& run_dir);

}  // namespace trident
