// The Megatron .bin/.idx layout (version 1), shared by the reader and the writer. Little endian.
//
// PREFIX.bin: tokens back to back. PREFIX.idx:
//    0  9 B "MMIDIDX\0\0"     9  u64 version = 1     17  u8 token type
//   18  u64 sequences        26  u64 document entries (documents + 1)
//   34  i32[sequences] lengths in tokens; i64[sequences] byte offsets into .bin;
//       i64[document entries] first sequence of each document (0 ... sequences); optional i8[sequences] modes
// The arrays start at byte 34 and are therefore unaligned: copy, never cast.
#pragma once

#include <bit>
#include <cstdint>
#include <string_view>

namespace trident {

static_assert(std::endian::native == std::endian::little, "the files are little endian and read as they are");

inline constexpr std::string_view kIndexMagic{"MMIDIDX\0\0", 9};
inline constexpr uint64_t kIndexVersion = 1;
inline constexpr size_t kIndexHeaderBytes = 34;

/// Vocabularies below this are written as u16, others as i32 (Megatron's own rule).
inline constexpr int64_t kU16VocabLimit = 65500;

/// Type codes of the .idx header.
enum class TokenType : uint8_t { u8 = 1, i8 = 2, i16 = 3, i32 = 4, i64 = 5, f64 = 6, f32 = 7, u16 = 8 };

/// Bytes of one token; 0 for an unknown code.
constexpr int64_t token_type_bytes(TokenType type) {
  switch (type) {
    case TokenType::u8:
    case TokenType::i8: return 1;
    case TokenType::i16:
    case TokenType::u16: return 2;
    case TokenType::i32:
    case TokenType::f32: return 4;
    case TokenType::i64:
    case TokenType::f64: return 8;
  }
  return 0;
}

/// "u16", "i32", ...; "unknown" for an unknown code.
constexpr std::string_view token_type_name(TokenType type) {
  constexpr std::string_view kNames[] = {"unknown", "u8", "i8", "i16", "i32", "i64", "f64", "f32", "u16"};
  const auto code = static_cast<size_t>(type);
  return code < std::size(kNames) ? kNames[code] : kNames[0];
}

}  // namespace trident
