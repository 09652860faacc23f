// A file mapped read-only into memory.
#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace trident {

/// Maps the whole file on construction, unmaps it on destruction. Movable, not copyable. The file must not be
/// shortened while it is mapped. Throws UserError when the path is missing, unreadable or not a regular file.
class MappedFile {
 public:
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&&) = delete;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return {address_, size_}; }
  size_t size() const { return size_; }

 private:
  const std::byte* address_ = nullptr;
  size_t size_ = 0;
};

}  // namespace trident
