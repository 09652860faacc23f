// The log: one line per event, aligned and stable ("12:30:01.123 [info ] text"). Rank 0 prints; other ranks only warn
// and fail. One of the three permitted globals (log, trace, SIMT emulator).
#pragma once

#include <string>
#include <string_view>

namespace trident::log {

enum class Level { debug, info, warn, error };

/// Sets which lines this rank shows: rank 0 from `level` up, every other rank from warn up, prefixed "rank N: ".
void configure(int rank, Level level);

/// Appends everything shown from now on to this file too (rank 0's log.txt). Throws UserError when it can't be opened.
void to_file(const std::string& path);

/// Who does not read our stderr makes us wait: a paused terminal, or mpirun while it ends a job. From the moment that
/// `hurried` says so, a line that stderr does not take at once is in the file only. Asked from any thread.
void drop_lines_when(bool (*hurried)());

/// Writes one line to the file (if there is one) and to stderr. Thread-safe.
void write(Level level, std::string_view text);

inline void debug(std::string_view text) { write(Level::debug, text); }
inline void info(std::string_view text) { write(Level::info, text); }
inline void warn(std::string_view text) { write(Level::warn, text); }
inline void error(std::string_view text) { write(Level::error, text); }

}  // namespace trident::log
