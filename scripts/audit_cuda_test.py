"""The audit's self-test: made-up compiler output and launches, each with one fault that must be found."""
import pathlib
import tempfile

import audit_cuda
import cubin

SYMBOL = "_ZN7trident4cuda12_GLOBAL__N_110sum_kernelILi4EEEvPf"
LOG = """ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '{symbol}' for 'sm_80'
ptxas info    : Function properties for {symbol}
    {stack} bytes stack frame, {stores} bytes spill stores, 0 bytes spill loads
ptxas info    : Used {registers} registers, used 1 barriers, 64 bytes smem, 376 bytes cmem[0]
"""
ELF = """.nv.info
\t<0x1>
\tAttribute:\tEIATTR_REGCOUNT
.nv.info.{symbol}
\t<0x14>
\tAttribute:\tEIATTR_MAX_THREADS
\tFormat:\tEIFMT_SVAL
\tValue:\t0x100 0x2 0x1 
"""
SASS = """\t\tFunction : {symbol}
        /*0010*/                   S2R R12, SR_TID.X ;        /* 0x00000000000c7919 */
                                                              /* 0x000e220000002100 */
        /*0020*/              @!P0 {opcode}.16816.F32 R4, R8 ; /* 0x000000ffff0d7224 */
"""


def kernel(**changes):
    facts = {"registers": 32, "threads": 256, "static_shared": 64, "name": "sum_kernel<4>", **changes}
    return cubin.Kernel("kernels/cuda/sum.cu", "sm_80", SYMBOL, **facts)


def launch(**changes):
    return {"largest_block": 256, "dynamic_shared": 0, "mma": 0, "sectors": 40, "ideal_sectors": 40, "minimum": 1280,
            "conflicts": 0, **changes}


def expected_kernels(**changes):
    """One kernel for each pattern of EXPECTED; `changes` to the first."""
    names = [("attention_forward", "attention::forward_kernel<T, 64>"), ("attention_backward", "attention::key_kernel<T>"),
             ("gemm_handwritten", "gemm_mma_kernel<T, true>"), ("gemm_handwritten", "gemm_mma_kernel<T, false>")]
    kernels = [cubin.Kernel(f"kernels/cuda/{source}.cu", "sm_80", name, name=name,
                            opcodes={opcode: 4 for opcode in wanted})
               for (source, name), (_, wanted) in zip(names, audit_cuda.EXPECTED)]
    kernels[0].__dict__.update(changes)
    return kernels


def problems_of(function, *arguments):
    checks = audit_cuda.Checks()
    function(checks, *arguments)
    return checks.problems


def rule_cases():
    """(what is tested, problems found, the word that exactly one of them must have; None: no problem)"""
    of_kernel = lambda **changes: problems_of(audit_cuda.check_kernel, kernel(**changes), True)
    of_launch = lambda launches, **changes: problems_of(audit_cuda.check_launches, [kernel(**changes)], launches)
    of_code = lambda kernels: problems_of(audit_cuda.check_opcodes, kernels)
    limit = audit_cuda.ARCHS["sm_80"].shared_limit
    return [
        ("clean kernel", of_kernel(), None),
        ("spill", of_kernel(spills=8), "8 bytes spilled"),
        ("stack frame", of_kernel(stack=16), "stack frame of 16"),
        ("no bounds", of_kernel(threads=0), "no __launch_bounds__"),
        ("registers at the limit", of_kernel(registers=64, threads=1024), None),
        ("too many registers", of_kernel(registers=65, threads=1024), "1024 threads of 72"),
        ("local load", of_kernel(opcodes={"LDL": 1}), "LDL"),
        ("local store", of_kernel(opcodes={"STL": 1}), "STL"),
        ("clean launch", of_launch({"sum_kernel<4>": [launch()]}), None),
        ("block beyond its bounds", of_launch({"sum_kernel<4>": [launch(largest_block=512)]}), "a block of 512"),
        ("shared memory at the limit", of_launch({"sum_kernel<4>": [launch(dynamic_shared=limit - 64)]}), None),
        ("too much shared memory", of_launch({"sum_kernel<4>": [launch(dynamic_shared=limit - 63)]}), "shared memory"),
        ("unknown launch", of_launch({"other_kernel": [launch()]}), "nvcc did not make"),
        ("expected opcodes", of_code(expected_kernels()), None),
        ("tensor cores lost", of_code(expected_kernels(opcodes={"LDGSTS": 1, "LDSM": 1})), "HMMA"),
        ("cp.async lost", of_code(expected_kernels(opcodes={"HMMA": 1, "LDSM": 1})), "LDGSTS"),
        ("ldmatrix lost", of_code(expected_kernels(opcodes={"HMMA": 1, "LDGSTS": 1})), "LDSM"),
        ("unlisted tensor cores", of_code(expected_kernels() + [kernel(opcodes={"HMMA": 1})]), "says none"),
        ("stale expectation", of_code(expected_kernels()[1:]), "no kernel is called"),
    ]


def reader_cases():
    """(what is tested, found, wanted)"""
    log = cubin.read_log("a.cu", "sm_80", LOG.format(symbol=SYMBOL, stack=16, stores=8, registers=40))
    facts = [(k.symbol, k.registers, k.stack, k.spills, k.static_shared) for k in log]
    cubin.demangle(log)
    opcodes = cubin.read_sass(SASS.format(symbol=SYMBOL, opcode="HMMA"))
    arch = audit_cuda.ARCHS["sm_80"]
    return [
        ("compiler log", facts, [(SYMBOL, 40, 16, 8, 64)]),
        ("names", [k.name for k in log], ["sum_kernel<4>"]),
        ("parameters inside <>", cubin.short_name("void trident::cuda::f<(trident::cuda::R)1>(int)"), "f<(R)1>"),
        ("launch bounds", cubin.read_elf(ELF.format(symbol=SYMBOL)), {SYMBOL: 512}),
        ("opcodes", {symbol: dict(found) for symbol, found in opcodes.items()}, {SYMBOL: {"HMMA": 1}}),
        ("columns, worst launch", audit_cuda.traffic_columns([launch(), launch(sectors=80, conflicts=3)], arch)[:3],
         ["2.00", "50 %", "3"]),
        ("roofline, memory", round(audit_cuda.estimate(launch(sectors=1555e9 / 32, mma=1), arch), 9), 1.0),
        ("roofline, tensor cores", round(audit_cuda.estimate(launch(mma=312e12 / 4096), arch), 9), 1.0),
    ]


def compile_problems(script):
    """What Compiler says of an nvcc that is this shell script, and how often two runs over one source call it."""
    with tempfile.TemporaryDirectory() as directory:
        root = pathlib.Path(directory)
        (root / "a.cu").write_text("")
        nvcc = root / "nvcc"
        nvcc.write_text("#!/bin/sh\n" + script)
        nvcc.chmod(0o755)
        for _ in range(2):
            compiler = cubin.Compiler(root, str(nvcc), "")
            compiler.compiled = 0
            compiler.kernels([("a.cu", "sm_80", True)])
        return compiler.problems, compiler.compiled


def compiler_cases():
    made = "for last; do [ \"$before\" != -o ] || : >\"$last\"; before=$last; done\n"
    clean, again = compile_problems(made)
    failed, _ = compile_problems("echo 'a.cu(1): error: no'; exit 2\n")
    warned, _ = compile_problems(made + "echo 'ptxas warning : a local array'\n")
    return [
        ("nvcc that succeeds is run once", (clean, again), ([], 0)),
        ("nvcc that fails", ["error: no" in problem for problem in failed], [True]),
        ("nvcc that warns", ["a local array" in problem for problem in warned], [True]),
    ]


def main():
    wrong, count = 0, 0
    for name, problems, word in rule_cases():
        count += 1
        if (word is None and problems) or (word is not None and (len(problems) != 1 or word not in problems[0])):
            wrong += 1
            print(f"self-test, {name}: expected {word or 'no problem'}, found {problems}")
    for name, found, wanted in reader_cases() + compiler_cases():
        count += 1
        if found != wanted:
            wrong += 1
            print(f"self-test, {name}: expected {wanted}, found {found}")
    print(f"audit_cuda self-test: {count - wrong} cases passed, {wrong} failed")
    return 1 if wrong else 0
