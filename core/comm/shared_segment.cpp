#include "core/comm/shared_segment.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>

#include "core/base/error.h"
#include "core/comm/mpi_wait.h"

namespace trident {
namespace {

/// A file descriptor that closes itself.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  const int fd_;
};

/// What the first rank tells the others. The inode tells its file from whatever has the same numbers where processes
/// are counted differently.
struct Invitation {
  int64_t process, descriptor;
  uint64_t device, inode;
};

std::string last_error(const std::string& call) { return build_string(call, ": ", std::strerror(errno)); }

SharedSegment map(int fd, size_t bytes, std::string& problem) {
  void* const data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (data == MAP_FAILED) {
    problem = last_error("mmap");
    return {};
  }
  return {data, bytes};
}

SharedSegment invite(const Descriptor& file, size_t bytes, Invitation& invitation, std::string& problem) {
  struct stat info {};
  if (file.get() < 0) {
    problem = last_error("memfd_create");
  } else if (ftruncate(file.get(), static_cast<off_t>(bytes)) != 0 || fstat(file.get(), &info) != 0) {
    problem = last_error("ftruncate");
  } else {
    invitation = {getpid(), file.get(), info.st_dev, info.st_ino};
    return map(file.get(), bytes, problem);
  }
  return {};
}

SharedSegment accept(const Invitation& invitation, size_t bytes, std::string& problem) {
  if (invitation.inode == 0) return {};  // the first rank has the problem
  const std::string path = build_string("/proc/", invitation.process, "/fd/", invitation.descriptor);
  const Descriptor file(open(path.c_str(), O_RDWR | O_CLOEXEC));
  struct stat info {};
  if (file.get() < 0 || fstat(file.get(), &info) != 0) {
    problem = last_error("open " + path);
    return {};
  }
  if (info.st_ino != invitation.inode || info.st_dev != invitation.device) {
    problem = path + " is another file";
    return {};
  }
  return map(file.get(), bytes, problem);
}

}  // namespace

void SharedSegment::Unmap::operator()(std::byte* data) const { munmap(data, bytes); }

bool on_one_host(MPI_Comm comm) {
  int rank = 0, size = 1, near = 1;
  MPI_Comm_rank(comm, &rank);
  MPI_Comm_size(comm, &size);
  MPI_Comm node = MPI_COMM_NULL;
  check_mpi(MPI_Comm_split_type(comm, MPI_COMM_TYPE_SHARED, rank, MPI_INFO_NULL, &node), "MPI_Comm_split_type");
  MPI_Comm_size(node, &near);
  MPI_Comm_free(&node);
  return near == size;
}

SharedSegment make_shared_segment(MPI_Comm comm, size_t bytes, bool willing, std::string& problem) {
  int rank = 0, size = 1;
  MPI_Comm_rank(comm, &rank);
  MPI_Comm_size(comm, &size);
  const Descriptor file(rank == 0 && willing ? memfd_create("trident", MFD_CLOEXEC) : -1);
  Invitation invitation{};
  SharedSegment segment;
  if (rank == 0 && willing) segment = invite(file, bytes, invitation, problem);
  check_mpi(MPI_Bcast(&invitation, sizeof invitation, MPI_BYTE, 0, comm), "MPI_Bcast");
  if (rank != 0 && willing) segment = accept(invitation, bytes, problem);
  // The first rank's descriptor must outlive this: it comes after the others have opened it.
  int lowest = problem.empty() ? (segment.data() != nullptr ? size : size - 1) : rank;
  check_mpi(MPI_Allreduce(MPI_IN_PLACE, &lowest, 1, MPI_INT, MPI_MIN, comm), "MPI_Allreduce");
  if (lowest == size) return segment;
  if (lowest != rank) problem.clear();
  return {};
}

}  // namespace trident
