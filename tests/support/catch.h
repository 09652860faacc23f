// Catch2, whichever the distribution has: Debian 12 ships v2, Debian 13 and Ubuntu 24.04 v3.
#pragma once

#ifdef TRIDENT_CATCH2_V3
#include <catch2/catch_session.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators_all.hpp>
#include <catch2/matchers/catch_matchers.hpp>
#else
#include <catch2/catch.hpp>
#endif
