#include "core/checkpoint/posix_file.h"

#include <sys/stat.h>

#include "checkpoint/support.h"
#include "support/catch.h"

using namespace trident;
using namespace trident::test;

TEST_CASE("what is written is read back, at any offset", "[posix_file]") {
  TempDir dir;
  const std::string path = dir / "f", text = "hello, file";
  PosixFile out = PosixFile::create(path);
  out.write(std::as_bytes(std::span(text)));
  out.sync_and_close();
  CHECK_FALSE(out.is_open());

  const PosixFile in = PosixFile::open_read(path);
  CHECK(in.size() == 11);
  std::string part(4, ' ');
  in.read_at(7, std::as_writable_bytes(std::span(part)));
  CHECK(part == "file");
  CHECK(contains(message_of<UserError>([&] { in.read_at(8, std::as_writable_bytes(std::span(part))); }),
                 "ends at byte 11, 1 bytes early: it is truncated"));
  CHECK(read_text(path, 11) == text);
  CHECK(contains(message_of<UserError>([&] { read_text(path, 10); }), "has 11 bytes, more than the 10"));
}

TEST_CASE("what cannot be opened is told with path and reason", "[posix_file]") {
  TempDir dir;
  CHECK(message_of<UserError>([&] { PosixFile::open_read(dir / "none"); }) ==
        "cannot open " + (dir / "none") + ": No such file or directory");
  CHECK(message_of<UserError>([&] { PosixFile::open_read(dir.path()); }) == dir.path() + " is not a file");
  CHECK(contains(message_of<RunError>([&] { PosixFile::create(dir / "no/such"); }),
                 "cannot create " + (dir / "no/such")));
  CHECK(contains(message_of<RunError>([&] { sync_directory(dir / "none"); }), "No such file"));
  CHECK(contains(message_of<RunError>([&] { write_text_atomically(dir / "none/latest", "x"); }), "none/.tmp-latest"));
}

TEST_CASE("a full device is told, with what to do", "[posix_file]") {
  PosixFile full = PosixFile::create("/dev/full");
  const std::string text = "x";
  CHECK(message_of<RunError>([&] { full.write(std::as_bytes(std::span(text))); }) ==
        "cannot write /dev/full: No space left on device (free space there, lower checkpoint.keep, or set `out` to "
        "another disk)");
}

TEST_CASE("a text is replaced as a whole", "[posix_file]") {
  TempDir dir;
  write_text_atomically(dir / "latest", "one\n");
  write_text_atomically(dir / "latest", "two\n");
  CHECK(slurp(dir / "latest") == "two\n");
  CHECK_FALSE(std::filesystem::exists(dir / ".tmp-latest"));
}
