// State beside the GPU on the emulated runtime, where the processor is late and the GPU does nothing before it must:
// what is promised as done is done.
#include <algorithm>
#include <chrono>
#include <thread>
#include <vector>

#include "checkpoint/support.h"
#include "core/config/load.h"
#include "core/device/cuda_device.h"
#include "core/run/run.h"
#include "core/train/parameter_file.h"
#include "kernels/simt/control.h"
#include "support/catch.h"

using namespace trident;

namespace {

void make_late() {
  simt::Settings settings;
  settings.late_pageable = true;
  simt::set_settings(settings);
}

/// What the processor gets next waits.
void hold_processor(Device& device) {
  device.on_host([] { std::this_thread::sleep_for(std::chrono::milliseconds(50)); });
}

/// A run of its own on freshly made weights.
struct Late {
  explicit Late(const std::string& zero)
      : run(load_config_text(
                build_string("device: simt\nmodel: {arch: gpt2, layers: 3, hidden: 64, heads: 2, vocab: 61, "
                             "context: 8}\ndata: {tokenizer: {kind: none}}\ntrain: {global_batch: 1, "
                             "micro_batch: 1, precision: fp32}\nzero: {",
                             zero, zero.find("nvme") == std::string::npos ? "" : ", nvme_path: " + (files / "nvme"),
                             "}\n"),
                zero, {}, 0),
            *world) {
    run.initialize();
    device().synchronize(device().stream(Role::host));
  }
  Device& device() { return run.device(); }
  OptimizerState& state() { return run.engine().state; }
  /// The last layer's first: scales, which are not zero.
  const Segment& segment() {
    const auto& all = run.engine().store.segments();
    return *std::find_if(all.begin(), all.end(), [](const Segment& s) { return s.block == 3; });
  }

  /// An update that doubles every weight.
  void update() {
    state().update(
        [](const Ops& ops, Stream on, const OptimizerState::Piece& piece) {
          ops.scale(on, piece.master, piece.master, 2.0f);
          if (piece.weight.defined() && piece.weight.data != piece.master.data) {
            ops.scale(on, piece.weight, piece.master, 1.0f);
          }
        },
        device().stream(Role::compute));
  }
  double loss() {
    Batch batch{.sequences = 1, .context = 8};
    for (int32_t i = 0; i < 8; ++i) batch.tokens.push_back(7 * i), batch.targets.push_back(3 * i + 1);
    return run.engine().executor.evaluate(batch).loss;
  }
  std::vector<float> masters() {
    const Segment& s = segment();
    std::vector<float> values(static_cast<size_t>(s.end - s.begin), -1.0f);
    state().read(s, StatePart::master, 0, s.end - s.begin, values.data());
    return values;
  }

  test::TempDir files{test::Medium::memory};
  std::unique_ptr<World> world = make_self_world();
  Run run;
};

const std::vector<std::string> kPlaces = {"stage: 3, offload: host, offload_parameters: host",
                                          "stage: 3, offload: nvme, offload_parameters: nvme",
                                          "stage: 3, offload: nvme, offload_parameters: nvme, delayed_update: true",
                                          "stage: 2, offload: host",
                                          "stage: 2, offload: host, delayed_update: true",
                                          "stage: 1, offload: nvme, delayed_update: true",
                                          "stage: 1, offload: none"};

}  // namespace

TEST_CASE("forward sees the weights of an update that the processor does late") {
  make_late();
  for (const std::string& zero : kPlaces) {
    INFO(zero);
    Late plain("stage: 1, offload: none"), late(zero);
    CHECK(late.loss() == plain.loss());
    plain.update();
    hold_processor(late.device());
    late.update();
    late.state().settle(late.device().stream(Role::compute));
    CHECK(late.loss() == plain.loss());
  }
}

TEST_CASE("state that is read is that of the last update, however late the processor does it") {
  make_late();
  for (const std::string& zero : kPlaces) {
    INFO(zero);
    Late place(zero);
    std::vector<float> want = place.masters();
    CHECK(std::any_of(want.begin(), want.end(), [](float w) { return w != 0; }));
    for (float& w : want) w *= 2;
    hold_processor(place.device());
    place.update();
    CHECK(place.masters() == want);

    // What is written may be forgotten at once.
    std::vector<float> values = want;
    place.state().write(place.segment(), StatePart::master, 0, static_cast<int64_t>(values.size()), values.data());
    std::fill(values.begin(), values.end(), -7.0f);
    CHECK(place.masters() == want);
  }
}

TEST_CASE("an update leaves weights alone that are still being gathered") {
  make_late();
  for (const char* zero :
       {"stage: 3, offload: none", "stage: 3, offload: host", "stage: 3, offload: host, offload_parameters: host"}) {
    INFO(zero);
    Late plain("stage: 1, offload: none"), late(zero);
    late.run.engine().store.prefetch(1);  // a race, were it not for the wait: the emulator tells
    plain.update();
    late.update();
    CHECK(late.loss() == plain.loss());
  }
}

TEST_CASE("memory of the parameter file is taken again when the device has what was in it") {
  make_late();
  constexpr int64_t kElements = 2048, kChunks = 6;
  const test::TempDir files(test::Medium::memory);
  const auto device = make_cuda_device(0, 1, AttentionKernel::own);
  ParameterFile file({.directory = files.path(), .elements = kElements, .chunks = kChunks, .layer_chunks = 1}, *device);
  for (int64_t chunk = 0; chunk < kChunks; ++chunk) {
    const Tensor to = file.open(chunk);
    std::fill_n(to.as<float>(), kElements, static_cast<float>(chunk));
    file.write(chunk);
  }
  const Memory memory = device->alloc(kChunks * kElements * sizeof(float), Place::device, "weights");
  const Tensor all(memory.data(), DType::f32, {kChunks * kElements}, memory.place());
  for (int64_t chunk = 0; chunk < kChunks; ++chunk) {
    file.fetch(chunk, all.rows(chunk * kElements, (chunk + 1) * kElements));
  }
  std::vector<float> values(kChunks * kElements);
  device->copy(Tensor(values.data(), DType::f32, {kChunks * kElements}), all, device->stream(Role::upload));
  device->synchronize(device->stream(Role::upload));
  for (int64_t i = 0; i < kChunks * kElements; ++i)
    CHECK(values[static_cast<size_t>(i)] == static_cast<float>(i / kElements));
}
