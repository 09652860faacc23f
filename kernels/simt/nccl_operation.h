// One operation of the emulated NCCL: a state machine that the device thread polls.
#pragma once

#include <chrono>
#include <memory>
#include <vector>

#include "kernels/simt/nccl_comm.h"

namespace simt {

/// Messages under way and the memory they use. What is not over when this ends (an abort, a stall) is left to MPI, with
/// its memory.
class Messages {
 public:
  explicit Messages(MPI_Comm comm) : comm_(comm) {}
  ~Messages();
  Messages(const Messages&) = delete;

  using Buffer = std::shared_ptr<std::vector<char>>;
  void send(Buffer data, size_t begin, size_t bytes, int to, int tag, bool until_received = false);
  void receive(Buffer data, size_t begin, size_t bytes, int from, int tag);
  /// True when all are over; forgets them then.
  bool over();
  /// The ranks that have not been heard of or not taken what was sent to them.
  std::vector<int> missing() const;

 private:
  struct Message {
    int peer;
    bool incoming;
    Buffer data;
  };
  MPI_Comm comm_;
  std::vector<MPI_Request> requests_;
  std::vector<Message> messages_;  // of the same index
};

class NcclOperation {
 public:
  NcclOperation(CommPtr comm, const Signature& signature, const void* send, void* receive);
  virtual ~NcclOperation() = default;

  /// On the device thread: true when it is over.
  bool poll();

  const CommPtr& comm() const { return comm_; }
  const char* name() const { return kind_name(signature_.kind); }
  const std::vector<Range>& ranges() const { return ranges_; }
  /// From its first poll on it only sets the communicator's error, and waits for its abort.
  void hang(int error) { hang_ = error; }

 protected:
  /// One step when nothing is under way; true when the operation is over.
  virtual bool advance() = 0;

  size_t bytes_of(uint64_t count) const { return count * type_bytes(signature_.type); }
  Messages::Buffer take(const void* device, size_t bytes) const;
  void give(void* device, const Messages::Buffer& from, size_t begin, size_t bytes) const;

  const CommPtr comm_;
  const Signature signature_;
  const void* const send_;
  void* const receive_;
  std::vector<Range> ranges_;
  Messages messages_;
  int step_ = 0;

 private:
  bool stalled();

  int hang_ = 0;
  std::chrono::steady_clock::time_point begin_{};
};

std::unique_ptr<NcclOperation> make_collective(CommPtr, const Signature&, const void* send, void* receive);
std::unique_ptr<NcclOperation> make_message(CommPtr, const Signature&, const void* send, void* receive);

}  // namespace simt
