# Finds every third party once. Each missing one stops the configuration with the package that brings it.

function(trident_missing what package)
  message(FATAL_ERROR "${what} was not found. Install it with: apt-get install ${package}\n"
                      "(scripts/install_deps.sh installs everything Trident needs)")
endfunction()

find_package(Threads REQUIRED)

find_package(MPI QUIET COMPONENTS CXX)
if(NOT MPI_CXX_FOUND)
  trident_missing("Open MPI" "libopenmpi-dev openmpi-bin")
endif()

find_package(OpenMP QUIET COMPONENTS CXX)
if(NOT OpenMP_CXX_FOUND)
  trident_missing("OpenMP" "libgomp1 (GCC) or libomp-dev (Clang)")
endif()

find_package(yaml-cpp QUIET)
if(NOT yaml-cpp_FOUND)
  trident_missing("yaml-cpp" "libyaml-cpp-dev")
endif()
# 0.8 renames the target; both are taken.
add_library(trident_yaml INTERFACE)
if(TARGET yaml-cpp::yaml-cpp)
  target_link_libraries(trident_yaml INTERFACE yaml-cpp::yaml-cpp)
else()
  target_link_libraries(trident_yaml INTERFACE yaml-cpp)
endif()

find_package(CLI11 QUIET)
if(NOT CLI11_FOUND)
  trident_missing("CLI11" "libcli11-dev")
endif()

find_package(nlohmann_json QUIET)
if(NOT nlohmann_json_FOUND)
  trident_missing("nlohmann-json" "nlohmann-json3-dev")
endif()

# oneDNN's own config aborts when OpenCL is missing, so look for its header first and for OpenCL by hand.
find_path(trident_dnnl_header dnnl.hpp PATH_SUFFIXES oneapi/dnnl)
if(NOT trident_dnnl_header)
  trident_missing("oneDNN" "libdnnl-dev ocl-icd-opencl-dev")
endif()
find_package(OpenCL QUIET)
if(NOT OpenCL_FOUND)
  trident_missing("OpenCL (oneDNN's CMake files want it)" "ocl-icd-opencl-dev")
endif()
find_package(dnnl QUIET)
if(NOT dnnl_FOUND)
  trident_missing("oneDNN" "libdnnl-dev ocl-icd-opencl-dev")
endif()

find_package(PkgConfig QUIET)
if(NOT PkgConfig_FOUND)
  trident_missing("pkg-config" "pkg-config")
endif()
pkg_check_modules(xxhash QUIET IMPORTED_TARGET libxxhash)
if(NOT xxhash_FOUND)
  trident_missing("xxHash" "libxxhash-dev")
endif()
add_library(trident_xxhash ALIAS PkgConfig::xxhash)
# Optional: files are read and written by threads without it (core/device/file_engine.h).
pkg_check_modules(URING QUIET IMPORTED_TARGET liburing)

if(TRIDENT_TESTS)
  find_package(Catch2 QUIET)
  if(NOT Catch2_FOUND)
    trident_missing("Catch2" "catch2")
  endif()
endif()
