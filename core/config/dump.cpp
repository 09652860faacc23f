#include "core/config/dump.h"

#include "core/config/field_text.h"

namespace trident {

namespace {

class Writer {
 public:
  std::string text;

  template <class T>
  void operator()(const T& value, const FieldInfo& info) {
    text += (after_dash_ ? std::string() : std::string(indent_, ' ')) + std::string(info.name) + ":";
    after_dash_ = false;
    if constexpr (Section<T>) {
      text += "\n";
      indent_ += 2;
      T::fields(value, *this);
      indent_ -= 2;
    } else if constexpr (SectionList<T>) {
      write_list(value);
    } else {
      text += " " + value_text(value, info) + "\n";
    }
  }

 private:
  template <SectionList T>
  void write_list(const T& list) {
    text += list.empty() ? " []\n" : "\n";
    for (const auto& element : list) {
      text += std::string(indent_ + 2, ' ') + "- ";
      indent_ += 4;
      after_dash_ = true;
      T::value_type::fields(element, *this);
      indent_ -= 4;
    }
  }

  size_t indent_ = 0;
  bool after_dash_ = false;  // the next key stands on the line of its "- "
};

}  // namespace

std::string dump_config(const Config& config) {
  Writer writer;
  Config::fields(config, writer);
  return std::move(writer.text);
}

}  // namespace trident
