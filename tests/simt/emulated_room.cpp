#include "emulated_room.h"

namespace trident::cases {

std::unique_ptr<Room> make_cuda_room() { return std::make_unique<EmulatedRoom>(); }

}  // namespace trident::cases
