#include "core/base/format.h"

#include <cmath>
#include <cstdio>
#include <iterator>
#include <string_view>

namespace trident {
namespace {

std::string print(const char* format, int decimals, double x) {
  char text[400];  // the largest double has 309 digits
  std::snprintf(text, sizeof text, format, decimals, x);
  return text;
}

/// "1h02m": `big` of the first unit, `small` (two digits) of the second.
std::string two_units(int64_t big, char big_unit, int64_t small, char small_unit) {
  return std::to_string(big) + big_unit + (small < 10 ? "0" : "") + std::to_string(small) + small_unit;
}

}  // namespace

std::string format_bytes(int64_t bytes) {
  constexpr std::string_view kUnits[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  const double size = std::abs(static_cast<double>(bytes));
  if (size < 1024) return std::to_string(bytes) + " B";
  double amount = size / 1024;
  size_t unit = 0;
  while (std::round(amount * 10) >= 10240 && unit + 1 < std::size(kUnits)) {
    amount /= 1024;
    ++unit;
  }
  return (bytes < 0 ? "-" : "") + print("%.*f", 1, amount) + " " + std::string(kUnits[unit]);
}

std::string format_duration(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0 || seconds >= 1e15) return "?";
  if (std::round(seconds * 1000) < 1000) return print("%.*f", 0, seconds * 1000) + "ms";
  if (std::round(seconds * 10) < 100) return print("%.*f", 1, seconds) + "s";
  const int64_t whole = std::llround(seconds);
  if (whole < 60) return std::to_string(whole) + "s";
  if (whole < 3600) return two_units(whole / 60, 'm', whole % 60, 's');
  const int64_t minutes = (whole + 30) / 60;
  if (minutes < 24 * 60) return two_units(minutes / 60, 'h', minutes % 60, 'm');
  const int64_t hours = (minutes + 30) / 60;
  return two_units(hours / 24, 'd', hours % 24, 'h');
}

std::string format_count(double n) {
  constexpr std::string_view kUnits[] = {"", "k", "M", "B", "T"};
  if (!std::isfinite(n)) return "?";
  double amount = std::abs(n);
  size_t unit = 0;
  while (amount >= 999.5 && unit + 1 < std::size(kUnits)) {
    amount /= 1000;
    ++unit;
  }
  const bool exact = unit == 0 && amount == std::floor(amount);
  const int decimals = exact || amount >= 99.95 ? 0 : amount >= 9.995 ? 1 : 2;
  return (n < 0 ? "-" : "") + print("%.*f", decimals, amount) + std::string(kUnits[unit]);
}

std::string format_fixed(double x, int decimals) { return std::isfinite(x) ? print("%.*f", decimals, x) : "?"; }

std::string format_scientific(double x) { return std::isfinite(x) ? print("%.*e", 2, x) : "?"; }

std::string pad_left(const std::string& text, size_t width) {
  return text.size() < width ? std::string(width - text.size(), ' ') + text : text;
}

std::string pad_right(const std::string& text, size_t width) {
  return text.size() < width ? text + std::string(width - text.size(), ' ') : text;
}

}  // namespace trident
