// What a user, a test or a script may turn on the emulated GPU: everything that real hardware has no knob for.
//
// Environment (read once, at the first CUDA call):
//   TRIDENT_SIMT_POLICY       lazy | eager | random: when queued work runs (default lazy)
//   TRIDENT_SIMT_SEED         number: the choices of the random policy and of the random order (1)
//   TRIDENT_SIMT_PAGEABLE     driver | late: when asynchronous copies from and to pageable memory are done (driver:
//   when the call returns; late: in their turn, as of pinned memory, for finding waits that rely on the driver)
//   TRIDENT_SIMT_ORDER        ascending | descending | random: in which order blocks, warps and lanes run (ascending)
//   TRIDENT_SIMT_DEVICES      number of emulated GPUs a process sees (8); 0 behaves as a machine without any
//   TRIDENT_SIMT_MEMORY       capacity of a GPU in bytes, or with K, M, G (4G)
//   TRIDENT_SIMT_ARCH         80 | 90: limits and properties of an A100 or an H100 (80)
//   TRIDENT_SIMT_FAIL         NAME:N:ERROR[,...]: the N-th call of NAME from now gives ERROR, a name or number, see
//   `inject` TRIDENT_SIMT_NCCL_TIMEOUT seconds an NCCL operation may wait for other ranks before it is reported as a
//   stall (60)
//
// Two kinds of wrong are told apart. What a real GPU answers with an error code is answered with that code. What a
// real GPU would silently get wrong (a race, memory freed in flight, an event never recorded, ...) is a *report*: one
// line on stderr that begins with "simt report:", and the process ends with exit code 2, unless a CollectReports lives.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace simt {

enum class StreamPolicy {
  Lazy,    ///< only what some host thread waits for, and what that needs; after 2 ms without a call, everything
  Eager,   ///< as soon as submitted
  Random,  ///< a seeded choice among the streams that could run
};

struct Settings {
  StreamPolicy policy = StreamPolicy::Lazy;
  bool late_pageable = false;
  uint64_t seed = 1;
  int devices = 8;
  uint64_t memory_bytes = uint64_t{4} << 30;
  int arch = 80;
  double nccl_timeout_seconds = 60;
};

/// The settings in force.
Settings settings();
/// Replaces them. Only between pieces of work: nothing may be queued or running.
void set_settings(const Settings&);

enum class ReportKind {
  race,             ///< two operations on the same memory that no event, stream or host wait orders
  host_access,      ///< host code touches pinned memory of an unfinished copy, or device memory
  wrong_direction,  ///< a copy's direction contradicts its pointers
  out_of_bounds,    ///< a copy, memset or library call beyond its allocation
  freed_memory,     ///< memory freed twice, in flight, or used after
  never_recorded,   ///< an event waited for or asked about before it was ever recorded
  default_stream,   ///< work on the default stream, which orders itself implicitly
  invalid_handle,   ///< a stream or event that was destroyed or never created
  kernel_fault,     ///< what the core found wrong in a kernel
  operation,        ///< what it found wrong in a copy or library call (e.g. uninitialised memory read)
  host_function,    ///< a CUDA call from inside a host function of a stream
  nccl_mismatch,    ///< ranks disagree about a collective or message
  nccl_stall,       ///< an NCCL operation waited longer than allowed for other ranks
  nccl_usage,       ///< wrong use of an NCCL call that NCCL itself does not notice
};

struct Report {
  ReportKind kind;
  std::string text;
};

/// While one lives, reports are kept instead of ending the process. At its end what was not taken is printed and
/// ends the process after all. Not nested.
class CollectReports {
 public:
  CollectReports();
  ~CollectReports();
  CollectReports(const CollectReports&) = delete;
  CollectReports& operator=(const CollectReports&) = delete;

  /// What was reported since the last call.
  std::vector<Report> take();
};

/// Files a report; called by the emulated libraries. Returns only while a CollectReports lives.
void report(ReportKind kind, const std::string& text);
const char* report_kind_name(ReportKind kind);

/// The `nth` call from now (1 = the next) of `name` fails with `error`, a CUDA or NCCL result. Names: a runtime or NCCL
/// function ("cudaMalloc": the call does nothing and returns the error); "kernel": the launch succeeds, and when the
/// kernel's turn comes the context is in that error for good, as after an illegal address or an ECC error;
/// "collective": the NCCL operation is accepted, never ends, and ncclCommGetAsyncError tells.
void inject(const std::string& name, int nth, int error);
/// Forgets all injected faults.
void clear_injected();
/// For the emulated libraries: counts a call of `name`; the error it is to give, or 0.
int injected_error(const char* name);

/// Takes the context out of its error state, which on hardware only the end of the process does. Queued work is gone.
void reset_context_error();

}  // namespace simt
