// The catalog: every key of the config as one flat list, made by visiting the declarations.
#pragma once

#include <string>
#include <vector>

#include "core/base/fields.h"

namespace trident {

struct CatalogEntry {
  std::string key;                      ///< "train.global_batch"; elements of a list have no index: "data.train.path"
  bool section = false;                 ///< a section or a list of sections, not a value
  bool list = false;                    ///< a list of sections
  bool whole = false;                   ///< a whole number
  std::string type;                     ///< in words
  std::string default_text = {};        ///< as YAML, or how it is derived; "" for a section
  std::vector<std::string> words = {};  ///< the names of an enum
  FieldInfo info = {};
};

/// In the order of declaration, a section before its keys.
std::vector<CatalogEntry> config_catalog();

/// Every key of the catalog, for "did you mean".
std::vector<std::string> config_keys();

}  // namespace trident
