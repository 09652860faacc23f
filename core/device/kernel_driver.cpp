#include <fstream>
#include <sstream>

#include "core/device/cuda_facts.h"

namespace trident {

std::string kernel_driver_version() {
  // "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.124.06  Wed ...": the first word that is a version.
  std::ifstream file("/proc/driver/nvidia/version");
  std::string line;
  std::getline(file, line);
  std::istringstream words(line);
  for (std::string word; words >> word;) {
    if (word.find('.') != std::string::npos && word.find_first_not_of("0123456789.") == std::string::npos) return word;
  }
  return "";
}

}  // namespace trident
