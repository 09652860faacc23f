// Catch2, whichever the distribution has: Debian 12 ships v2, Ubuntu 24.04 v3.
#pragma once

#ifdef TRIDENT_CATCH2_V3
#include <catch2/catch_all.hpp>
#else
#include <catch2/catch.hpp>
#endif
