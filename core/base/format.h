// Numbers as people read them, for logs, plans and reports. Unknown (NaN, infinite) is "?" and never a made-up number.
#pragma once

#include <cstdint>
#include <string>

namespace trident {

/// "512 B", "1.5 KiB", "2.0 GiB": powers of 1024 with one decimal; below 1 KiB exact. Negative amounts keep their sign.
std::string format_bytes(int64_t bytes);

/// "350ms", "4.2s", "45s", "1m23s", "2h05m", "3d04h": two units at most, rounded to the last one. Negative is "?".
std::string format_duration(double seconds);

/// "950", "1.23k", "12.3k", "124M", "1.50B", "2.00T": three digits and the short scale; whole numbers below 1000 exact.
/// At most 5 characters for 0 <= n < 999.5e12.
std::string format_count(double n);

/// Fixed decimals, "2.3456"; "?" when not finite.
std::string format_fixed(double x, int decimals);

/// Three digits and an exponent, "3.00e-04"; "?" when not finite.
std::string format_scientific(double x);

/// `text` with spaces before (after) it up to `width` bytes; longer text stays whole.
std::string pad_left(const std::string& text, size_t width);
std::string pad_right(const std::string& text, size_t width);

}  // namespace trident
