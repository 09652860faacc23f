// Collectives. All members first exchange signatures; then data moves in at most two rounds:
//   scatter: every rank owns a piece of the result and gets that piece of everyone's input, which it combines in rank
//            order (all_reduce, reduce_scatter, reduce);
//   gather:  every rank sends its piece to all (all_reduce, all_gather, broadcast).
// Pieces of an all_reduce are cut evenly, so it equals a reduce_scatter and an all_gather bit for bit.
#include <cstring>

#include "core/base/error.h"
#include "kernels/simt/nccl_operation.h"
#include "kernels/simt/nccl_reduce.h"

namespace simt {
namespace {

using Buffer = Messages::Buffer;

class Collective final : public NcclOperation {
 public:
  Collective(CommPtr comm, const Signature& s, const void* send, void* receive)
      : NcclOperation(std::move(comm), s, send, receive) {
    if (input_count() > 0) ranges_.push_back({send_, bytes_of(input_count()), false});
    if (output_count() > 0) ranges_.push_back({receive_, bytes_of(output_count()), true});
  }

 private:
  struct Piece {
    uint64_t begin, count;
  };

  bool advance() override {
    switch (step_++) {
      case 0: return exchange_signatures();
      case 1: return !signatures_agree() || scatter();
      case 2: return reduce_piece();
      default: return finish();
    }
  }

  bool scatters() const { return signature_.kind != NcclKind::all_gather && signature_.kind != NcclKind::broadcast; }
  bool gathers() const { return signature_.kind != NcclKind::reduce_scatter && signature_.kind != NcclKind::reduce; }
  uint64_t n() const { return static_cast<uint64_t>(comm_->size); }
  uint64_t me() const { return static_cast<uint64_t>(comm_->rank); }
  bool is_root() const { return comm_->rank == signature_.root; }

  uint64_t input_count() const {
    if (signature_.kind == NcclKind::broadcast && !is_root()) return 0;
    return signature_.kind == NcclKind::reduce_scatter ? signature_.count * n() : signature_.count;
  }
  uint64_t output_count() const {
    if (signature_.kind == NcclKind::reduce && !is_root()) return 0;
    return signature_.kind == NcclKind::all_gather ? signature_.count * n() : signature_.count;
  }
  /// What of the result passes through a rank.
  Piece piece(uint64_t rank) const {
    const uint64_t count = signature_.count;
    switch (signature_.kind) {
      case NcclKind::all_reduce: {
        const uint64_t begin = count * rank / n();
        return {begin, count * (rank + 1) / n() - begin};
      }
      case NcclKind::reduce_scatter:
      case NcclKind::all_gather: return {rank * count, count};
      default: return {0, rank == static_cast<uint64_t>(signature_.root) ? count : 0};
    }
  }

  int tag() const { return 100 + static_cast<int>(signature_.number % 1000) * 4 + step_; }

  bool exchange_signatures() {
    input_ = take(send_, bytes_of(input_count()));
    signatures_ = std::make_shared<std::vector<char>>(n() * sizeof(Signature));
    const auto mine = std::make_shared<std::vector<char>>(sizeof(Signature));
    std::memcpy(mine->data(), &signature_, sizeof(Signature));
    std::memcpy(signatures_->data() + me() * sizeof(Signature), &signature_, sizeof(Signature));
    for (int r = 0; r < comm_->size; ++r) {
      if (r == comm_->rank) continue;
      messages_.receive(signatures_, r * sizeof(Signature), sizeof(Signature), r, tag());
      messages_.send(mine, 0, sizeof(Signature), r, tag());
    }
    return false;
  }

  bool signatures_agree() const {
    for (int r = 0; r < comm_->size; ++r) {
      Signature theirs;
      std::memcpy(&theirs, signatures_->data() + r * sizeof(Signature), sizeof theirs);
      if (agree(signature_, theirs)) continue;
      report(ReportKind::nccl_mismatch,
             trident::build_string(rank_name(*comm_, comm_->rank), " calls ", describe(signature_), ", but ",
                                   rank_name(*comm_, r), " calls ", describe(theirs)));
      return false;
    }
    return true;
  }

  bool scatter() {
    const Piece own = piece(me());
    if (!scatters()) {
      result_ = input_;
      return false;
    }
    const size_t bytes = bytes_of(own.count);
    received_ = std::make_shared<std::vector<char>>(n() * bytes);
    for (int r = 0; r < comm_->size; ++r) {
      const Piece theirs = piece(static_cast<uint64_t>(r));
      if (r == comm_->rank) {
        std::memcpy(received_->data() + me() * bytes, input_->data() + bytes_of(own.begin), bytes);
        continue;
      }
      if (own.count > 0) messages_.receive(received_, r * bytes, bytes, r, tag());
      if (theirs.count > 0) messages_.send(input_, bytes_of(theirs.begin), bytes_of(theirs.count), r, tag());
    }
    return false;
  }

  bool reduce_piece() {
    const Piece own = piece(me());
    const size_t bytes = bytes_of(own.count);
    if (scatters()) {
      result_ = std::make_shared<std::vector<char>>(bytes);
      std::vector<const void*> pieces;
      for (uint64_t r = 0; r < n(); ++r) pieces.push_back(received_->data() + r * bytes);
      combine(signature_.type, signature_.op, result_->data(), pieces, own.count);
    }
    if (!gathers()) return false;
    output_ = std::make_shared<std::vector<char>>(bytes_of(output_count()));
    std::memcpy(output_->data() + bytes_of(own.begin), result_->data(), bytes);
    for (int r = 0; r < comm_->size; ++r) {
      if (r == comm_->rank) continue;
      const Piece theirs = piece(static_cast<uint64_t>(r));
      if (theirs.count > 0) messages_.receive(output_, bytes_of(theirs.begin), bytes_of(theirs.count), r, tag());
      if (own.count > 0) messages_.send(result_, 0, bytes, r, tag());
    }
    return false;
  }

  bool finish() {
    give(receive_, gathers() ? output_ : result_, 0, bytes_of(output_count()));
    return true;
  }

  Buffer input_, signatures_, received_, result_, output_;
};

/// A message, sent or received. It begins with its signature, which is sent so that the sender learns whether it was
/// received at all: a send without a receive hangs here, as on GPUs, however small it is.
class Message final : public NcclOperation {
 public:
  Message(CommPtr comm, const Signature& s, const void* send, void* receive)
      : NcclOperation(std::move(comm), s, send, receive) {
    const size_t bytes = bytes_of(signature_.count);
    if (bytes > 0) ranges_.push_back({sends() ? send_ : receive_, bytes, !sends()});
  }

 private:
  static constexpr int kHeaderTag = 1, kDataTag = 2;

  bool sends() const { return signature_.kind == NcclKind::send; }

  bool advance() override {
    if (sends()) return step_++ == 0 ? start_send() : true;
    switch (step_++) {
      case 0:
        header_ = std::make_shared<std::vector<char>>(sizeof(Signature));
        messages_.receive(header_, 0, sizeof(Signature), signature_.root, kHeaderTag);
        return false;
      case 1: return receive_data();
      default: give(receive_, data_, 0, std::min(data_->size(), bytes_of(signature_.count))); return true;
    }
  }

  bool start_send() {
    data_ = take(send_, bytes_of(signature_.count));
    header_ = std::make_shared<std::vector<char>>(sizeof(Signature));
    std::memcpy(header_->data(), &signature_, sizeof(Signature));
    messages_.send(header_, 0, sizeof(Signature), signature_.root, kHeaderTag, true);
    messages_.send(data_, 0, data_->size(), signature_.root, kDataTag);
    return false;
  }

  bool receive_data() {
    Signature theirs;
    std::memcpy(&theirs, header_->data(), sizeof theirs);
    if (!agree(signature_, theirs)) {
      report(ReportKind::nccl_mismatch,
             trident::build_string(rank_name(*comm_, comm_->rank), " calls ", describe(signature_), ", but ",
                                   rank_name(*comm_, signature_.root), " calls ", describe(theirs)));
    }
    data_ = std::make_shared<std::vector<char>>(theirs.count * type_bytes(theirs.type));
    messages_.receive(data_, 0, data_->size(), signature_.root, kDataTag);
    return false;
  }

  Buffer header_, data_;
};

}  // namespace

std::unique_ptr<NcclOperation> make_collective(CommPtr comm, const Signature& s, const void* send, void* receive) {
  return std::make_unique<Collective>(std::move(comm), s, send, receive);
}

std::unique_ptr<NcclOperation> make_message(CommPtr comm, const Signature& s, const void* send, void* receive) {
  return std::make_unique<Message>(std::move(comm), s, send, receive);
}

}  // namespace simt
