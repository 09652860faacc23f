#include "core/run/report.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <vector>

#include "core/base/error.h"
#include "core/train/metrics.h"
#include "run/xml_reader.h"
#include "support/catch.h"

using namespace trident;
using namespace trident::testing;
namespace fs = std::filesystem;

namespace {

/// A run directory of its own, gone at the end.
struct RunFolder {
  fs::path path;
  explicit RunFolder(const std::string& name = "my-run")
      : path(fs::temp_directory_path() / build_string("trident_report_test_", ::getpid()) / name) {
    fs::create_directories(path);
  }
  ~RunFolder() { fs::remove_all(path.parent_path()); }
  std::string file(const std::string& name) const { return (path / name).string(); }
};

void write_metrics(const std::string& path, int64_t steps) {
  MetricsWriter writer(path);
  for (int64_t step = 1; step <= steps; ++step) {
    StepMetrics m{
        .step = step, .tokens = step * 4096, .loss = 2 + 3.0 / static_cast<double>(step), .grad_norm = 1.5, .lr = 3e-4};
    m.tokens_per_s = 12345;
    m.step_ms = 331;
    m.mem_peak_bytes = int64_t{3} << 30;
    m.skipped = step == 3;
    if (m.skipped) m.loss = StepMetrics::kUnknown;
    writer.write(m);
    if (step % 2 == 0) writer.write(EvalMetrics{step, 2.5 + 1.0 / static_cast<double>(step)});
  }
}

std::string read(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

/// The texts of the table cells, in order.
std::vector<std::string> cells(const XmlDocument& html) {
  std::vector<std::string> texts;
  for (const XmlElement& e : html.elements) {
    if (e.name == "td") texts.push_back(e.text);
  }
  return texts;
}

std::string value_of(const XmlDocument& html, const std::string& name) {
  const auto texts = cells(html);
  const auto at = std::find(texts.begin(), texts.end(), name);
  return at == texts.end() || at + 1 == texts.end() ? "absent" : *(at + 1);
}

int count_of(const XmlDocument& document, const std::string& name) {
  return static_cast<int>(std::count_if(document.elements.begin(), document.elements.end(),
                                        [&](const XmlElement& e) { return e.name == name; }));
}

}  // namespace

TEST_CASE("a report holds the picture, the last numbers, validations, plan and config", "[run]") {
  const RunFolder run;
  write_metrics(run.file("metrics.jsonl"), 10);
  std::ofstream(run.file("config.yaml")) << "name: \"a & b\"\ntrain: {steps: 10} # <soon>\n";
  std::ofstream(run.file("plan.txt")) << "parameters  planned 1.0 MiB  measured 1.0 MiB\n";
  write_report(run.path.string());

  const XmlDocument svg = read_xml(read(run.file("loss.svg")));
  REQUIRE(svg.problem == "");
  CHECK(svg.elements[0].name == "svg");
  CHECK(svg.elements[0].attribute("xmlns") == "http://www.w3.org/2000/svg");
  CHECK(svg.elements[1].text == "my-run: loss");
  CHECK(count_of(svg, "circle") == 5 + 1);

  const std::string text = read(run.file("report.html"));
  const XmlDocument html = read_xml(text);
  REQUIRE(html.problem == "");
  CHECK(value_of(html, "step") == "10");
  CHECK(value_of(html, "tokens seen") == "41.0k");
  CHECK(value_of(html, "loss") == "2.3000");
  CHECK(value_of(html, "tokens per second") == "12.3k");
  CHECK(value_of(html, "MFU, of the measured GEMM peak") == "?%");  // unknown stays unknown
  CHECK(value_of(html, "time of a step") == "331ms");
  CHECK(value_of(html, "peak memory of a rank") == "3.0 GiB");
  CHECK(value_of(html, "steps not applied") == "1");
  CHECK(value_of(html, "unreadable lines in metrics.jsonl") == "absent");
  CHECK(count_of(html, "svg") == 1);
  CHECK(count_of(html, "table") == 2);
  const auto texts = cells(html);
  CHECK(std::count(texts.begin(), texts.end(), "2.6000") == 1);  // the last validation
  CHECK(contains(text, "planned 1.0 MiB"));
  CHECK(contains(text, "name: &quot;a &amp; b&quot;"));
  CHECK(contains(text, "&lt;soon&gt;"));
  // Self-contained: nothing is fetched.
  for (const XmlElement& e : html.elements) {
    INFO(e.name);
    CHECK((e.attribute("src").empty() && e.attribute("href").empty()));
    CHECK((e.name != "script" && e.name != "link" && e.name != "img"));
  }
}

TEST_CASE("a report of a run that has hardly begun", "[run]") {
  const RunFolder run;
  std::ofstream(run.file("metrics.jsonl")) << "";
  write_report(run.path.string() + "/");  // a trailing slash is no name
  const std::string text = read(run.file("report.html"));
  REQUIRE(read_xml(text).problem == "");
  CHECK(contains(text, "<h1>my-run</h1>"));
  CHECK(contains(text, "No step has been taken yet"));
  CHECK_FALSE(contains(text, "Validation"));
  CHECK_FALSE(contains(text, "Config"));
  CHECK_FALSE(contains(text, "Memory"));
  CHECK(contains(read(run.file("loss.svg")), "no finite loss yet"));
}

TEST_CASE("a long run lists its last validations, and torn lines are counted", "[run]") {
  const RunFolder run("<run>");
  write_metrics(run.file("metrics.jsonl"), 200);
  std::ofstream(run.file("metrics.jsonl"), std::ios::app) << "{\"step\":20";
  write_report(run.path.string());
  const XmlDocument html = read_xml(read(run.file("report.html")));
  REQUIRE(html.problem == "");
  CHECK(value_of(html, "unreadable lines in metrics.jsonl") == "1");
  const auto texts = cells(html);
  CHECK(std::count(texts.begin(), texts.end(), "102") == 1);  // the first of the last 50
  CHECK(std::count(texts.begin(), texts.end(), "100") == 0);
  CHECK(contains(read(run.file("report.html")), "Validation (last 50 of 100)"));
}

TEST_CASE("a report that cannot be made says why", "[run]") {
  const RunFolder run;
  try {
    write_report(run.path.string());
    FAIL("there are no metrics");
  } catch (const UserError& e) {
    CHECK(contains(e.what(), "metrics.jsonl: No such file"));
  }
  write_metrics(run.file("metrics.jsonl"), 1);
  fs::create_directories(run.file("loss.svg"));
  try {
    write_report(run.path.string());
    FAIL("a folder is in the way");
  } catch (const RunError& e) {
    CHECK(contains(e.what(), "loss.svg: Is a directory"));
  }
}
