#include "core/base/process_memory.h"

#include <fstream>
#include <sstream>
#include <string>

namespace trident {

int64_t peak_resident_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    std::istringstream words(line);
    std::string key;
    int64_t kib = 0;
    if (words >> key >> kib && key == "VmHWM:") return kib * 1024;
  }
  return -1;
}

}  // namespace trident
