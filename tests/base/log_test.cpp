// The log writes to stderr and to a file; these tests read the file.
#include "core/base/log.h"

#include <unistd.h>

#include <cctype>
#include <climits>
#include <filesystem>
#include <fstream>
#include <vector>

#include "core/base/error.h"
#include "support/catch.h"

using namespace trident;

namespace {

/// A log file of its own, removed in the end; the log goes back to rank 0, info.
class LogFile {
 public:
  explicit LogFile(const std::string& name)
      : path_((std::filesystem::temp_directory_path() / build_string("trident-log-", getpid(), "-", name)).string()) {
    std::filesystem::remove(path_);
    log::to_file(path_);
  }
  ~LogFile() {
    log::to_file("/dev/null");
    log::configure(0, log::Level::info);
    std::filesystem::remove(path_);
  }
  std::vector<std::string> lines() const {
    std::ifstream in(path_);
    std::vector<std::string> all;
    for (std::string line; std::getline(in, line);) all.push_back(line);
    return all;
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace

TEST_CASE("rank 0 writes aligned lines from its level up, without a prefix") {
  const LogFile file("rank0");
  log::configure(0, log::Level::info);
  log::debug("hidden");
  log::info("step 1");
  log::warn("slow disk");
  log::error("gone");
  const std::vector<std::string> lines = file.lines();
  REQUIRE(lines.size() == 3);
  const std::string expected[] = {" [info ] step 1", " [warn ] slow disk", " [error] gone"};
  for (size_t i = 0; i < 3; ++i) {
    REQUIRE(lines[i].size() > 12);
    CHECK(lines[i].substr(12) == expected[i]);
    // 12:30:01.123
    for (size_t at = 0; at < 12; ++at) {
      const char separator = at == 2 || at == 5 ? ':' : at == 8 ? '.' : '0';
      CHECK(
          (separator == '0' ? std::isdigit(static_cast<unsigned char>(lines[i][at])) != 0 : lines[i][at] == separator));
    }
  }
}

TEST_CASE("debug lines show when asked for") {
  const LogFile file("debug");
  log::configure(0, log::Level::debug);
  log::debug("shown");
  REQUIRE(file.lines().size() == 1);
  CHECK(file.lines()[0].substr(12) == " [debug] shown");
}

TEST_CASE("other ranks only warn and fail, and say who they are") {
  const LogFile file("rank3");
  log::configure(3, log::Level::debug);
  log::info("hidden");
  log::warn("late");
  REQUIRE(file.lines().size() == 1);
  CHECK(file.lines()[0].substr(12) == " [warn ] rank 3: late");
}

TEST_CASE("a log file is appended to, and a second one takes over") {
  const LogFile first("first");
  log::info("one");
  log::to_file(first.path());
  log::info("two");
  CHECK(first.lines().size() == 2);
  const LogFile second("second");
  log::info("three");
  CHECK(first.lines().size() == 2);
  CHECK(second.lines().size() == 1);
}

TEST_CASE("a reader that stands still stops nobody who is in a hurry") {
  const LogFile file("hurry");
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  const int terminal = ::dup(STDERR_FILENO);
  ::dup2(ends[1], STDERR_FILENO);
  log::drop_lines_when([] { return true; });
  // Twice what the pipe holds (64 KiB), one line longer than a piece.
  const std::string text(1000, 'x');
  for (int i = 0; i < 128; ++i) log::info(text);
  log::info(std::string(3 * PIPE_BUF, 'y'));
  log::drop_lines_when(nullptr);
  ::dup2(terminal, STDERR_FILENO);
  for (const int open : {terminal, ends[0], ends[1]}) ::close(open);
  REQUIRE(file.lines().size() == 129);
  CHECK(file.lines().front().substr(21) == text);
}

TEST_CASE("a line longer than a pipe takes at once arrives whole") {
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  const int terminal = ::dup(STDERR_FILENO);
  ::dup2(ends[1], STDERR_FILENO);
  log::info(std::string(2 * PIPE_BUF + 10, 'z'));
  ::dup2(terminal, STDERR_FILENO);
  ::close(terminal);
  ::close(ends[1]);
  std::string got(4 * PIPE_BUF, ' ');
  size_t size = 0;
  for (ssize_t n = 1; n > 0; size += static_cast<size_t>(n)) n = ::read(ends[0], got.data() + size, got.size() - size);
  ::close(ends[0]);
  CHECK(size == 21 + 2 * PIPE_BUF + 10 + 1);
}

TEST_CASE("a log file that cannot be opened is the user's mistake, by name") {
  std::string text;
  try {
    log::to_file("/nonexistent-directory/log.txt");
  } catch (const UserError& error) {
    text = error.what();
  }
  CHECK(text == "cannot open the log file /nonexistent-directory/log.txt: is the directory writable?");
  log::to_file("/dev/null");
}
