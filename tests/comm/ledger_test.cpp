#include "core/comm/ledger.h"

#include "support/catch.h"

using namespace trident;

TEST_CASE("the ledger says where the rank is", "[ranks=1]") {
  Ledger ledger;
  CHECK(ledger.describe() == "step 0, start, computing");
  ledger.at(12, "backward", 3, 1);
  CHECK(ledger.step() == 12);
  CHECK(ledger.place() == "step 12, backward of block 3, micro-batch 1");
  CHECK(ledger.describe() == "step 12, backward of block 3, micro-batch 1, computing");
  ledger.at(13, "optimizer", -1, -1);
  CHECK(ledger.place() == "step 13, optimizer");
}

TEST_CASE("the ledger names the operations in progress by number", "[ranks=1]") {
  Ledger ledger;
  ledger.at(1, "forward", 2, 0);
  CHECK(ledger.begin("tensor", "all_reduce", 10) == 1);
  ledger.end("tensor", "all_reduce");
  CHECK(ledger.begin("tensor", "all_reduce", 10) == 2);
  CHECK(ledger.begin("data", "reduce_scatter", 5) == 1);
  const std::string text = ledger.describe();
  INFO(text);
  CHECK(text.find(", in reduce_scatter #1 on data for 0.") != std::string::npos);
  CHECK(text.find(", in all_reduce #2 on tensor for 0.") != std::string::npos);
  ledger.end("tensor", "all_reduce");
  ledger.end("data", "reduce_scatter");
  CHECK(ledger.describe() == "step 1, forward of block 2, micro-batch 0, computing");
}

TEST_CASE("the ledger adds volumes up by axis and operation", "[ranks=1]") {
  Ledger ledger;
  ledger.begin("tensor", "all_reduce", 100);
  ledger.end("tensor", "all_reduce");
  ledger.begin("tensor", "all_reduce", 50);
  ledger.end("tensor", "all_reduce");
  ledger.begin("pipeline", "send", 7);
  ledger.end("pipeline", "send");
  CHECK(ledger.bytes() == 157);
  const auto volumes = ledger.volumes();
  REQUIRE(volumes.size() == 2);
  CHECK(volumes.at("tensor.all_reduce").calls == 2);
  CHECK(volumes.at("tensor.all_reduce").bytes == 150);
  CHECK(volumes.at("pipeline.send").calls == 1);
}
