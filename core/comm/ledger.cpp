#include "core/comm/ledger.h"

#include <chrono>
#include <iomanip>

#include "core/base/error.h"

namespace trident {
namespace {

double now_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::string key_of(std::string_view axis, std::string_view operation) {
  return std::string(axis).append(1, '.').append(operation);
}

}  // namespace

void Ledger::at(int64_t step, std::string_view phase, int block, int micro) {
  const std::lock_guard lock(mutex_);
  step_ = step;
  phase_ = phase;
  block_ = block;
  micro_ = micro;
}

int64_t Ledger::begin(std::string_view axis, std::string_view operation, size_t bytes) {
  const std::string key = key_of(axis, operation);
  const std::lock_guard lock(mutex_);
  running_since_[key] = now_seconds();
  Volume& volume = volumes_[key];
  volume.bytes += static_cast<int64_t>(bytes);
  return ++volume.calls;
}

void Ledger::end(std::string_view axis, std::string_view operation) {
  const std::lock_guard lock(mutex_);
  running_since_.erase(key_of(axis, operation));
}

std::string Ledger::place_locked() const {
  std::string text = build_string("step ", step_, ", ", phase_);
  if (block_ >= 0) text += build_string(" of block ", block_);
  if (micro_ >= 0) text += build_string(", micro-batch ", micro_);
  return text;
}

std::string Ledger::place() const {
  const std::lock_guard lock(mutex_);
  return place_locked();
}

std::string Ledger::describe() const {
  const std::lock_guard lock(mutex_);
  std::string text = place_locked();
  if (running_since_.empty()) return text + ", computing";
  for (const auto& [key, since] : running_since_) {
    const size_t dot = key.find('.');
    text += build_string(", in ", key.substr(dot + 1), " #", volumes_.at(key).calls, " on ", key.substr(0, dot),
                         " for ", std::fixed, std::setprecision(1), now_seconds() - since, " s");
  }
  return text;
}

std::map<std::string, Ledger::Volume> Ledger::volumes() const {
  const std::lock_guard lock(mutex_);
  return volumes_;
}

int64_t Ledger::bytes() const {
  const std::lock_guard lock(mutex_);
  int64_t total = 0;
  for (const auto& [key, volume] : volumes_) total += volume.bytes;
  return total;
}

int64_t Ledger::step() const {
  const std::lock_guard lock(mutex_);
  return step_;
}

}  // namespace trident
