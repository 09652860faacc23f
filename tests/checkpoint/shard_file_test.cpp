#include "core/checkpoint/shard_file.h"

#include <numeric>

#include "checkpoint/support.h"
#include "support/catch.h"

using namespace trident;
using namespace trident::test;

namespace {

/// A safetensors file made by hand.
std::string file_of(const std::string& json, const std::string& data) {
  std::string bytes(8, '\0');
  const uint64_t length = json.size();
  std::memcpy(bytes.data(), &length, 8);
  return bytes + json + data;
}

std::string refusal(const std::string& bytes) {
  TempDir dir;
  spill(dir / "x.safetensors", bytes);
  const std::string message = message_of<UserError>([&] { ShardFileReader reader(dir / "x.safetensors"); });
  if (!message.empty()) CHECK(contains(message, dir / "x.safetensors"));  // every refusal names the file
  return message;
}

}  // namespace

TEST_CASE("a written file has the format's exact bytes", "[shard_file]") {
  TempDir dir;
  const std::string path = dir / "a.safetensors";
  const float w[6] = {0, 1, 2, 3, 4, -5};
  const uint8_t u[3] = {7, 8, 9};
  ShardFileWriter writer(path, {{"w", DType::f32, {2, 3}}, {"u\"", DType::u8, {3}}}, {{"format", "pt"}});
  writer.append(Tensor(const_cast<float*>(w), DType::f32, {2, 3}));
  writer.append(Tensor(const_cast<uint8_t*>(u), DType::u8, {3}));
  writer.finish();

  std::string json =
      "{\"__metadata__\":{\"format\":\"pt\"},\"w\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},"
      "\"u\\\"\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[24,27]}}";
  while (json.size() % 8 != 0) json += ' ';
  const std::string data = std::string(reinterpret_cast<const char*>(w), 24) + std::string("\7\10\11", 3);
  CHECK(slurp(path) == file_of(json, data));
  CHECK(writer.file_bytes() == 8 + json.size() + 27);
}

TEST_CASE("every element type survives a round trip", "[shard_file]") {
  TempDir dir;
  const std::string path = dir / "types.safetensors";
  const DType types[] = {DType::f32, DType::bf16, DType::f16, DType::f64,
                         DType::i32, DType::i64,  DType::u8,  DType::u16};
  std::vector<ShardTensor> layout;
  for (const DType type : types) layout.push_back({std::string(dtype_name(type)), type, {5}});
  std::vector<std::byte> bytes(5 * (4 + 2 + 2 + 8 + 4 + 8 + 1 + 2));
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 37);
  ShardFileWriter writer(path, layout, {});
  writer.append(std::span(bytes).first(11));  // portions need not respect tensors
  writer.append(std::span(bytes).subspan(11));
  writer.finish();

  ShardFileReader reader(path);
  REQUIRE(reader.tensors().size() == 8);
  size_t at = 0;
  for (const DType type : types) {
    const ShardTensor& tensor = reader.find(dtype_name(type));
    CHECK(tensor.dtype == type);
    CHECK(tensor.shape == std::vector<int64_t>{5});
    std::vector<std::byte> got(tensor.bytes());
    reader.read_bytes(tensor, 0, got);
    CHECK(std::equal(got.begin(), got.end(), bytes.begin() + static_cast<std::ptrdiff_t>(at)));
    at += got.size();
  }
  CHECK(at == bytes.size());
  CHECK_THROWS_AS(reader.read_bytes(reader.find("f32"), 18, std::span(bytes).first(3)), InternalError);
}

TEST_CASE("a foreign file is read and converted, scalars and empty tensors included", "[shard_file]") {
  TempDir dir;
  const std::string path = dir / "model.safetensors";
  const bf16 values[3] = {bf16(1.5f), bf16(-2.0f), bf16(0.0f)};
  // Keys in another order than the data, and a type we lack.
  spill(path, file_of("{\"mask\":{\"dtype\":\"BOOL\",\"shape\":[2],\"data_offsets\":[6,8]},"
                      "\"scalar\":{\"dtype\":\"BF16\",\"shape\":[],\"data_offsets\":[4,6]},"
                      "\"w\":{\"dtype\":\"BF16\",\"shape\":[2,1],\"data_offsets\":[0,4]},"
                      "\"none\":{\"dtype\":\"F32\",\"shape\":[0,7],\"data_offsets\":[4,4]}}",
                      std::string(reinterpret_cast<const char*>(values), 6) + std::string("\1\0", 2)));
  ShardFileReader reader(path);
  CHECK(reader.tensors().size() == 3);
  float got[2] = {};
  reader.read(reader.find("w"), Tensor(got, DType::f32, {2}));
  CHECK(got[0] == 1.5f);
  CHECK(got[1] == -2.0f);
  double scalar = 1;
  reader.read(reader.find("scalar"), Tensor(&scalar, DType::f64, {1}));
  CHECK(scalar == 0.0);
  CHECK(reader.find("none").numel() == 0);
  CHECK_FALSE(reader.has("mask"));
  CHECK(contains(message_of<UserError>([&] { reader.find("mask"); }), "is of type BOOL, which Trident does not read"));
  CHECK(contains(message_of<UserError>([&] { reader.find("v"); }), "has no tensor v"));
}

TEST_CASE("a large tensor is converted through the window", "[shard_file]") {
  TempDir dir;
  const std::string path = dir / "large.safetensors";
  const int64_t n = 700'001;  // 2.8 MB, no multiple of the window
  std::vector<float> values(static_cast<size_t>(n));
  std::iota(values.begin(), values.end(), 0.0f);
  ShardFileWriter writer(path, {{"w", DType::f32, {n}}}, {});
  writer.append(Tensor(values.data(), DType::f32, {n}));
  writer.finish();
  ShardFileReader reader(path);
  std::vector<double> got(values.size());
  reader.read(reader.find("w"), Tensor(got.data(), DType::f64, {n}));
  CHECK(std::equal(got.begin(), got.end(), values.begin()));
}

TEST_CASE("every lie of a header is told", "[shard_file]") {
  const auto one = [](const std::string& entry, const std::string& data = std::string(8, 'x')) {
    return refusal(file_of("{\"w\":" + entry + "}", data));
  };
  const std::string good = "{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}";
  CHECK(one(good).empty());
  CHECK(contains(refusal("1234567"), "has only 7 bytes"));
  CHECK(contains(refusal(file_of("{}", "").replace(0, 8, 8, '\xff')), "not a safetensors file, or truncated"));
  CHECK(contains(refusal(file_of("", "")), "no header"));
  CHECK(contains(refusal(file_of("[]", "")), "no header"));
  CHECK(contains(refusal(file_of("{\"w\":", "")), "not valid JSON"));
  CHECK(contains(refusal(file_of("{} {}", "")), "not valid JSON"));
  CHECK(contains(refusal(file_of("{\"w\":" + good + ",\"w\":" + good + "}", std::string(8, 'x'))),
                 "two members named \"w\""));
  CHECK(contains(one("[[[[[[1]]]]]]"), "nests deeper"));
  CHECK(contains(one("3"), "is not an object"));
  CHECK(contains(one("{\"dtype\":\"F32\",\"data_offsets\":[0,8]}"), "has no member \"shape\""));
  CHECK(contains(one("{\"dtype\":\"F31\",\"shape\":[2],\"data_offsets\":[0,8]}"), "unknown element type \"F31\""));
  CHECK(contains(one("{\"dtype\":7,\"shape\":[2],\"data_offsets\":[0,8]}"), "dtype is not a string"));
  CHECK(contains(one("{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]}"), "not what F32[3] takes"));
  CHECK(contains(one("{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}"), "not an integer from 0"));
  CHECK(contains(one("{\"dtype\":\"F32\",\"shape\":[2.0],\"data_offsets\":[0,8]}"), "not an integer from 0"));
  CHECK(contains(one("{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296,0],\"data_offsets\":[0,8]}"), "not what"));
  CHECK(contains(one("{\"dtype\":\"F32\",\"shape\":[4294967296,1073741824,4],\"data_offsets\":[0,8]}"), "not what"));
  CHECK(contains(one("{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,12]}"), "truncated or damaged"));
  CHECK(contains(one("{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}"), "begin <= end"));
  CHECK(contains(one("{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0]}"), "begin <= end"));
  CHECK(contains(one("{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4,8]}"), "list of at most 2"));
  CHECK(contains(one(good, std::string(9, 'x')), "end at byte 8 of a data section of 9"));
  CHECK(contains(one("{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}"), "leave a hole at byte 0"));
  CHECK(
      contains(refusal(file_of("{\"a\":" + good + ",\"b\":" + good + "}", std::string(8, 'x'))), "overlap at byte 0"));
  CHECK(contains(refusal(file_of("{\"__metadata__\":{\"a\":1}}", "")), "a is not a string"));
  CHECK(contains(refusal(file_of("{\"__metadata__\":[]}", "")), "is not an object"));
}

TEST_CASE("the writer keeps to its layout", "[shard_file]") {
  TempDir dir;
  float x[4] = {};
  ShardFileWriter writer(dir / "a", {{"a", DType::f32, {2}}, {"b", DType::f32, {2}}}, {});
  CHECK_THROWS_AS(writer.append(Tensor(x, DType::f32, {3})), InternalError);
  CHECK_THROWS_AS(writer.finish(), InternalError);
  CHECK_THROWS_AS(ShardFileWriter(dir / "b", {}, {}).append(Tensor(x, DType::f32, {1})), InternalError);
}
