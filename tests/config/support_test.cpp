#include "core/config/support.h"

#include "config/helpers.h"
#include "support/catch.h"

namespace trident {

TEST_CASE("the defaults are in this build") { CHECK(unsupported(Config{}).empty()); }

TEST_CASE("what this build lacks is refused at its place, with the nearest that works") {
  struct Case {
    const char* override;
    const char* complaint;
  };
  const Case cases[] = {
      {"model.arch=phi3", "model.arch: phi3 is not in this build; the nearest that works is llama"},
      {"model.arch=mixtral", "model.arch: mixtral is not in this build; the nearest that works is llama"},
      {"model.attention.kind=bigbird",
       "model.attention.kind: bigbird is not in this build; the nearest that works is dense"},
      {"parallel.context=2",
       "parallel.context: 2 is not in this build; the nearest that works is 1, with a larger tensor"},
      {"parallel.expert=2", "parallel.expert: 2 is not in this build; the nearest that works is 1"},
      {"train.precision=fp16", "train.precision: fp16 is not in this build; the nearest that works is bf16"},
      {"data.tokenizer.kind=gpt2",
       "data.tokenizer.kind: gpt2 is not in this build; the nearest that works is byte, or none for data that is "
       "tokens "
       "already"},
      {"data.tokenizer.kind=sentencepiece",
       "data.tokenizer.kind: sentencepiece is not in this build; the nearest that works is byte, or none for data that "
       "is tokens already"},
  };
  for (const Case& c : cases) {
    CHECK(error_of(kLegal, 0, {c.override}) == "--set " + std::string(c.override) + ": " + c.complaint);
  }
}

}  // namespace trident
