#include "core/comm/watchdog.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <iomanip>
#include <utility>

#include "core/base/error.h"
#include "core/comm/mpi_wait.h"

namespace trident {
namespace {

using namespace std::chrono_literals;

constexpr int kQuery = 1, kAnswer = 2, kClaim = 3, kGrant = 4;
constexpr auto kPollPeriod = 50ms;
constexpr Seconds kAnswerLimit = 2s;
/// How long ranks without the word wait for the end: the speaker's report, and mpirun takes its time to kill the others
/// (twice odls_base_sigkill_timeout).
constexpr auto kEndLimit = 120s;
/// How long a failed rank that has spoken still answers others that fail alike, before it ends the job.
constexpr auto kLinger = 1500ms;
/// Ranks asked for the word before one speaks unasked: only when all of these are stopped can two lines appear.
constexpr int kClaimRanks = 4;
/// The line names at most so many ranks.
constexpr size_t kNamedRanks = 8;

}  // namespace

Watchdog::Watchdog(Ledger& ledger, std::vector<std::string> hosts) : ledger_(ledger), hosts_(std::move(hosts)) {
  check_mpi(MPI_Comm_dup(MPI_COMM_WORLD, &comm_), "MPI_Comm_dup");
  MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN);
  MPI_Comm_rank(comm_, &rank_);
  MPI_Comm_size(comm_, &size_);
  thread_ = std::thread([this] { run_thread(); });
}

Watchdog::~Watchdog() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  stop_.notify_all();
  thread_.join();
  MPI_Comm_free(&comm_);
}

void Watchdog::watch(int communicator, const std::atomic<int64_t>* begun) {
  const std::lock_guard lock(mutex_);
  begun_[communicator] = begun;
}

void Watchdog::unwatch(int communicator) {
  const std::lock_guard lock(mutex_);
  begun_.erase(communicator);
}

void Watchdog::run_thread() {
  std::unique_lock lock(mutex_);
  while (!stop_.wait_for(lock, kPollPeriod, [&] { return stopping_; })) {
    lock.unlock();
    serve_queries();
    lock.lock();
  }
}

void Watchdog::serve_queries() {
  while (true) {
    int waiting = 0;
    MPI_Status status;
    if (MPI_Iprobe(MPI_ANY_SOURCE, kQuery, comm_, &waiting, &status) != MPI_SUCCESS || waiting == 0) return;
    Query query{};
    if (MPI_Recv(&query, sizeof query, MPI_BYTE, status.MPI_SOURCE, kQuery, comm_, MPI_STATUS_IGNORE) != MPI_SUCCESS) {
      return;
    }
    Answer answer{};
    if (query.tag == kClaim) {
      answer.sequence = word_given_.exchange(true) ? 0 : 1;
    } else {
      const std::string text = ledger_.describe();
      text.copy(answer.text, sizeof answer.text - 1);
    }
    const std::lock_guard lock(mutex_);
    if (query.tag == kQuery) {
      const auto found = begun_.find(query.communicator);
      answer.sequence = found == begun_.end() ? 0 : found->second->load();
    }
    answers_.push_back(answer);
    MPI_Request request = MPI_REQUEST_NULL;
    MPI_Isend(&answers_.back(), sizeof answer, MPI_BYTE, status.MPI_SOURCE, query.tag == kClaim ? kGrant : kAnswer,
              comm_, &request);
    MPI_Request_free(&request);
  }
}

void Watchdog::ask(int rank, Query query) {
  const std::lock_guard lock(mutex_);
  queries_.push_back(query);
  MPI_Request request = MPI_REQUEST_NULL;
  check_mpi(MPI_Isend(&queries_.back(), sizeof query, MPI_BYTE, rank, kQuery, comm_, &request), "MPI_Isend");
  MPI_Request_free(&request);
}

bool Watchdog::poll_answer(int rank, int tag, Answer& answer) {
  int waiting = 0;
  check_mpi(MPI_Iprobe(rank, tag, comm_, &waiting, MPI_STATUS_IGNORE), "MPI_Iprobe");
  if (waiting == 0) return false;
  check_mpi(MPI_Recv(&answer, sizeof answer, MPI_BYTE, rank, tag, comm_, MPI_STATUS_IGNORE), "MPI_Recv");
  return true;
}

bool Watchdog::claim_the_word() {
  const int last = std::min(size_, kClaimRanks);
  for (int rank = 0; rank < last; ++rank) {
    bool answered = false, granted = false;
    if (rank == rank_) {
      answered = true;
      granted = !word_given_.exchange(true);
    } else {
      ask(rank, {kClaim, 0});
      Answer answer{};
      Patience patience;
      while (!answered && patience.waited() < kAnswerLimit) {
        answered = poll_answer(rank, kGrant, answer);
        patience.pause();
      }
      granted = answered && answer.sequence == 1;
    }
    if (!answered) continue;
    // Rank by rank the word may be asked for again once the one that gave it has ended: by a stopped rank, say, that
    // mpirun wakes in order to kill it.
    for (int other = rank + 1; granted && other < last; ++other) {
      if (other != rank_) ask(other, {kClaim, 0});
    }
    if (granted) word_given_ = true;
    return granted;
  }
  return true;
}

std::string Watchdog::report(const Stall& stall) {
  for (const int rank : stall.members) ask(rank, {kQuery, stall.communicator});
  std::map<int, Answer> answers;
  Patience patience;
  while (answers.size() < stall.members.size() && patience.waited() < kAnswerLimit) {
    for (const int rank : stall.members) {
      Answer answer{};
      if (answers.count(rank) == 0 && poll_answer(rank, kAnswer, answer)) answers.emplace(rank, answer);
    }
    patience.pause();
  }

  std::vector<std::string> missing;
  for (const int rank : stall.members) {
    const auto found = answers.find(rank);
    const std::string name = build_string("rank ", rank, " (", hosts_[rank], "): ");
    if (found == answers.end()) {
      missing.push_back(name + "not answering (stopped or dead)");
    } else if (stall.sequence == 0 || found->second.sequence < stall.sequence) {
      missing.push_back(name + found->second.text);
    }
  }

  std::string text = build_string(stall.operation, " waited ", std::fixed, std::setprecision(1), stall.seconds,
                                  " s (comm.timeout) at ", ledger_.place(), "; ");
  if (missing.empty()) {
    return text + "every member has arrived and none is missing, so the network between them does not deliver";
  }
  text += "missing: ";
  for (size_t i = 0; i < std::min(missing.size(), kNamedRanks); ++i) text += (i == 0 ? "" : "; ") + missing[i];
  if (missing.size() > kNamedRanks) text += build_string("; and ", missing.size() - kNamedRanks, " more");
  return text;
}

void Watchdog::give_up(const Stall& stall) {
  try {
    if (claim_the_word()) end_job(2, report(stall));
    // Another rank speaks and ends the job.
    std::this_thread::sleep_for(kEndLimit);
    end_job(2, build_string(stall.operation, " timed out at ", ledger_.place()));
  } catch (const RunError& error) {
    end_job(2, build_string(stall.operation, " timed out at ", ledger_.place(), ", and then ", error.what()));
  }
}

void Watchdog::fail(int code, std::string_view message) {
  try {
    // Another rank speaks and ends the job.
    if (!claim_the_word()) std::this_thread::sleep_for(kEndLimit);
  } catch (const RunError&) {
    // MPI no longer delivers: better two lines than none.
  }
  speak(message);
  if (size_ > 1) std::this_thread::sleep_for(kLinger);
  MPI_Abort(MPI_COMM_WORLD, code);
  std::_Exit(code);
}

void Watchdog::speak(std::string_view message) const {
  const std::string line = build_string("trident: rank ", rank_, " (", hosts_[rank_], "): ", message, "\n");
  // One write, so that lines of several ranks do not mix.
  std::fwrite(line.data(), 1, line.size(), stderr);
  std::fflush(stderr);
}

void Watchdog::end_job(int code, std::string_view message) const {
  speak(message);
  MPI_Abort(MPI_COMM_WORLD, code);
  std::_Exit(code);
}

}  // namespace trident
