#include "core/model/module.h"

#include "core/model/embedding.h"
#include "core/model/head.h"
#include "core/model/layer.h"

namespace trident {

std::unique_ptr<Module> make_block(const ModelShape& shape, int64_t index) {
  ensure(index >= 0 && index <= shape.layers + 1, "a block index is 0 ... layers + 1");
  if (index == 0) return std::make_unique<Embedding>(shape);
  if (index == shape.layers + 1) return std::make_unique<Head>(shape);
  return std::make_unique<Layer>(shape, index - 1);
}

std::vector<std::unique_ptr<Module>> make_model(const ModelShape& shape) {
  std::vector<std::unique_ptr<Module>> blocks;
  for (int64_t i = 0; i <= shape.layers + 1; ++i) blocks.push_back(make_block(shape, i));
  return blocks;
}

}  // namespace trident
