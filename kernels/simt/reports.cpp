// Reports and injected faults: the two sides of being told what is wrong.
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <utility>

#include "core/base/error.h"
#include "kernels/simt/control.h"

namespace simt {
namespace {

struct State {
  std::mutex mutex;
  bool collecting = false;
  std::vector<Report> reports;
  struct Fault {
    int calls_left, error;
  };
  std::multimap<std::string, Fault> faults;
};

State& state() {
  static State* const s = new State;  // outlives every static destructor that may still make a CUDA call
  return *s;
}

void print(const Report& r) {
  // Open MPI's rank, so that a report of one rank among many says whose it is.
  const char* rank = std::getenv("OMPI_COMM_WORLD_RANK");
  std::fprintf(stderr, "simt report: %s%s%s%s: %s\n", rank ? "rank " : "", rank ? rank : "", rank ? ": " : "",
               report_kind_name(r.kind), r.text.c_str());
}

[[noreturn]] void end_process() {
  std::fflush(nullptr);
  std::_Exit(2);
}

}  // namespace

const char* report_kind_name(ReportKind kind) {
  switch (kind) {
    case ReportKind::race: return "race";
    case ReportKind::host_access: return "host access";
    case ReportKind::wrong_direction: return "wrong direction";
    case ReportKind::out_of_bounds: return "out of bounds";
    case ReportKind::freed_memory: return "freed memory";
    case ReportKind::never_recorded: return "event never recorded";
    case ReportKind::default_stream: return "default stream";
    case ReportKind::invalid_handle: return "invalid handle";
    case ReportKind::kernel_fault: return "kernel fault";
    case ReportKind::operation: return "operation";
    case ReportKind::host_function: return "host function";
    case ReportKind::nccl_mismatch: return "NCCL mismatch";
    case ReportKind::nccl_stall: return "NCCL stall";
    case ReportKind::nccl_usage: return "NCCL usage";
  }
  return "?";
}

void report(ReportKind kind, const std::string& text) {
  State& s = state();
  const std::lock_guard<std::mutex> lock(s.mutex);
  s.reports.push_back({kind, text});
  if (s.collecting) return;
  print(s.reports.back());
  end_process();
}

CollectReports::CollectReports() {
  State& s = state();
  const std::lock_guard<std::mutex> lock(s.mutex);
  trident::ensure(!s.collecting, "CollectReports does not nest");
  s.collecting = true;
}

CollectReports::~CollectReports() {
  State& s = state();
  const std::lock_guard<std::mutex> lock(s.mutex);
  s.collecting = false;
  if (s.reports.empty()) return;
  for (const Report& r : s.reports) print(r);
  end_process();
}

std::vector<Report> CollectReports::take() {
  State& s = state();
  const std::lock_guard<std::mutex> lock(s.mutex);
  return std::exchange(s.reports, {});
}

void inject(const std::string& name, int nth, int error) {
  State& s = state();
  const std::lock_guard<std::mutex> lock(s.mutex);
  s.faults.insert({name, {nth, error}});
}

void clear_injected() {
  State& s = state();
  const std::lock_guard<std::mutex> lock(s.mutex);
  s.faults.clear();
}

int injected_error(const char* name) {
  (void)settings();  // the environment may hold faults
  State& s = state();
  const std::lock_guard<std::mutex> lock(s.mutex);
  int error = 0;
  const auto [begin, end] = s.faults.equal_range(name);
  for (auto fault = begin; fault != end;) {
    if (--fault->second.calls_left == 0) {
      error = fault->second.error;
      fault = s.faults.erase(fault);
    } else {
      ++fault;
    }
  }
  return error;
}

}  // namespace simt
