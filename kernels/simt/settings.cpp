#include "kernels/simt/settings.h"

#include <cstdio>
#include <cstdlib>
#include <mutex>

#include "kernels/simt/control.h"
#include "kernels/simt/device_thread.h"
#include "kernels/simt/options.h"

namespace simt {
namespace {

/// A whole number with an optional K, M or G behind it.
uint64_t parse_number(const char* variable, const std::string& text, bool suffix) {
  char* end = nullptr;
  const uint64_t number = std::strtoull(text.c_str(), &end, 10);
  uint64_t scale = 1;
  if (suffix && end != nullptr && *end != '\0') {
    const std::string unit = end;
    scale = unit == "K" ? uint64_t{1} << 10 : unit == "M" ? uint64_t{1} << 20 : unit == "G" ? uint64_t{1} << 30 : 0;
    end += 1;
  }
  if (text.empty() || text[0] == '-' || end == text.c_str() || *end != '\0' || scale == 0) {
    refuse_environment(variable, text, suffix ? "a number of bytes, or one with K, M or G" : "a whole number");
  }
  return number * scale;
}

template <class Value>
Value choose(const char* variable, const std::string& text,
             std::initializer_list<std::pair<const char*, Value>> known) {
  std::string names;
  for (const auto& [name, value] : known) {
    if (text == name) return value;
    names += std::string(names.empty() ? "" : ", ") + name;
  }
  refuse_environment(variable, text, "one of " + names);
}

void inject_from(const std::string& list) {
  constexpr const char* kVariable = "TRIDENT_SIMT_FAIL";
  for (size_t begin = 0; begin < list.size();) {
    const size_t end = std::min(list.find(',', begin), list.size());
    const std::string entry = list.substr(begin, end - begin);
    const size_t first = entry.find(':'), second = entry.find(':', first + 1);
    const int error = second == std::string::npos ? -1 : error_from_text(entry.substr(second + 1));
    if (error <= 0) refuse_environment(kVariable, entry, "NAME:N:ERROR, e.g. cudaMalloc:3:cudaErrorMemoryAllocation");
    const uint64_t nth = parse_number(kVariable, entry.substr(first + 1, second - first - 1), false);
    inject(entry.substr(0, first), static_cast<int>(nth), error);
    begin = end + 1;
  }
}

Settings read_environment() {
  Settings s;
  const auto with = [](const char* variable, auto use) {
    if (const char* text = std::getenv(variable)) use(variable, std::string(text));
  };
  with("TRIDENT_SIMT_POLICY", [&](const char* v, const std::string& text) {
    s.policy = choose<StreamPolicy>(
        v, text, {{"lazy", StreamPolicy::Lazy}, {"eager", StreamPolicy::Eager}, {"random", StreamPolicy::Random}});
  });
  with("TRIDENT_SIMT_PAGEABLE", [&](const char* v, const std::string& text) {
    s.late_pageable = choose<bool>(v, text, {{"driver", false}, {"late", true}});
  });
  with("TRIDENT_SIMT_SEED",
       [&](const char* v, const std::string& text) { opt.seed = s.seed = parse_number(v, text, false); });
  with("TRIDENT_SIMT_ORDER", [](const char* v, const std::string& text) {
    opt.order = choose<Order>(
        v, text, {{"ascending", Order::Ascending}, {"descending", Order::Descending}, {"random", Order::Random}});
  });
  with("TRIDENT_SIMT_DEVICES",
       [&](const char* v, const std::string& text) { s.devices = static_cast<int>(parse_number(v, text, false)); });
  with("TRIDENT_SIMT_MEMORY",
       [&](const char* v, const std::string& text) { s.memory_bytes = parse_number(v, text, true); });
  with("TRIDENT_SIMT_ARCH", [&](const char* v, const std::string& text) {
    s.arch = choose<int>(v, text, {{"80", 80}, {"90", 90}});
  });
  with("TRIDENT_SIMT_NCCL_TIMEOUT", [&](const char* v, const std::string& text) {
    s.nccl_timeout_seconds = static_cast<double>(parse_number(v, text, false));
  });
  with("TRIDENT_SIMT_FAIL", [](const char*, const std::string& text) { inject_from(text); });
  return s;
}

std::mutex g_mutex;

void apply(const Settings& s) { opt.architecture = s.arch == 90 ? Architecture::sm_90 : Architecture::sm_80; }

Settings& current() {
  static Settings settings = [] {
    const Settings s = read_environment();
    apply(s);
    return s;
  }();
  return settings;
}

}  // namespace

void refuse_environment(const char* variable, const std::string& value, const std::string& expected) {
  std::fprintf(stderr, "simt: %s is \"%s\"; expected %s\n", variable, value.c_str(), expected.c_str());
  std::fflush(nullptr);
  std::_Exit(1);
}

Settings settings() {
  const std::lock_guard<std::mutex> lock(g_mutex);
  return current();
}

void set_settings(const Settings& s) {
  {
    const std::lock_guard<std::mutex> lock(g_mutex);
    current() = s;
    apply(s);
  }
  if (s.devices == 0) return;
  Gpu& gpu = Gpu::get();
  const Lock lock(gpu.mutex());
  gpu.set_policy(s);
}

}  // namespace simt
