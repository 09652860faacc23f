// What this machine has left, of memory and on disks.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace trident {

/// Bytes the host can still give without swapping: MemAvailable of ROOT/proc/meminfo; nothing where it does not say.
std::optional<int64_t> available_memory_bytes(const std::string& root = "");

/// Bytes free to this user in the file system that holds `path`, or would when it is made; nothing where that can't be
/// told.
std::optional<int64_t> free_disk_bytes(const std::string& path);

}  // namespace trident
