// The checkpoint store: save from any grid, load on any grid. Include this; the parts have a file each.
#pragma once

#include "core/checkpoint/diff.h"
#include "core/checkpoint/directory.h"
#include "core/checkpoint/manifest.h"
#include "core/checkpoint/pieces.h"
#include "core/checkpoint/reader.h"
#include "core/checkpoint/slice.h"
#include "core/checkpoint/verify.h"
#include "core/checkpoint/writer.h"
