#include "core/checkpoint/manifest.h"

#include <xxhash.h>

#include <cmath>
#include <limits>

#include "checkpoint/support.h"
#include "support/catch.h"

using namespace trident;
using namespace trident::test;

namespace {

Manifest sample() {
  Manifest manifest;
  manifest.meta = sample_meta(200);
  manifest.files = {{"shard-00000-of-00002.safetensors", 100, 52, 0x0123456789abcdef},
                    {"shard-00001-of-00002.safetensors", 84, 60, 7}};
  manifest.tensors["model.w"] = {
      {3, 4}, DType::f32, {{0, 52, 16, 11, {{0, 0}, {1, 4}}}, {0, 68, 32, 12, {{1, 0}, {2, 4}}}}};
  manifest.tensors["model.b"] = {{12}, DType::bf16, {{1, 60, 24, UINT64_MAX, {{0}, {12}}}}};
  return manifest;
}

/// The manifest's text with `from` replaced by `to` in its body, under a checksum that fits.
std::string forged(const std::string& from, const std::string& to) {
  std::string text = manifest_text(sample());
  const size_t begin = text.find("\"manifest\":") + 11;
  std::string body = text.substr(begin, text.size() - begin - 2);
  const size_t at = body.find(from);
  REQUIRE(at != std::string::npos);
  body.replace(at, from.size(), to);
  return "{\"xxh3\":\"" + checksum_text(XXH3_64bits(body.data(), body.size())) + "\",\"manifest\":" + body + "}\n";
}

std::string refusal(const std::string& from, const std::string& to) {
  const std::string text = forged(from, to);
  return message_of<UserError>([&] { parse_manifest(text, "m.json"); });
}

}  // namespace

TEST_CASE("a manifest survives a round trip", "[manifest]") {
  const Manifest manifest = sample();
  CHECK(parse_manifest(manifest_text(manifest), "m") == manifest);
  CHECK(manifest.bytes() == 184);
  Manifest bare;
  bare.meta.config = "text with \"quotes\", \\ and \xc3\xa9\n";
  CHECK(parse_manifest(manifest_text(bare), "m") == bare);
  CHECK_FALSE(parse_manifest(manifest_text(bare), "m").meta.probe.has_value());
}

TEST_CASE("every double survives, a loss that is not a number too", "[manifest]") {
  Manifest manifest = sample();
  for (const double loss : {0.1, 5.545177444479562, 1e-300, 0x1.fffffffffffffp+1023, -0.0}) {
    manifest.meta.probe->loss = loss;
    CHECK(parse_manifest(manifest_text(manifest), "m").meta.probe->loss == loss);
  }
  manifest.meta.probe->loss = std::numeric_limits<double>::quiet_NaN();
  CHECK(std::isnan(parse_manifest(manifest_text(manifest), "m").meta.probe->loss));
}

TEST_CASE("every changed byte and every cut of a manifest is found", "[manifest]") {
  const std::string text = manifest_text(sample());
  for (size_t i = 0; i < text.size(); ++i) {
    for (const char flip : {char(1), char(0x20), char(0x80)}) {
      std::string changed = text;
      changed[i] = static_cast<char>(changed[i] ^ flip);
      REQUIRE_THROWS_AS(parse_manifest(changed, "m"), UserError);
    }
    REQUIRE_THROWS_AS(parse_manifest(text.substr(0, i), "m"), UserError);
  }
  CHECK_THROWS_AS(parse_manifest(text + " ", "m"), UserError);
}

TEST_CASE("a manifest that contradicts itself is refused with the reason", "[manifest]") {
  CHECK(refusal("\"labels\"", "\"labels\"").empty());
  CHECK(contains(refusal("trident-checkpoint", "another"), "not a Trident checkpoint"));
  CHECK(contains(refusal("\"version\":1", "\"version\":2"), "version 2; this binary reads version 1"));
  CHECK(contains(refusal("\"step\":200", "\"step\":-1"), "m.json.step is -1"));
  CHECK(contains(refusal("\"skipped_steps\":0", "\"skipped_steps\":1.5"), "counters.skipped_steps is not an integer"));
  CHECK(contains(refusal("\"9f86d081884c7d65\"", "9"), "labels.dataset is not a string"));
  CHECK(contains(refusal("\"tokens\":[1,2,3,4]", "\"tokens\":[1,2,3]"), "probe.tokens is not a list of 4"));
  CHECK(contains(refusal("\"tokens\":[1,2,3,4]", "\"tokens\":[1,2,3,4294967296]"), "probe.tokens is not"));
  CHECK(contains(refusal("\"loss\":5.545177444479562", "\"loss\":\"5\""), "loss is not a number"));
  CHECK(contains(refusal("shard-00000-of", "../shard-00000-of"), "not a plain file name"));
  CHECK(contains(refusal("shard-00000-of", "/etc/passwd"), "not a plain file name"));
  CHECK(contains(refusal("\"header_bytes\":52", "\"header_bytes\":101"), "header_bytes is more"));
  CHECK(contains(refusal("0123456789abcdef", "0123456789ABCDEF"), "not 16 lower-case hex digits"));
  CHECK(contains(refusal("\"f32\"", "\"f31\""), "unknown \"f31\""));
  CHECK(contains(refusal("\"shape\":[3,4]", "\"shape\":[2,4]"), "is not a slice of [2,4]"));
  CHECK(contains(refusal("\"shape\":[3,4]", "\"shape\":[]"), "not 1 to 5 dimensions"));
  CHECK(contains(refusal("\"shape\":[3,4]", "\"shape\":[1125899906842624,1125899906842624]"), "not 1 to 5 dimensions"));
  CHECK(contains(refusal("\"begin\":[1,0]", "\"begin\":[2,0]"), "is not a slice"));
  CHECK(contains(refusal("\"size\":[1,4]", "\"size\":[0,4]"), "is not a slice"));
  CHECK(contains(refusal("\"bytes\":16", "\"bytes\":20"), "do not fit slice [0:1,0:4] of f32"));
  CHECK(contains(refusal("\"offset\":52", "\"offset\":51"), "do not fit"));
  CHECK(contains(refusal("\"offset\":68", "\"offset\":72"), "do not fit"));
  CHECK(contains(refusal("\"file\":0", "\"file\":2"), "file is 2"));
  CHECK(contains(refusal("\"pieces\":[", "\"pieces\":7,\"other\":["), "pieces is not a list"));
  CHECK(contains(refusal("\"counters\":{", "\"counters\":0,\"other\":{"), "counters is not an object"));
  CHECK(contains(refusal("\"files\":[", "\"files\":0,\"other\":["), ".files is not a list"));
}

TEST_CASE("records of ranks are joined", "[manifest]") {
  const Manifest all = sample();
  Manifest first, second, joined;
  first.files = {all.files[0]};
  first.tensors["model.w"] = all.tensors.at("model.w");
  second.files = {all.files[1]};
  second.tensors["model.b"] = all.tensors.at("model.b");
  second.tensors["model.b"].pieces[0].file = 0;
  joined.meta = all.meta;
  merge_records(joined, manifest_records(first));
  merge_records(joined, manifest_records(second));
  CHECK(joined == all);
  second.tensors["model.w"] = {{3, 5}, DType::f32, {}};
  CHECK_THROWS_AS(merge_records(joined, manifest_records(second)), InternalError);
}

TEST_CASE("an absent manifest is named", "[manifest]") {
  TempDir dir;
  CHECK(message_of<UserError>([&] { read_manifest(dir.path()); }) ==
        "cannot open " + (dir / "manifest.json") + ": No such file or directory");
}
