// Watchdog: finds out who is missing when a collective never ends.
//
// Policy: every rank runs one small thread on a communicator of its own, which looks 20 times a second whether another
// rank asks "where are you?" and answers from the ledger, whatever the rank's other threads are stuck in. A rank whose
// wait timed out first claims the right to speak (so that one line appears, not one per rank), then asks the members of
// its group. No answer within 2 s: stopped or dead. A smaller sequence number on the communicator: not yet there.
#pragma once

#include <mpi.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <list>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "core/comm/ledger.h"

namespace trident {

/// A wait that timed out.
struct Stall {
  std::string operation;     ///< "all_reduce #41 on tensor"
  int communicator = 0;      ///< its number, the same on all members
  int64_t sequence = 0;      ///< of the collective on the communicator; 0: point to point
  std::vector<int> members;  ///< world ranks waited for, without this one
  double seconds = 0;        ///< how long
};

class Watchdog {
 public:
  /// Duplicates the world (collective) and starts the thread. `hosts`: by world rank.
  Watchdog(Ledger& ledger, std::vector<std::string> hosts);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  /// From now on answers include how many collectives this rank has begun on the communicator.
  void watch(int communicator, const std::atomic<int64_t>* begun);
  void unwatch(int communicator);

  /// Ends the job with exit code 2 after one line that names the missing ranks, or waits to be ended by the rank that
  /// speaks. Any thread.
  [[noreturn]] void give_up(const Stall& stall);

  /// Ends the job with this code after "trident: rank N (host): message" on stderr. Of several ranks that fail one
  /// speaks: the first. Any thread.
  [[noreturn]] void fail(int code, std::string_view message);

 private:
  /// What crosses the wire; ranks of one job run the same binary.
  struct Query {
    int32_t tag;
    int32_t communicator;
  };
  struct Answer {
    int64_t sequence;
    char text[248];
  };

  void run_thread();
  void serve_queries();
  void ask(int rank, Query query);
  /// The answer of `rank` with this tag, if it has come.
  bool poll_answer(int rank, int tag, Answer& answer);
  /// True on the first rank of the job that asks.
  bool claim_the_word();
  std::string report(const Stall& stall);
  void speak(std::string_view message) const;
  [[noreturn]] void end_job(int code, std::string_view message) const;

  Ledger& ledger_;
  const std::vector<std::string> hosts_;
  MPI_Comm comm_ = MPI_COMM_NULL;
  int rank_ = 0, size_ = 1;

  std::mutex mutex_;  ///< guards what follows
  std::condition_variable stop_;
  bool stopping_ = false;
  std::map<int, const std::atomic<int64_t>*> begun_;
  // Messages on their way. Never reclaimed before the end: a stopped receiver may take them late, and they are few.
  std::list<Query> queries_;
  std::list<Answer> answers_;
  std::atomic<bool> word_given_{false};
  std::thread thread_;
};

}  // namespace trident
