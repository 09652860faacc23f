#include "core/plan/zero_table.h"

#include <algorithm>
#include <sstream>
#include <vector>

#include "core/config/load.h"
#include "core/plan/plan.h"
#include "support/catch.h"

using namespace trident;

namespace {

Config shipped(const std::string& name, std::vector<std::string> overrides = {}) {
  return load_config(std::string(TRIDENT_SOURCE_DIR) + "/configs/" + name, overrides, 0);
}

}  // namespace

TEST_CASE("the paper's table comes out as it is printed there") {
  // arXiv 1910.02054, table 1.
  struct Row {
    double parameters;
    int ranks;
    const char* printed[3];
  };
  const Row rows[] = {{7.5e9, 1, {"120", "120", "120"}},       {7.5e9, 4, {"52.5", "41.3", "30"}},
                      {7.5e9, 16, {"35.6", "21.6", "7.5"}},    {7.5e9, 64, {"31.4", "16.6", "1.88"}},
                      {7.5e9, 1024, {"30.1", "15.1", "0.12"}}, {1e12, 1, {"16000", "16000", "16000"}},
                      {1e12, 64, {"4187", "2218", "250"}},     {1e12, 1024, {"4011", "2013", "15.6"}}};
  const std::string text = paper_zero_table();
  for (const Row& row : rows) {
    for (int stage = 1; stage <= 3; ++stage) {
      CHECK(paper_gigabytes(paper_state_bytes(row.parameters, stage, row.ranks)) == row.printed[stage - 1]);
    }
    // The line of these ranks has the three, side by side.
    bool found = false;
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
      std::istringstream words(line);
      std::vector<std::string> cells;
      for (std::string word; words >> word;) cells.push_back(word);
      if (cells.size() != 10 || cells[0] != std::to_string(row.ranks)) continue;
      const size_t first = row.parameters < 1e11 ? 1 : 7;
      found = std::equal(row.printed, row.printed + 3, cells.begin() + first);
    }
    INFO(text);
    CHECK(found);
  }
}

TEST_CASE("gigabytes below a hundred are rounded half up, above cut; no zeros at the end") {
  CHECK(paper_gigabytes(41.25e9) == "41.3");
  CHECK(paper_gigabytes(1.875e9) == "1.88");
  CHECK(paper_gigabytes(2218.75e9) == "2218");
  CHECK(paper_gigabytes(100e9) == "100");
  CHECK(paper_gigabytes(30e9) == "30");
  CHECK(paper_gigabytes(0.1e9) == "0.1");
  CHECK(paper_gigabytes(0.00194e9) == "0.0019");
  CHECK(paper_gigabytes(0) == "0");
}

TEST_CASE("what is allocated follows the formula with four bytes for gradients, and whole ones at the ends") {
  const Config config = shipped("gpt2_124m.yaml");
  // A layer: 12 D^2 of matrices, 13 D of biases and norms; with the ends 124,439,808 in all. Padding is less than 32
  // elements a parameter and data rank.
  const int64_t d = 768, layers = 12 * (12 * d * d + 13 * d), all = 124439808, ends = all - layers;
  for (const int ranks : {1, 4, 64}) {
    const int64_t slack = 18 * 32 * (12 * 14 + ranks * 14);
    const auto check = [&](int stage, int64_t bytes) {
      const int64_t states = allocated_state_bytes(config, stage, ranks).states;
      INFO("stage " << stage << " on " << ranks << ": " << states << ", counted " << bytes);
      CHECK(states >= bytes);
      CHECK(states <= bytes + slack);
    };
    check(1, 6 * all + 12 * all / ranks);
    check(2, 2 * all + 4 * ends + (4 * layers + 12 * all) / ranks);
    check(3, 4 * ends + (4 * layers + 14 * all) / ranks);
  }
  CHECK(allocated_state_bytes(config, 1, 4).in_use == 0);
  CHECK(allocated_state_bytes(config, 2, 4).in_use == 2 * 4 * layers / 12);
}

TEST_CASE("in fp32 the weights are their own master: sixteen bytes a parameter") {
  const Config config = shipped("gpt2_124m.yaml", {"train.precision=fp32"});
  const int64_t states = allocated_state_bytes(config, 1, 1).states;
  CHECK(states >= 16 * int64_t{124439808});
  CHECK(states <= 16 * int64_t{124439808} + 16 * 32 * 12 * 14);
  CHECK(zero_table(config).find("16 bytes a parameter: weights 4") != std::string::npos);
}

TEST_CASE("a model's own table says what it counts, whatever grid its config has") {
  const std::string text = zero_table(shipped("trillion.yaml"));
  CHECK(text.find("18 bytes a parameter: weights 2, gradients 4 (fp32, where the paper has 2), optimizer 12.") !=
        std::string::npos);
  CHECK(text.find("formula") < text.find("allocated"));
  CHECK(text.find(" GB at stage 2, ") != std::string::npos);
}
