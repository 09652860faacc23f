#include "kernels/simt/clocks.h"

#include <algorithm>

#include "core/base/error.h"

namespace simt {
void merge(Clock& into, const Clock& from) {
  if (into.size() < from.size()) into.resize(from.size());
  for (size_t i = 0; i < from.size(); ++i) into[i] = std::max(into[i], from[i]);
}

std::string describe(const OpInfo& op) {
  return trident::build_string(op.kernel ? "kernel " : "", op.name, " (operation ", op.id, " on stream ", op.stream,
                               ")");
}

void Regions::split(uintptr_t at) {
  auto after = spans_.upper_bound(at);
  if (after == spans_.begin()) return;
  auto& [begin, span] = *std::prev(after);
  if (begin == at || span.end <= at) return;
  Span tail = span;
  span.end = at;
  spans_.emplace_hint(after, at, std::move(tail));
}

std::optional<Regions::Conflict> Regions::touch(uintptr_t begin, uintptr_t end, bool write, const Op& op) {
  std::optional<Conflict> conflict;
  if (begin >= end) return conflict;
  split(begin);
  split(end);
  const auto unordered = [&](const Op& earlier) { return earlier && !conflict && !ordered(*earlier, *op); };
  uintptr_t covered_to = begin;
  auto at = spans_.lower_bound(begin);
  while (at != spans_.end() && at->first < end) {
    Span& span = at->second;
    if (unordered(span.writer)) conflict = Conflict{span.writer, true};
    if (write) {
      for (const Op& reader : span.readers) {
        if (unordered(reader)) conflict = Conflict{reader, false};
      }
      at = spans_.erase(at);
      continue;
    }
    if (covered_to < at->first) spans_.emplace_hint(at, covered_to, Span{at->first, nullptr, {op}});
    std::erase_if(span.readers, [&](const Op& reader) { return reader->stream == op->stream; });
    span.readers.push_back(op);
    covered_to = span.end;
    ++at;
  }
  if (write) {
    spans_.emplace(begin, Span{end, op, {}});
  } else if (covered_to < end) {
    spans_.emplace(covered_to, Span{end, nullptr, {op}});
  }
  return conflict;
}

Op Regions::writer_of(uintptr_t address) const {
  auto at = spans_.upper_bound(address);
  if (at == spans_.begin()) return nullptr;
  --at;
  return address < at->second.end ? at->second.writer : nullptr;
}

void Regions::forget(uintptr_t begin, uintptr_t end) {
  split(begin);
  split(end);
  spans_.erase(spans_.lower_bound(begin), spans_.lower_bound(end));
}

void Regions::prune(const Clock& clock) {
  for (auto at = spans_.begin(); at != spans_.end();) {
    Span& span = at->second;
    if (span.writer && covered(*span.writer, clock)) span.writer = nullptr;
    std::erase_if(span.readers, [&](const Op& reader) { return covered(*reader, clock); });
    at = !span.writer && span.readers.empty() ? spans_.erase(at) : std::next(at);
  }
}

}  // namespace simt
