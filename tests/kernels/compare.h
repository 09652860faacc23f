// Runs cases on an op table and holds the results against the reference. Red zones around every tensor show writes
// outside it; they and the outputs start as NaN bytes, so reads outside and elements never written show too.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cases.h"

namespace trident::cases {

/// Memory of the table under test. The host for CPU tables; a CUDA table brings its own.
class Room {
 public:
  virtual ~Room() = default;
  /// 256-byte aligned bytes, valid until `release_all`.
  virtual char* alloc(size_t bytes) = 0;
  virtual void release_all() = 0;
  virtual void upload(char* to, const std::vector<char>& from) = 0;
  /// Waits for the work submitted so far, then copies.
  virtual std::vector<char> download(const char* from, size_t bytes) = 0;
  virtual Place place() const = 0;
  virtual Stream stream() const = 0;

  /// Bytes of red zone in front of a tensor and behind it. None where the room itself hears of every access outside an
  /// allocation, reads among them: each tensor then fills an allocation of its own.
  virtual size_t zone() const { return 256; }

  /// How often a case runs with aligned tensors; every time must give the same bits.
  virtual int repeats() const { return 2; }
  /// Called before a case's n-th run: a room that can work in several orders changes them here.
  virtual void begin_run(int /*n*/) {}
};

std::unique_ptr<Room> make_host_room();

/// Runs the case on the table (`room.repeats()` times with aligned tensors, which must agree bit for bit; then with
/// every tensor one element off its alignment, as row views of odd widths are, and with a single one) and once on
/// the reference. Returns what is wrong, one line each: the worst element beyond its tolerance (index, got, want,
/// tolerance), an input that changed, a red zone that was written. Empty: all is well.
std::vector<std::string> compare(const Ops& table, const Case& c, Room& room);

/// The lines as one text, for a test's message.
std::string join_lines(const std::vector<std::string>& lines);

}  // namespace trident::cases
