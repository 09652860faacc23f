#include "core/base/log.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <climits>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <mutex>

#include "core/base/error.h"

namespace trident::log {
namespace {

struct Sink {
  std::mutex mutex;
  int rank = 0;
  Level level = Level::info;
  std::ofstream file;
  bool (*hurried)() = nullptr;
};

Sink& sink() {
  static Sink instance;
  return instance;
}

std::string timestamp() {
  const auto now = std::chrono::system_clock::now();
  const std::time_t seconds = std::chrono::system_clock::to_time_t(now);
  const auto millis = std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch()).count() % 1000;
  std::tm local{};
  localtime_r(&seconds, &local);
  char text[32];
  std::snprintf(text, sizeof text, "%02d:%02d:%02d.%03d", local.tm_hour, local.tm_min, local.tm_sec,
                static_cast<int>(millis));
  return text;
}

// Waits until stderr takes a piece of up to PIPE_BUF bytes without blocking; false when there is no time for that.
bool wait_for_stderr(bool (*hurried)()) {
  constexpr int kLookMilliseconds = 50;
  pollfd out{.fd = STDERR_FILENO, .events = POLLOUT, .revents = 0};
  for (;;) {
    const int ready = ::poll(&out, 1, kLookMilliseconds);
    // Any other error is the write's to find.
    if (ready > 0 || (ready < 0 && errno != EINTR)) return true;
    if (hurried != nullptr && hurried()) return false;
  }
}

// A line is one piece, and one fwrite a piece: lines of many ranks on one terminal do not mix.
void write_to_stderr(std::string_view line, bool (*hurried)()) {
  while (!line.empty() && wait_for_stderr(hurried)) {
    const std::string_view piece = line.substr(0, PIPE_BUF);
    std::fwrite(piece.data(), 1, piece.size(), stderr);
    line.remove_prefix(piece.size());
  }
}

}  // namespace

void configure(int rank, Level level) {
  const std::lock_guard lock(sink().mutex);
  sink().rank = rank;
  sink().level = level;
}

void to_file(const std::string& path) {
  const std::lock_guard lock(sink().mutex);
  sink().file.close();
  sink().file.clear();
  sink().file.open(path, std::ios::app);
  if (!sink().file) throw UserError(build_string("cannot open the log file ", path, ": is the directory writable?"));
}

void drop_lines_when(bool (*hurried)()) {
  const std::lock_guard lock(sink().mutex);
  sink().hurried = hurried;
}

void write(Level level, std::string_view text) {
  constexpr const char* kNames[] = {"debug", "info ", "warn ", "error"};
  Sink& s = sink();
  const std::lock_guard lock(s.mutex);
  if (level < (s.rank == 0 ? s.level : Level::warn)) return;
  std::string line = build_string(timestamp(), " [", kNames[static_cast<int>(level)], "] ");
  if (s.rank != 0) line += build_string("rank ", s.rank, ": ");
  line.append(text).push_back('\n');
  if (s.file) s.file << line << std::flush;
  write_to_stderr(line, s.hurried);
}

}  // namespace trident::log
