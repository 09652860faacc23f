// The case list on a real GPU: tests/simt/cases_test.cpp, linked with NVIDIA's libraries and this room.
#include "simt/cuda_room.h"

namespace trident::cases {

std::unique_ptr<Room> make_cuda_room() { return std::make_unique<CudaRoom>(); }

}  // namespace trident::cases
