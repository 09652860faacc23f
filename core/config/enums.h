// The words of the config: every enum with the names it has in YAML.
#pragma once

#include <cstdint>
#include <string_view>

#include "core/base/fields.h"
#include "core/base/log.h"

namespace trident {

enum class DeviceKind : uint8_t { cpu, cuda, simt };
enum class Arch : uint8_t { gpt2, llama, phi3, mixtral };
enum class Norm : uint8_t { layer_norm, rms_norm };
enum class Activation : uint8_t { gelu, swiglu, relu, silu };
enum class Position : uint8_t { learned, rope, none };
enum class AttentionKind : uint8_t { dense, sliding, fixed, variable, bigbird, bslongformer };
enum class Schedule : uint8_t { gpipe, one_f_one_b, interleaved };
enum class Offload : uint8_t { none, host, nvme };
enum class Precision : uint8_t { fp32, bf16, fp16 };
enum class AttentionSource : uint8_t { automatic, own, cudnn };
enum class Recompute : uint8_t { none, selective, full, automatic };
enum class OptimizerKind : uint8_t { adamw };
enum class StateDtype : uint8_t { fp32, bf16 };
enum class LrSchedule : uint8_t { constant, linear, cosine, wsd };
enum class TokenizerKind : uint8_t { byte, none, sentencepiece, gpt2 };

template <>
struct EnumNames<DeviceKind> {
  static constexpr std::string_view value[] = {"cpu", "cuda", "simt"};
};
template <>
struct EnumNames<Arch> {
  static constexpr std::string_view value[] = {"gpt2", "llama", "phi3", "mixtral"};
};
template <>
struct EnumNames<Norm> {
  static constexpr std::string_view value[] = {"layer_norm", "rms_norm"};
};
template <>
struct EnumNames<Activation> {
  static constexpr std::string_view value[] = {"gelu", "swiglu", "relu", "silu"};
};
template <>
struct EnumNames<Position> {
  static constexpr std::string_view value[] = {"learned", "rope", "none"};
};
template <>
struct EnumNames<AttentionKind> {
  static constexpr std::string_view value[] = {"dense", "sliding", "fixed", "variable", "bigbird", "bslongformer"};
};
template <>
struct EnumNames<Schedule> {
  static constexpr std::string_view value[] = {"gpipe", "1f1b", "interleaved"};
};
template <>
struct EnumNames<Offload> {
  static constexpr std::string_view value[] = {"none", "host", "nvme"};
};
template <>
struct EnumNames<Precision> {
  static constexpr std::string_view value[] = {"fp32", "bf16", "fp16"};
};
template <>
struct EnumNames<AttentionSource> {
  static constexpr std::string_view value[] = {"auto", "own", "cudnn"};
};
template <>
struct EnumNames<Recompute> {
  static constexpr std::string_view value[] = {"none", "selective", "full", "auto"};
};
template <>
struct EnumNames<OptimizerKind> {
  static constexpr std::string_view value[] = {"adamw"};
};
template <>
struct EnumNames<StateDtype> {
  static constexpr std::string_view value[] = {"fp32", "bf16"};
};
template <>
struct EnumNames<LrSchedule> {
  static constexpr std::string_view value[] = {"constant", "linear", "cosine", "wsd"};
};
template <>
struct EnumNames<TokenizerKind> {
  static constexpr std::string_view value[] = {"byte", "none", "sentencepiece", "gpt2"};
};
template <>
struct EnumNames<log::Level> {
  static constexpr std::string_view value[] = {"debug", "info", "warn", "error"};
};

}  // namespace trident
