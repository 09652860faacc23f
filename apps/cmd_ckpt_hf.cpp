// trident ckpt import|export: HuggingFace directories in and out.
#include <cstdio>
#include <memory>
#include <string>

#include "apps/commands.h"
#include "core/base/dtype.h"
#include "core/checkpoint/huggingface.h"

namespace trident {

namespace {

void add_import(CLI::App& ckpt) {
  struct Options {
    std::string hf_dir, checkpoint_dir;
  };
  const auto options = std::make_shared<Options>();
  CLI::App* command = ckpt.add_subcommand("import", "HuggingFace GPT-2 or Llama -> a checkpoint of weights (step 0)");
  command->add_option("HF_DIR", options->hf_dir, "config.json and safetensors, as save_pretrained writes")->required();
  command->add_option("CKPT_DIR", options->checkpoint_dir, "where step-00000000 is made")->required();
  command->callback([options] {
    const std::string path = import_huggingface(options->hf_dir, options->checkpoint_dir);
    std::printf("%s holds the weights of %s; text is tokens there until data.tokenizer names a tokenizer\n",
                path.c_str(), options->hf_dir.c_str());
  });
}

void add_export(CLI::App& ckpt) {
  struct Options {
    std::string checkpoint, hf_dir, dtype = "f32";
    HfExportOptions files;
  };
  const auto options = std::make_shared<Options>();
  CLI::App* command = ckpt.add_subcommand("export", "a checkpoint, of any grid -> a directory that transformers loads");
  command->add_option("CKPT_DIR", options->checkpoint, "a checkpoint, a directory of them or a run (the newest)")
      ->required();
  command->add_option("HF_DIR", options->hf_dir, "made; must be new or empty")->required();
  command->add_option("--dtype", options->dtype, "of the weights")
      ->check(CLI::IsMember({"f32", "bf16"}))
      ->capture_default_str();
  command->add_option("--max-shard-bytes", options->files.max_shard_bytes, "split the weights into files of this size")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->callback([options] {
    options->files.dtype = options->dtype == "f32" ? DType::f32 : DType::bf16;
    export_huggingface(options->checkpoint, options->hf_dir, options->files);
    std::printf("%s is ready for transformers (from_pretrained); the tokenizer's files are not part of it\n",
                options->hf_dir.c_str());
  });
}

}  // namespace

void add_ckpt_hf_commands(CLI::App& ckpt) {
  add_import(ckpt);
  add_export(ckpt);
}

}  // namespace trident
