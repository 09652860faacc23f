# The kernels of the CPU device, compiled once for each instruction set of kernels/cpu/isa.h. The sets' options ask for no
# more than isa.cpp asks the processor for. (For prfchw see trident_comm.)
set(TRIDENT_CPU_ISAS avx2 avx512 avx512_bf16 amx)
set(trident_avx2_options -march=x86-64-v3 -mprfchw)
set(trident_avx512_options -march=x86-64-v4 -mprfchw)
set(trident_avx512_bf16_options -march=x86-64-v4 -mprfchw -mavx512bf16)
set(trident_amx_options -march=x86-64-v4 -mprfchw -mavx512bf16 -mamx-tile -mamx-bf16 -mtune=sapphirerapids)

file(GLOB trident_isa_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/kernels/cpu/*.cpp)
set(trident_cpu_once isa peak zero)  # What chooses, and what memory bounds.
foreach(file IN LISTS trident_cpu_once)
  list(REMOVE_ITEM trident_isa_sources ${CMAKE_SOURCE_DIR}/kernels/cpu/${file}.cpp)
  target_sources(trident_kernels PRIVATE kernels/cpu/${file}.cpp)
endforeach()

# Every set's files become one object, of which only kernels() is visible. Otherwise an inline function of a shared header
# (std::string's, ...) that was compiled for AVX-512 could be the copy that the linker keeps for the whole program, and
# older processors would meet it. (For the same reason such a header's variables are a set's own: no log, no trace here.)
foreach(isa IN LISTS TRIDENT_CPU_ISAS)
  # A library, because its options then come after those of trident_flags.
  add_library(trident_${isa}_options INTERFACE)
  target_compile_options(trident_${isa}_options INTERFACE ${trident_${isa}_options})
  add_library(trident_cpu_${isa} OBJECT ${trident_isa_sources})
  target_compile_definitions(trident_cpu_${isa} PRIVATE TRIDENT_CPU_ISA=${isa})
  # A unique symbol would stay visible: unoptimised, a constant of one set could be read by another.
  target_compile_options(trident_cpu_${isa} PRIVATE $<$<CXX_COMPILER_ID:GNU>:-fno-gnu-unique>)
  target_link_libraries(trident_cpu_${isa} PRIVATE trident_base DNNL::dnnl OpenMP::OpenMP_CXX trident_${isa}_options)
  set(object ${CMAKE_BINARY_DIR}/trident_cpu_${isa}.o)
  add_custom_command(OUTPUT ${object} COMMAND_EXPAND_LISTS VERBATIM DEPENDS $<TARGET_OBJECTS:trident_cpu_${isa}>
    COMMAND ${CMAKE_LINKER} -r --force-group-allocation -o ${object} $<TARGET_OBJECTS:trident_cpu_${isa}>
    COMMAND ${CMAKE_OBJCOPY} --wildcard "--keep-global-symbol=_ZN7trident3cpu7kernelsILNS_6CpuIsa*" ${object})
  target_sources(trident_kernels PRIVATE ${object})
endforeach()
