#include "core/config/catalog.h"

#include "core/config/config.h"
#include "core/config/field_text.h"

namespace trident {

namespace {

class Collector {
 public:
  std::vector<CatalogEntry> entries;

  template <class T>
  void operator()(const T& value, const FieldInfo& info) {
    CatalogEntry entry{.key = prefix_ + std::string(info.name), .type = type_text<T>(), .info = info};
    if constexpr (Section<T>) {
      entry.section = true;
      entries.push_back(entry);
      visit_below(value, entry.key);
    } else if constexpr (SectionList<T>) {
      entry.section = entry.list = true;
      entries.push_back(entry);
      visit_below(typename T::value_type{}, entry.key);
    } else {
      entry.whole = WholeNumber<T>;
      if constexpr (NamedEnum<T>) entry.words.assign(enum_names<T>().begin(), enum_names<T>().end());
      entry.default_text = info.derived.empty() ? value_text(value, info) : std::string(info.derived);
      entries.push_back(entry);
    }
  }

 private:
  template <Section T>
  void visit_below(const T& section, const std::string& key) {
    const std::string outer = prefix_;
    prefix_ = key + ".";
    T::fields(section, *this);
    prefix_ = outer;
  }

  std::string prefix_;
};

}  // namespace

std::vector<CatalogEntry> config_catalog() {
  Collector collector;
  const Config defaults;
  Config::fields(defaults, collector);
  return std::move(collector.entries);
}

std::vector<std::string> config_keys() {
  std::vector<std::string> keys;
  for (const CatalogEntry& entry : config_catalog()) keys.push_back(entry.key);
  return keys;
}

}  // namespace trident
