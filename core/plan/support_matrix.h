// The support matrix: what tests/grid/matrix_test.cpp has run and compared, in its words. That test fails when what
// it found is not here.
#pragma once

#include <string_view>

namespace trident {

/// Lines of text, for `trident explain support`.
std::string_view support_matrix();

}  // namespace trident
