#include "core/base/free_space.h"

#include <sys/statvfs.h>

#include <filesystem>
#include <fstream>
#include <sstream>

namespace trident {

std::optional<int64_t> available_memory_bytes(const std::string& root) {
  std::ifstream meminfo(root + "/proc/meminfo");
  for (std::string line; std::getline(meminfo, line);) {
    std::istringstream words(line);
    std::string key;
    int64_t kib = 0;
    if (words >> key >> kib && key == "MemAvailable:") return kib * 1024;
  }
  return std::nullopt;
}

std::optional<int64_t> free_disk_bytes(const std::string& path) {
  std::error_code error;
  std::filesystem::path place = std::filesystem::absolute(path, error);
  while (!error && !std::filesystem::exists(place, error) && place.has_relative_path()) place = place.parent_path();
  struct statvfs info {};
  // A file system that tells no size has no opinion.
  if (error || ::statvfs(place.c_str(), &info) != 0 || info.f_blocks == 0) return std::nullopt;
  return static_cast<int64_t>(uint64_t{info.f_bavail} * info.f_frsize);
}

}  // namespace trident
