#include "core/device/allocation_table.h"

#include <algorithm>
#include <iomanip>
#include <limits>
#include <sstream>
#include <utility>

#include "core/base/error.h"
#include "core/base/format.h"

namespace trident {
namespace {

std::string text_of(size_t bytes) {
  return format_bytes(static_cast<int64_t>(std::min<size_t>(bytes, std::numeric_limits<int64_t>::max())));
}

}  // namespace

void AllocationTable::check_limit(size_t bytes, Place place, std::string_view name) const {
  if (device_limit_ == 0 || place != Place::device) return;
  size_t used = 0;
  for (const Allocation& line : lines()) used += line.place == Place::device ? line.bytes : 0;
  if (bytes <= device_limit_ - used) return;
  throw RunError(no_room(bytes, name,
                         build_string("on the device: memory.device_limit is ", text_of(device_limit_), " and ",
                                      text_of(used), " are in use")));
}

Memory AllocationTable::own(void* data, size_t bytes, Place place, std::string_view name, Memory::Free free) {
  const std::lock_guard lock(mutex_);
  const auto line = lines_.insert(lines_.end(), {std::string(name), place, bytes});
  return Memory(data, bytes, place, [this, line, free = std::move(free)](void* address) {
    free(address);
    const std::lock_guard relock(mutex_);
    lines_.erase(line);
  });
}

std::vector<Allocation> AllocationTable::lines() const {
  const std::lock_guard lock(mutex_);
  return {lines_.begin(), lines_.end()};
}

std::string AllocationTable::no_room(size_t bytes, std::string_view name, const std::string& where) const {
  std::ostringstream text;
  text << "no memory for " << text_of(bytes) << " of '" << name << "' " << where << ". Allocated so far by this rank:";
  size_t total = 0;
  for (const Allocation& line : lines()) {
    text << "\n  " << std::setw(12) << text_of(line.bytes) << "  " << line.name
         << (line.place == Place::device ? "" : " (host)");
    total += line.bytes;
  }
  text << "\n  " << std::setw(12) << text_of(total) << "  in all\n"
       << "Lower train.micro_batch, set train.recompute, raise zero.stage, set zero.offload, or spread the model over "
          "more ranks; `trident plan` shows what each would take.";
  return text.str();
}

}  // namespace trident
