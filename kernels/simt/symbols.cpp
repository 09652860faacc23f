// Names, launch bounds and source lines from the ELF file. Compiled without instrumentation.
//
// Kernels mostly are local symbols, which dladdr does not know, so the symbol table is read here. The launch bound is
// the number of nops in front of the entry (emulation.h); the section __patchable_function_entries lists where they
// begin.
#include "kernels/simt/symbols.h"

#include <cxxabi.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <vector>

#include "core/base/error.h"
#include "kernels/simt/launch.h"
#include "kernels/simt/report.h"

namespace simt {
namespace {

/// A file mapped for reading; empty when that fails.
class MappedFile {
 public:
  explicit MappedFile(const std::string& path) {
    const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    struct stat info {};
    if (fd >= 0 && fstat(fd, &info) == 0 && info.st_size > 0) {
      void* p = mmap(nullptr, static_cast<size_t>(info.st_size), PROT_READ, MAP_PRIVATE, fd, 0);
      if (p != MAP_FAILED) {
        data_ = static_cast<const char*>(p);
        bytes_ = static_cast<size_t>(info.st_size);
      }
    }
    if (fd >= 0) close(fd);
  }
  ~MappedFile() {
    if (data_ != nullptr) munmap(const_cast<char*>(data_), bytes_);
  }
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const Elf64_Ehdr* header() const {
    return bytes_ >= sizeof(Elf64_Ehdr) ? reinterpret_cast<const Elf64_Ehdr*>(data_) : nullptr;
  }
  template <class T>
  const T* at(size_t offset) const {
    return reinterpret_cast<const T*>(data_ + offset);
  }
  std::vector<Elf64_Shdr> sections() const {
    const Elf64_Ehdr* h = header();
    if (h == nullptr || h->e_shoff == 0) return {};
    const auto* first = at<Elf64_Shdr>(h->e_shoff);
    return {first, first + h->e_shnum};
  }

 private:
  const char* data_ = nullptr;
  size_t bytes_ = 0;
};

std::string demangle(const char* symbol) {
  int status = 0;
  char* text = abi::__cxa_demangle(symbol, nullptr, nullptr, &status);
  if (status != 0) return symbol;
  std::string result = text;
  std::free(text);
  return result;
}

/// Calls use(symbol, name) for every entry of the symbol table until it returns true.
template <class Use>
void each_symbol(const MappedFile& file, const std::vector<Elf64_Shdr>& sections, Use use) {
  for (const Elf64_Shdr& section : sections) {
    if (section.sh_type != SHT_SYMTAB) continue;
    const auto* symbols = file.at<Elf64_Sym>(section.sh_offset);
    const char* names = file.at<char>(sections[section.sh_link].sh_offset);
    for (size_t i = 0; i < section.sh_size / sizeof(Elf64_Sym); ++i) {
      if (use(symbols[i], names + symbols[i].st_name)) return;
    }
  }
}

std::string find_symbol(const MappedFile& file, const std::vector<Elf64_Shdr>& sections, unsigned long offset) {
  std::string found = "kernel";
  each_symbol(file, sections, [&](const Elf64_Sym& symbol, const char* name) {
    if (ELF64_ST_TYPE(symbol.st_info) != STT_FUNC || symbol.st_value != offset) return false;
    found = demangle(name);
    return true;
  });
  return found;
}

unsigned find_bound(const MappedFile& file, const std::vector<Elf64_Shdr>& sections, const void* func,
                    const CodeAddress& where) {
  const char* names = sections.empty() ? nullptr : file.at<char>(sections[file.header()->e_shstrndx].sh_offset);
  const uintptr_t entry = reinterpret_cast<uintptr_t>(func);
  uintptr_t best = 0;
  for (const Elf64_Shdr& section : sections) {
    if (std::strcmp(names + section.sh_name, "__patchable_function_entries") != 0) continue;
    const auto* starts = reinterpret_cast<const uintptr_t*>(where.base + section.sh_addr);
    for (size_t i = 0; i < section.sh_size / sizeof(uintptr_t); ++i) {
      if (starts[i] < entry && starts[i] > best) best = starts[i];
    }
  }
  if (best == 0) return 0;
  for (uintptr_t p = best; p < entry; ++p) {
    if (*reinterpret_cast<const unsigned char*>(p) != 0x90) return 0;  // those of another kernel further down
  }
  return static_cast<unsigned>(entry - best);
}

struct Kernel {
  std::string name;
  unsigned bound = 0;
};

const Kernel& kernel_at(const void* func) {
  static std::mutex mutex;
  static std::map<const void*, Kernel> known;
  const std::lock_guard lock(mutex);
  const auto found = known.find(func);
  if (found != known.end()) return found->second;
  const CodeAddress where = locate(func);
  const MappedFile file(where.file);
  const std::vector<Elf64_Shdr> sections = file.sections();
  return known[func] = {short_name(find_symbol(file, sections, where.offset)), find_bound(file, sections, func, where)};
}

void erase_all(std::string& text, const std::string& part) {
  for (size_t at; (at = text.find(part)) != std::string::npos;) text.erase(at, part.size());
}

}  // namespace

std::string short_name(const std::string& demangled) {
  std::string name = demangled;
  erase_all(name, "(anonymous namespace)::");
  erase_all(name, "trident::cuda::");
  erase_all(name, "trident::");
  if (name.starts_with("void ")) name.erase(0, 5);
  int depth = 0;
  for (size_t i = 0; i < name.size(); ++i) {  // the parameter list is the first parenthesis outside of <>
    depth += name[i] == '<' ? 1 : name[i] == '>' ? -1 : 0;
    if (name[i] == '(' && depth == 0) return name.substr(0, i);
  }
  return name;
}

CodeAddress locate(const void* address) {
  struct Search {
    uintptr_t address;
    CodeAddress found;
  } search{reinterpret_cast<uintptr_t>(address), {}};
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* argument) {
        auto& s = *static_cast<Search*>(argument);
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          const auto& header = info->dlpi_phdr[i];
          if (header.p_type != PT_LOAD) continue;
          if (s.address - (info->dlpi_addr + header.p_vaddr) >= header.p_memsz) continue;
          const bool program = info->dlpi_name == nullptr || *info->dlpi_name == 0;
          s.found = {program ? "/proc/self/exe" : info->dlpi_name, info->dlpi_addr, s.address - info->dlpi_addr};
          return 1;
        }
        return 0;
      },
      &search);
  return search.found;
}

std::vector<TlsObject> tls_objects(const void* address) {
  std::vector<TlsObject> objects;
  const MappedFile file(locate(address).file);
  each_symbol(file, file.sections(), [&](const Elf64_Sym& symbol, const char* name) {
    if (ELF64_ST_TYPE(symbol.st_info) == STT_TLS && symbol.st_shndx != SHN_UNDEF) {
      objects.push_back({symbol.st_value, symbol.st_size, name});
    }
    return false;
  });
  return objects;
}

const char* kernel_name(const void* func) { return kernel_at(func).name.c_str(); }
unsigned launch_bound(const void* func) { return kernel_at(func).bound; }

std::string place_of(const void* pc) {
  const CodeAddress where = locate(static_cast<const char*>(pc) - 1);  // a call's line, not that of its return
  char path[4096];
  const ssize_t length = readlink(where.file.c_str(), path, sizeof path - 1);
  const std::string file = length > 0 ? std::string(path, static_cast<size_t>(length)) : where.file;
  if (file.empty()) return "";
  char command[4400];
  std::snprintf(command, sizeof command, "addr2line -i -e '%s' 0x%lx 2>/dev/null", file.c_str(), where.offset);
  FILE* pipe = popen(command, "r");
  if (pipe == nullptr) return "";
  std::string result;
  int shown = 0;
  for (char line[4096]; std::fgets(line, sizeof line, pipe) != nullptr;) {
    line[std::strcspn(line, " \n")] = 0;
    // The emulation's own headers are between the kernel and the hook, not where the mistake is.
    if (line[0] == '?' || std::strstr(line, "kernels/simt/") != nullptr || shown == 3) continue;
    const char* slash = std::strrchr(line, '/');
    const std::string place = slash != nullptr ? slash + 1 : line;
    result += shown == 0 ? place : (shown == 1 ? " (" : ", ") + place;
    ++shown;
  }
  pclose(pipe);
  return shown > 1 ? result + ")" : result;
}

}  // namespace simt
