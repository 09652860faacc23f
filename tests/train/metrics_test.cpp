#include "core/train/metrics.h"

#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "core/base/error.h"
#include "support/catch.h"

using namespace trident;
namespace fs = std::filesystem;

namespace {

/// A folder of its own, gone at the end.
struct Folder {
  fs::path path = fs::temp_directory_path() / build_string("trident_metrics_test_", ::getpid());
  Folder() { fs::create_directories(path); }
  ~Folder() { fs::remove_all(path); }
  std::string file(const std::string& name = "metrics.jsonl") const { return (path / name).string(); }
};

StepMetrics sample(int64_t step) {
  return {.step = step,
          .tokens = step * 4096,
          .loss = 2.345678901234567,
          .grad_norm = 1.234,
          .lr = 3e-4,
          .tokens_per_s = 12345.6,
          .tflops = 0.011,
          .mfu = 0.412,
          .step_ms = 331.9,
          .mem_peak_bytes = int64_t{1288490189},
          .comm_bytes = 1000,
          .skipped = false};
}

std::string read(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

template <class Error, class F>
std::string error_of(F&& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("a step is one JSON object with the promised keys, in order", "[train]") {
  const std::string line = to_json(sample(7));
  CHECK(line ==
        R"({"step":7,"tokens":28672,"loss":2.345678901234567,"grad_norm":1.234,"lr":0.0003,"tokens_per_s":12345.6,)"
        R"("tflops":0.011,"mfu":0.412,"step_ms":331.9,"mem_peak_bytes":1288490189,"comm_bytes":1000,"skipped":false})");
}

TEST_CASE("unknown numbers are null and come back unknown", "[train]") {
  StepMetrics unknown;
  unknown.step = 1;
  unknown.loss = std::numeric_limits<double>::infinity();
  unknown.skipped = true;
  const auto line = nlohmann::json::parse(to_json(unknown));
  for (const char* key : {"loss", "grad_norm", "tokens_per_s", "tflops", "mfu", "step_ms"}) {
    INFO(key);
    CHECK(line.at(key).is_null());
  }
  const Folder folder;
  MetricsWriter(folder.file()).write(unknown);
  const MetricsLog log = read_metrics(folder.file());
  REQUIRE(log.steps.size() == 1);
  CHECK(std::isnan(log.steps[0].mfu));
  CHECK(std::isnan(log.steps[0].loss));
  CHECK(log.steps[0].skipped);
}

TEST_CASE("what is written is read back, bit for bit", "[train]") {
  const Folder folder;
  {
    MetricsWriter writer(folder.file());
    writer.write(sample(1));
    writer.write(EvalMetrics{1, 2.5});
    writer.write(sample(2));
  }
  MetricsWriter(folder.file()).write(sample(3));  // appends
  const MetricsLog log = read_metrics(folder.file());
  REQUIRE(log.unreadable_lines == 0);
  REQUIRE(log.steps.size() == 3);
  for (int i = 0; i < 3; ++i) REQUIRE(to_json(log.steps[i]) == to_json(sample(i + 1)));
  REQUIRE(log.steps[2].loss == sample(3).loss);
  REQUIRE(log.evaluations.size() == 1);
  REQUIRE(log.evaluations[0].step == 1);
  REQUIRE(log.evaluations[0].valid_loss == 2.5);
  const auto line = nlohmann::json::parse(to_json(log.evaluations[0]));
  REQUIRE(line == nlohmann::json{{"step", 1}, {"valid_loss", 2.5}, {"perplexity", std::exp(2.5)}});
}

TEST_CASE("a torn line is skipped, and the next one starts afresh", "[train]") {
  const Folder folder;
  MetricsWriter(folder.file()).write(sample(1));
  std::ofstream(folder.file(), std::ios::app) << R"({"step":2,"loss":1.)";
  MetricsWriter(folder.file()).write(sample(3));
  std::ofstream(folder.file(), std::ios::app) << "[1,2]\n{\"loss\":1}\n{\"step\":\"x\"}\n{\"step\":4}";
  const MetricsLog log = read_metrics(folder.file());
  REQUIRE(log.unreadable_lines == 4);
  REQUIRE(log.steps.size() == 3);
  CHECK(log.steps[1].step == 3);
  CHECK(log.steps[2].step == 4);
  CHECK(std::isnan(log.steps[2].loss));
}

TEST_CASE("resuming drops what came after the checkpoint and nothing else", "[train]") {
  const Folder folder;
  {
    MetricsWriter writer(folder.file());
    for (int64_t step = 1; step <= 5; ++step) {
      writer.write(sample(step));
      if (step % 2 == 0) writer.write(EvalMetrics{step, 3.0});
    }
  }
  std::ofstream(folder.file(), std::ios::app) << R"({"step":6,"lo)";
  std::string expected;
  for (int64_t step = 1; step <= 4; ++step) {
    expected += to_json(sample(step)) + "\n";
    if (step % 2 == 0) expected += to_json(EvalMetrics{step, 3.0}) + "\n";
  }
  REQUIRE(truncate_metrics(folder.file(), 4) == 2);  // step 5 and the torn line
  REQUIRE(read(folder.file()) == expected);
  REQUIRE(truncate_metrics(folder.file(), 4) == 0);
  REQUIRE(read(folder.file()) == expected);
  REQUIRE_FALSE(fs::exists(folder.file("metrics.jsonl.tmp")));
  REQUIRE(truncate_metrics(folder.file(), 0) == 6);
  REQUIRE(read(folder.file()).empty());
  REQUIRE(truncate_metrics(folder.file("absent.jsonl"), 4) == 0);
}

TEST_CASE("metrics errors name the file and the fix", "[train]") {
  const Folder folder;
  const std::string read_error = error_of<UserError>([&] { read_metrics(folder.file("absent.jsonl")); });
  CHECK(contains(read_error, "absent.jsonl: No such file"));
  const std::string open_error = error_of<RunError>([&] { MetricsWriter writer(folder.file("no/such/folder")); });
  CHECK(contains(open_error, "cannot open"));
  CHECK(contains(open_error, "make `out` writable"));
  // A full disk, which every Linux has one of.
  const std::string full = error_of<RunError>([&] { MetricsWriter("/dev/full").write(sample(1)); });
  CHECK(contains(full, "cannot write /dev/full: No space left on device"));
  // The copy cannot be written where a folder of its name is; the original stays.
  MetricsWriter(folder.file()).write(sample(9));
  fs::create_directories(folder.file("metrics.jsonl.tmp"));
  const std::string replace_error = error_of<RunError>([&] { truncate_metrics(folder.file(), 1); });
  CHECK(contains(replace_error, "metrics.jsonl.tmp"));
  CHECK(read(folder.file()) == to_json(sample(9)) + "\n");
  // A file where a folder should be is not "absent".
  CHECK(contains(error_of<RunError>([&] { truncate_metrics(folder.file() + "/metrics.jsonl", 1); }), "cannot read"));
}

TEST_CASE("progress lines stand under one another", "[train]") {
  const std::string line = progress_line(sample(120), 300, 83.0 / 180);
  CHECK(line ==
        "step   120/300  loss  2.3457  norm   1.234  lr 3.00e-04  12.3k tok/s  MFU  41.2%  ETA  1m23s  mem    1.2 GiB");
  StepMetrics other = sample(9);
  other.loss = 10.9;
  other.grad_norm = 123.4;
  other.tokens_per_s = 987;
  other.mfu = StepMetrics::kUnknown;
  other.mem_peak_bytes = 1000 << 20;
  const std::string second = progress_line(other, 300, 100);
  CHECK(second.size() == line.size());
  CHECK(contains(second, "step     9/300  loss 10.9000  norm 123.400"));
  CHECK(contains(second, "MFU     ?%  ETA  8h05m  mem 1000.0 MiB"));
  StepMetrics skipped = sample(300);
  skipped.loss = StepMetrics::kUnknown;
  skipped.skipped = true;
  const std::string third = progress_line(skipped, 300, 1);
  CHECK(contains(third, "loss       ?"));
  CHECK(contains(third, "ETA    0ms"));
  CHECK(third.size() == line.size() + std::string("  not applied").size());
  CHECK(progress_line(sample(1), 1000000, 1).substr(0, 20) == "step       1/1000000");
  CHECK(progress_line(EvalMetrics{100, 2.5}, 300) == "step   100/300  valid loss  2.5000  perplexity 12.18");
}
