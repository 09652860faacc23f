#include "core/config/explain.h"

#include "config/helpers.h"
#include "core/config/catalog.h"
#include "support/catch.h"

namespace trident {

TEST_CASE("a key is explained in full") {
  CHECK(explain("train.micro_batch") ==
        "train.micro_batch\n"
        "  Sequences per forward pass of one replica. Activation memory grows with it.\n"
        "  Type:    a whole number, from 1 to 65536\n"
        "  Unit:    sequences\n"
        "  Default: 1\n"
        "  Changes: speed and memory only, not the result\n");
  const std::string data = explain("parallel.data");
  CHECK(data.find("or auto") != std::string::npos);
  CHECK(data.find("Default: what is left of the ranks\n") != std::string::npos);
}

TEST_CASE("what this build lacks is marked, from the table that refuses it") {
  CHECK(explain("device").find("one of cpu, cuda, simt\n") != std::string::npos);
  CHECK(explain("zero.stage").find("from 0 to 3\n") != std::string::npos);
  CHECK(explain("parallel.context").find("(not in this build: 2 and above)\n") != std::string::npos);
  CHECK(explain("parallel.tensor").find("not in this build") == std::string::npos);
  CHECK(explain("optimizer.schedule").find("not in this build") == std::string::npos);
}

TEST_CASE("a section lists its keys") {
  const std::string text = explain("zero");
  CHECK(text.find("zero (a section)\n  What is sharded over the data ranks.\n  zero.stage    ") == 0);
  CHECK(text.find("\n  zero.offload  ") != std::string::npos);
  CHECK(explain("data.train").find("data.train (a list of sections)\n") == 0);
  CHECK(explain("data").find("data.train.path") == std::string::npos);
  CHECK(explain("").find("\n  optimizer   ") != std::string::npos);
}

TEST_CASE("an element of a list is found with and without its index") {
  CHECK(explain("data.train[3].path") == explain("data.train.path"));
}

TEST_CASE("an unknown key is answered with the nearest") {
  CHECK_THROWS_AS(explain("train.global_bach"), UserError);
  CHECK_THROWS_WITH(explain("train.global_bach"),
                    "there is no key 'train.global_bach'; did you mean train.global_batch?");
  CHECK_THROWS_WITH(explain("heads"), "there is no key 'heads'; did you mean model.heads?");
  CHECK_THROWS_WITH(explain("xyzzy"), "there is no key 'xyzzy'; `trident explain` without a key lists all sections");
}

TEST_CASE("the reference has a row for every key") {
  const std::string reference = config_reference_markdown();
  for (const CatalogEntry& e : config_catalog()) {
    if (e.section) continue;
    INFO(e.key);
    CHECK(reference.find("\n| `" + e.key + "` | ") != std::string::npos);
  }
  CHECK(reference.find("\n### optimizer\n") != std::string::npos);
  CHECK(reference.find("runs/&lt;name>") != std::string::npos);
}

}  // namespace trident
