#include "core/train/metrics.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/base/error.h"
#include "core/base/format.h"

namespace trident {
namespace {

using Json = nlohmann::ordered_json;  // keys in the order of the struct, so that lines can be compared by eye

[[noreturn]] void fail(const std::string& doing, const std::string& path) {
  throw RunError(build_string("cannot ", doing, " ", path, ": ", std::strerror(errno),
                              "; free space or make `out` writable, then resume"));
}

double number(const Json& line, const char* key) {
  const auto at = line.find(key);
  return at != line.end() && at->is_number() ? at->get<double>() : StepMetrics::kUnknown;
}

int64_t integer(const Json& line, const char* key) {
  const auto at = line.find(key);
  return at != line.end() && at->is_number_integer() ? at->get<int64_t>() : 0;
}

/// The object of a line, or nothing when it is torn or has no step.
std::optional<Json> parse(const std::string& text) {
  Json line = Json::parse(text, nullptr, false);
  if (!line.is_object() || !line.contains("step") || !line["step"].is_number_integer()) return std::nullopt;
  return line;
}

StepMetrics step_of(const Json& line) {
  StepMetrics m;
  m.step = integer(line, "step");
  m.tokens = integer(line, "tokens");
  m.loss = number(line, "loss");
  m.grad_norm = number(line, "grad_norm");
  m.lr = number(line, "lr");
  m.tokens_per_s = number(line, "tokens_per_s");
  m.tflops = number(line, "tflops");
  m.mfu = number(line, "mfu");
  m.step_ms = number(line, "step_ms");
  m.mem_peak_bytes = integer(line, "mem_peak_bytes");
  m.comm_bytes = integer(line, "comm_bytes");
  m.skipped = line.value("skipped", Json(false)) == Json(true);
  return m;
}

Json json_of(const StepProfile& profile) {
  Json spent = Json::object();
  for (const StepProfile::Line& line : profile.lines) {
    Json& entry = spent[line.name];
    entry = {{"ms", line.ms}, {"least_ms", line.least_ms}, {"most_ms", line.most_ms}};
    if (line.rated()) entry[line.work.flops > 0 ? "gflops" : "gbytes"] = line.rate() * 1e-9;
  }
  return {{"steps", profile.steps}, {"step_ms", profile.step_ms}, {"spent", spent}};
}

/// Writes all bytes to an open file; false with errno set when the system refuses.
bool write_all(int file, const std::string& bytes) {
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t n = ::write(file, bytes.data() + done, bytes.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return false;
    done += static_cast<size_t>(n);
  }
  return true;
}

/// Replaces `path` by `bytes`: a copy beside it, synced, then renamed, so that a kill leaves the old or the new file.
void replace_file(const std::string& path, const std::string& bytes) {
  const std::string copy = path + ".tmp";
  const int file = ::open(copy.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (file < 0) fail("write", copy);
  const bool written = write_all(file, bytes) && ::fsync(file) == 0;
  const int error = errno;
  ::close(file);
  errno = error;
  if (!written) fail("write", copy);
  if (std::rename(copy.c_str(), path.c_str()) != 0) fail("replace", path);
}

std::string step_column(int64_t step, int64_t last_step) {
  const std::string last = std::to_string(last_step);
  return "step " + pad_left(std::to_string(step), std::max<size_t>(last.size(), 5)) + "/" + last;
}

}  // namespace

double EvalMetrics::perplexity() const { return std::exp(valid_loss); }

std::string to_json(const StepMetrics& m) {
  Json line = {{"step", m.step},
               {"tokens", m.tokens},
               {"loss", m.loss},
               {"grad_norm", m.grad_norm},
               {"lr", m.lr},
               {"tokens_per_s", m.tokens_per_s},
               {"tflops", m.tflops},
               {"mfu", m.mfu},
               {"step_ms", m.step_ms},
               {"mem_peak_bytes", m.mem_peak_bytes},
               {"comm_bytes", m.comm_bytes},
               {"skipped", m.skipped}};
  if (m.profile) line["profile"] = json_of(*m.profile);
  return line.dump();
}

std::string to_json(const EvalMetrics& m) {
  return Json({{"step", m.step}, {"valid_loss", m.valid_loss}, {"perplexity", m.perplexity()}}).dump();
}

MetricsLog read_metrics(const std::string& path) {
  std::ifstream file(path);
  if (!file)
    throw UserError(build_string("cannot read ", path, ": ", std::strerror(errno), "; is it a run directory?"));
  MetricsLog log;
  for (std::string text; std::getline(file, text);) {
    const std::optional<Json> line = parse(text);
    if (!line) {
      ++log.unreadable_lines;
    } else if (line->contains("valid_loss")) {
      log.evaluations.push_back({integer(*line, "step"), number(*line, "valid_loss")});
    } else {
      log.steps.push_back(step_of(*line));
    }
  }
  return log;
}

int64_t truncate_metrics(const std::string& path, int64_t last_step) {
  std::ifstream file(path);
  if (!file) {
    if (errno == ENOENT) return 0;
    fail("read", path);
  }
  std::string kept;
  int64_t dropped = 0;
  for (std::string text; std::getline(file, text);) {
    const std::optional<Json> line = parse(text);
    if (line && integer(*line, "step") <= last_step) {
      kept += text + "\n";
    } else {
      ++dropped;
    }
  }
  if (dropped > 0) replace_file(path, kept);
  return dropped;
}

MetricsWriter::MetricsWriter(const std::string& path) : path_(path) {
  file_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (file_ < 0) fail("open", path);
  char last = '\n';
  const off_t size = ::lseek(file_, 0, SEEK_END);
  const bool torn = size > 0 && ::pread(file_, &last, 1, size - 1) == 1 && last != '\n';
  if (torn && !write_all(file_, "\n")) {
    ::close(file_);
    fail("write", path_);
  }
}

MetricsWriter::~MetricsWriter() {
  if (file_ >= 0) ::close(file_);
}

void MetricsWriter::append(std::string line) {
  line += '\n';
  if (!write_all(file_, line)) fail("write", path_);
}

std::string progress_line(const StepMetrics& m, int64_t last_step, double seconds_per_step) {
  const double left = static_cast<double>(last_step - m.step) * seconds_per_step;
  std::string line = step_column(m.step, last_step);
  line += "  loss " + pad_left(format_fixed(m.loss, 4), 7);
  line += "  norm " + pad_left(format_fixed(m.grad_norm, 3), 7);
  line += "  lr " + pad_left(format_scientific(m.lr), 8);
  line += "  " + pad_left(format_count(m.tokens_per_s), 5) + " tok/s";
  line += "  MFU " + pad_left(format_fixed(m.mfu * 100, 1), 5) + "%";
  line += "  ETA " + pad_left(format_duration(left), 6);
  line += "  mem " + pad_left(format_bytes(m.mem_peak_bytes), 10);
  if (m.skipped) line += "  not applied";
  return line;
}

std::string progress_line(const EvalMetrics& m, int64_t last_step) {
  return step_column(m.step, last_step) + "  valid loss " + pad_left(format_fixed(m.valid_loss, 4), 7) +
         "  perplexity " + format_fixed(m.perplexity(), 2);
}

}  // namespace trident
