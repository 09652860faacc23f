# CUDA, in two forms that share every source line. `trident_cuda_headers`: NVIDIA's headers, enough for the emulation
# (kernels/simt). With TRIDENT_CUDA the real thing: nvcc, cuBLASLt, NCCL, and cuDNN where it is found.

option(TRIDENT_SIMT "Build the emulated CUDA device (trident-simt and its tests) where CUDA's headers are found" ON)
set(TRIDENT_CUDA "AUTO" CACHE STRING "Build the CUDA device: ON, OFF, or AUTO: when nvcc is there and a GPU is visible")
set(TRIDENT_CUDNN "AUTO" CACHE STRING "Attention by cuDNN in the CUDA device: ON, OFF, or AUTO: when it is found")
set(TRIDENT_CUDA_ROOT "${CMAKE_SOURCE_DIR}/build/cuda" CACHE PATH
  "Where scripts/fetch_cuda.sh puts the toolkit's parts on machines that have none")

# Hints before CMake's own places: the CUDA toolkit of the machine, then the fetched one.
set(trident_cuda_hints ENV CUDA_HOME ENV CUDA_PATH /usr/local/cuda ${TRIDENT_CUDA_ROOT})
find_path(TRIDENT_CUDA_INCLUDE cuda_runtime_api.h HINTS ${trident_cuda_hints} PATH_SUFFIXES include)
find_path(TRIDENT_CUBLASLT_INCLUDE cublasLt.h HINTS ${trident_cuda_hints} PATH_SUFFIXES include)
find_path(TRIDENT_NCCL_INCLUDE nccl.h HINTS ${trident_cuda_hints} PATH_SUFFIXES include)

add_library(trident_cuda_headers INTERFACE)
if(TRIDENT_CUDA_INCLUDE AND TRIDENT_CUBLASLT_INCLUDE AND TRIDENT_NCCL_INCLUDE)
  set(TRIDENT_HAVE_CUDA_HEADERS TRUE)
  # SYSTEM: warnings in them are not ours.
  target_include_directories(trident_cuda_headers SYSTEM INTERFACE
    ${TRIDENT_CUDA_INCLUDE} ${TRIDENT_CUBLASLT_INCLUDE} ${TRIDENT_NCCL_INCLUDE})
else()
  set(TRIDENT_HAVE_CUDA_HEADERS FALSE)
endif()
if(TRIDENT_SIMT AND NOT TRIDENT_HAVE_CUDA_HEADERS)
  message(STATUS "no CUDA headers: the emulated CUDA device is left out (scripts/fetch_cuda.sh fetches them)")
endif()

set(TRIDENT_WITH_CUDA FALSE)
find_program(trident_nvcc nvcc HINTS ${trident_cuda_hints} PATH_SUFFIXES bin)
if(TRIDENT_CUDA STREQUAL "AUTO")
  if(trident_nvcc AND EXISTS /dev/nvidiactl)
    set(TRIDENT_WITH_CUDA TRUE)
  endif()
elseif(TRIDENT_CUDA)
  set(TRIDENT_WITH_CUDA TRUE)
endif()

if(TRIDENT_WITH_CUDA)
  if(NOT CMAKE_CUDA_COMPILER AND trident_nvcc)
    set(CMAKE_CUDA_COMPILER ${trident_nvcc})
  endif()
  set(CMAKE_CUDA_ARCHITECTURES "80-real;90-real;90-virtual" CACHE STRING "GPU architectures to compile for")
  enable_language(CUDA)
  # CMake 3.25 does not know that nvcc has C++20, and would fall back to 17 without a word.
  if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
    set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
  endif()
  find_package(CUDAToolkit REQUIRED)
  find_library(TRIDENT_NCCL_LIBRARY nccl HINTS ${trident_cuda_hints} PATH_SUFFIXES lib64 lib)
  if(NOT TRIDENT_NCCL_LIBRARY OR NOT TRIDENT_HAVE_CUDA_HEADERS)
    trident_missing("NCCL" "libnccl-dev (NVIDIA's repository)")
  endif()

  # cuDNN through its frontend, which is headers alone (PyPI's nvidia-cudnn-frontend; scripts/fetch_cuda.sh --frontend).
  # Its headers compile kernels of their own by NVRTC, for operations that nobody here calls.
  find_path(TRIDENT_CUDNN_FRONTEND_INCLUDE cudnn_frontend.h HINTS ${trident_cuda_hints} PATH_SUFFIXES include)
  find_path(TRIDENT_CUDNN_INCLUDE cudnn.h HINTS ${trident_cuda_hints} PATH_SUFFIXES include)
  find_library(TRIDENT_CUDNN_LIBRARY NAMES cudnn libcudnn.so.9 HINTS ${trident_cuda_hints} PATH_SUFFIXES lib64 lib)
  find_library(TRIDENT_NVRTC_LIBRARY nvrtc HINTS ${trident_cuda_hints} PATH_SUFFIXES lib64 lib)
  set(trident_cudnn_missing)
  foreach(part CUDNN_FRONTEND_INCLUDE CUDNN_INCLUDE CUDNN_LIBRARY NVRTC_LIBRARY)
    if(NOT TRIDENT_${part})
      list(APPEND trident_cudnn_missing TRIDENT_${part})
    endif()
  endforeach()
  set(TRIDENT_WITH_CUDNN FALSE)
  if(NOT TRIDENT_CUDNN)
    message(STATUS "cuDNN: off (TRIDENT_CUDNN); attention on CUDA is our own")
  elseif(NOT trident_cudnn_missing)
    set(TRIDENT_WITH_CUDNN TRUE)
    message(STATUS "cuDNN: ${TRIDENT_CUDNN_LIBRARY}, frontend in ${TRIDENT_CUDNN_FRONTEND_INCLUDE}")
  elseif(TRIDENT_CUDNN STREQUAL "AUTO")
    message(STATUS "cuDNN: not found (${trident_cudnn_missing}); attention on CUDA is our own")
  else()
    message(FATAL_ERROR "cuDNN is asked for (TRIDENT_CUDNN=${TRIDENT_CUDNN}) and not found: ${trident_cudnn_missing}\n"
                        "(scripts/fetch_cuda.sh --frontend fetches the frontend's headers)")
  endif()

  add_library(trident_cuda_libraries INTERFACE)
  target_link_libraries(trident_cuda_libraries INTERFACE CUDA::cudart CUDA::cublasLt ${TRIDENT_NCCL_LIBRARY})
endif()
