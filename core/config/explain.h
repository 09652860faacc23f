// Documentation of the config, made from the declarations of its fields.
#pragma once

#include <string>
#include <string_view>

namespace trident {

/// What a key means ("train.global_batch"): type, unit, default, legal values, effect. For a section ("train") its
/// keys, a line each; for "" the sections. Elements of a list are named "data.train.path" (an index is ignored).
/// Throws UserError with the nearest key when there is none of this name.
std::string explain(std::string_view key);

/// The reference of every key as Markdown tables, one per section, for the README.
std::string config_reference_markdown();

}  // namespace trident
