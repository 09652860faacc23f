#include "core/run/report.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>

#include "core/base/error.h"
#include "core/base/format.h"
#include "core/run/chart.h"
#include "core/train/metrics.h"

namespace trident {
namespace {

constexpr size_t kMostEvaluations = 50;

constexpr const char* kStyle = R"(<style>
:root{color-scheme:light dark}
body{font-family:system-ui,sans-serif;max-width:820px;margin:2em auto;padding:0 1em;background:#fff;color:#222}
svg{max-width:100%;height:auto}
table{border-collapse:collapse}
td,th{padding:.25em 1em .25em 0;text-align:left;border-bottom:1px solid #ddd}
td.number,th.number{text-align:right;font-variant-numeric:tabular-nums}
pre{background:#f4f4f4;padding:1em;overflow-x:auto}
@media(prefers-color-scheme:dark){body{background:#16181c;color:#d8dade}td,th{border-color:#33373d}pre{background:#22252a}}
</style>
)";

void write_file(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << text;
  file.close();
  if (!file)
    throw RunError(build_string("cannot write ", path, ": ", std::strerror(errno), "; free space or make it writable"));
}

std::optional<std::string> read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return std::nullopt;
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::string row(const std::string& name, const std::string& value) {
  return "<tr><td>" + name + "</td><td class=\"number\">" + value + "</td></tr>\n";
}

std::string share(double part) { return format_fixed(part * 100, 1) + "%"; }

std::string last_step_table(const MetricsLog& log) {
  if (log.steps.empty()) return "<p>No step has been taken yet.</p>\n";
  const StepMetrics& m = log.steps.back();
  int64_t skipped = 0;
  for (const StepMetrics& step : log.steps) skipped += step.skipped ? 1 : 0;
  std::string html = "<table id=\"last-step\">\n";
  html += row("step", std::to_string(m.step)) + row("tokens seen", format_count(static_cast<double>(m.tokens)));
  html += row("loss", format_fixed(m.loss, 4)) + row("gradient norm", format_fixed(m.grad_norm, 3));
  html += row("learning rate", format_scientific(m.lr));
  html += row("tokens per second", format_count(m.tokens_per_s));
  html += row("model TFLOP/s", format_fixed(m.tflops, 3)) + row("MFU, of the measured GEMM peak", share(m.mfu));
  html += row("time of a step", format_duration(m.step_ms / 1000));
  html += row("peak memory of a rank", format_bytes(m.mem_peak_bytes));
  html += row("sent by all ranks in a step", format_bytes(m.comm_bytes));
  html += row("steps not applied", std::to_string(skipped));
  if (log.unreadable_lines > 0) html += row("unreadable lines in metrics.jsonl", std::to_string(log.unreadable_lines));
  return html + "</table>\n";
}

std::string evaluation_table(const MetricsLog& log) {
  if (log.evaluations.empty()) return "";
  const size_t count = log.evaluations.size(), first = count > kMostEvaluations ? count - kMostEvaluations : 0;
  std::string html = first > 0 ? build_string("<h2>Validation (last ", kMostEvaluations, " of ", count, ")</h2>\n")
                               : "<h2>Validation</h2>\n";
  html +=
      "<table id=\"validation\">\n<tr><th class=\"number\">step</th><th class=\"number\">loss</th>"
      "<th class=\"number\">perplexity</th></tr>\n";
  for (size_t i = first; i < count; ++i) {
    const EvalMetrics& m = log.evaluations[i];
    html +=
        build_string("<tr><td class=\"number\">", m.step, "</td><td class=\"number\">", format_fixed(m.valid_loss, 4),
                     "</td><td class=\"number\">", format_fixed(m.perplexity(), 2), "</td></tr>\n");
  }
  return html + "</table>\n";
}

std::string text_section(const char* heading, const std::optional<std::string>& text) {
  if (!text) return "";
  return build_string("<h2>", heading, "</h2>\n<pre>", escape_xml(*text), "</pre>\n");
}

LossChart chart_of(const std::string& name, const MetricsLog& log) {
  LossChart chart{.title = name + ": loss", .training = {}, .validation = {}};
  for (const StepMetrics& m : log.steps) chart.training.push_back({static_cast<double>(m.step), m.loss});
  for (const EvalMetrics& m : log.evaluations) chart.validation.push_back({static_cast<double>(m.step), m.valid_loss});
  return chart;
}

/// The last part of the path that is a name: of "runs/a/" it is "a", of "." the directory's own.
std::string name_of(const std::string& run_dir) {
  std::filesystem::path path = std::filesystem::absolute(run_dir).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();
  return path.filename().string();
}

}  // namespace

void write_report(const std::string& run_dir) {
  const MetricsLog log = read_metrics(run_dir + "/metrics.jsonl");
  const std::string name = name_of(run_dir), svg = draw_loss_chart(chart_of(name, log));
  write_file(run_dir + "/loss.svg", "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n" + svg);

  std::string html = "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"/>\n";
  html += "<meta name=\"viewport\" content=\"width=device-width\"/>\n<title>" + escape_xml(name) + "</title>\n";
  html += std::string(kStyle) + "</head>\n<body>\n<h1>" + escape_xml(name) + "</h1>\n" + svg;
  html += "<h2>Last step</h2>\n" + last_step_table(log) + evaluation_table(log);
  html += text_section("Memory: planned and measured", read_file(run_dir + "/plan.txt"));
  html += text_section("Config, resolved", read_file(run_dir + "/config.yaml"));
  write_file(run_dir + "/report.html", html + "</body>\n</html>\n");
}

}  // namespace trident
