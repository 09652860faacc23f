// ldmatrix and mma.m16n8k16 with the fragment layouts of the PTX ISA ("Matrix fragments for mma.m16n8k16" and
// "ldmatrix").
//
// Arithmetic of mma: the products of two bf16 or two f16 numbers are exact in f32; they are added in f32 in the order
// of k, starting from zero, and the sum is added to d. Hardware adds in an order and with a truncation of its own that
// NVIDIA does not specify, so a test's tolerance must allow for any order.
#pragma once

#include "kernels/simt/block.h"

namespace simt {

/// Reads the 32 rows and hands every lane its words.
void finish_ldmatrix(Warp& warp, const Meeting& meeting);
/// Multiplies the operands that the lanes have placed.
void finish_mma(Warp& warp);

}  // namespace simt
