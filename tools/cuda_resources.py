#!/usr/bin/env python3
"""Compiles every CUDA kernel for the shipped architectures, and holds what ptxas says against a table.

The table (tests/cuda/resources.json) has registers, stack, spills and static shared memory of every kernel. Needs nvcc
and c++filt, no GPU.

    tools/cuda_resources.py                  # a new spill, a larger stack, 10 % more registers: exit 1
    tools/cuda_resources.py --arch 90        # one, while developing
    tools/cuda_resources.py nms --arch 90    # only files with "nms" in their path
    tools/cuda_resources.py --update         # writes the table for what was compiled
    tools/cuda_resources.py --ran FILE       # also: kernels that no test has run (FILE is LEYOLO_SHIM_RECORD's)
    tools/cuda_resources.py --link ARCHIVE   # also: links nvcc's objects with the CPU's part of a shim's archive and
                                             # loads it: finds symbols that nobody defines
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "tests" / "cuda" / "resources.json"
ARCHITECTURES = ["80", "86", "89", "90", "100", "120"]


class Use(NamedTuple):
    registers: int
    stack: int
    spill_stores: int
    spill_loads: int
    shared: int


Kernels = dict[str, dict[str, Use]]  # name -> architecture -> what it uses


def sources() -> list[Path]:
    return sorted([*ROOT.glob("csrc/core/*.cu"), *ROOT.glob("csrc/ops/*/*.cu")])


def known_files(table: dict[str, Kernels]) -> set[str]:
    return {str(path.relative_to(ROOT / "csrc")) for path in sources()} & table.keys()


def demangle(names: list[str]) -> list[str]:
    result = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True)
    return result.stdout.splitlines()


def short(name: str) -> str:
    """``void leyolo::(anonymous namespace)::kernel<(leyolo::Kind)1, float>(float*)`` -> ``kernel<(Kind)1, float>``."""
    name = re.sub(r"^void ", "", name.replace("(anonymous namespace)::", "").replace("leyolo::", ""))
    depth = 0
    for i, c in enumerate(name):
        depth += (c == "<") - (c == ">")
        if c == "(" and depth == 0:
            return name[:i]
    return name


def parse(said: str) -> Kernels:
    """The kernels of ``ptxas -v``."""
    found: list[tuple[str, str, Use]] = []
    for part in re.split(r"ptxas info\s*: Compiling entry function ", said)[1:]:
        head = re.match(r"'(\w+)' for 'sm_(\d+)a?'", part)
        assert head, part
        own = part[part.find(f"Function properties for {head[1]}") :]
        stack = re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", own)
        used = re.search(r"Used (\d+) registers.*", own)
        assert stack, part
        assert used, part
        shared = re.search(r"(\d+) bytes smem", used[0])
        use = Use(int(used[1]), int(stack[1]), int(stack[2]), int(stack[3]), int(shared[1]) if shared else 0)
        found.append((head[1], head[2], use))
    kernels: Kernels = {}
    for name, (_, arch, use) in zip(demangle([f[0] for f in found]), found, strict=True):
        kernels.setdefault(short(name), {})[arch] = use
    return kernels


def compile_one(path: Path, architectures: list[str], objects: Path | None) -> Kernels:
    """With a folder for ``objects``, the host's half, too."""
    target = (
        ["-c", "-Xcompiler", "-fPIC", "-o", f"{objects / path.name}.o"] if objects else ["-fatbin", "-o", os.devnull]
    )
    command = ["nvcc", "-std=c++20", "-Icsrc", "-DLEYOLO_WITH_CUDA", "--expt-relaxed-constexpr", *target]
    command += ["-Xptxas", "-v", "-Werror", "all-warnings", str(path.relative_to(ROOT))]
    for arch in architectures:
        code = f"[sm_{arch},compute_{arch}]" if arch == ARCHITECTURES[-1] else f"sm_{arch}"
        command += ["-gencode", f"arch=compute_{arch},code={code}"]
    if path.name.endswith(".exact.cu"):
        command.append("--fmad=false")
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if result.returncode:
        raise SystemExit(f"{path.relative_to(ROOT)} does not compile:\n{result.stderr}")
    return parse(result.stderr)


def link(objects: Path, archive: Path) -> list[str]:
    """What is missing from a library of these objects and of the CPU's in ``archive``."""
    members = subprocess.run(["ar", "t", str(archive)], capture_output=True, text=True, check=True).stdout.split()
    cpu = [name for name in members if not name.endswith(".cu.o") and name != "cuda_shim.cpp.o"]
    subprocess.run(["ar", "x", str(archive.resolve()), *cpu], cwd=objects, check=True)
    library = objects / "libkernels.so"
    command = ["nvcc", "-shared", "-cudart", "static", "-Xlinker", "-z,defs", "-o", str(library)]
    result = subprocess.run([*command, *map(str, objects.glob("*.o"))], capture_output=True, text=True, check=False)
    if result.returncode:
        return [line for line in result.stderr.splitlines() if "undefined" in line] or result.stderr.splitlines()
    ctypes.CDLL(str(library), mode=os.RTLD_NOW)
    print(f"{len(list(objects.glob('*.o')))} objects link, and the library loads")
    return []


def nvcc_version() -> str:
    said = subprocess.run(["nvcc", "--version"], capture_output=True, text=True, check=True).stdout
    match = re.search(r"release ([\d.]+)", said)
    return match[1] if match else "unknown"


def read_table(path: Path) -> tuple[str, dict[str, Kernels]]:
    data: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"nvcc": "", "kernels": {}}
    files = {
        file: {
            name: {arch: Use(*use) for group, use in by_arch.items() for arch in group.split()}
            for name, by_arch in kernels.items()
        }
        for file, kernels in data["kernels"].items()
    }
    return data["nvcc"], files


def write_table(path: Path, version: str, files: dict[str, Kernels]) -> None:
    """One line for a kernel; architectures that use the same share an entry."""
    parts = []
    for file in sorted(files):
        lines = []
        for name in sorted(files[file]):
            groups: dict[Use, list[str]] = {}
            for arch in ARCHITECTURES:
                if arch in files[file][name]:
                    groups.setdefault(files[file][name][arch], []).append(arch)
            entry = json.dumps({" ".join(archs): list(use) for use, archs in groups.items()})
            lines.append(f"      {json.dumps(name)}: {entry}")
        parts.append(f"    {json.dumps(file)}: {{\n" + ",\n".join(lines) + "\n    }")
    fields = json.dumps(list(Use._fields))
    body = ",\n".join(parts)
    path.write_text(f'{{\n  "nvcc": "{version}",\n  "fields": {fields},\n  "kernels": {{\n{body}\n  }}\n}}\n')


def compare(file: str, now: Kernels, before: Kernels) -> list[str]:
    """What got worse, in words."""
    worse = []
    for name, by_arch in now.items():
        for arch, use in by_arch.items():
            where = f"{file}: {name}, sm_{arch}"
            old = before.get(name, {}).get(arch)
            if old is None and before.get(name):
                continue  # an architecture whose figures nobody has written down
            if old is None:
                worse.append(f"{where}: not in the table; {use}")
                continue
            if use.registers > 1.1 * old.registers:
                worse.append(f"{where}: {use.registers} registers, were {old.registers}")
            for field in ("stack", "spill_stores", "spill_loads", "shared"):
                if getattr(use, field) > getattr(old, field):
                    worse.append(f"{where}: {getattr(use, field)} bytes {field}, were {getattr(old, field)}")
    worse += [f"{file}: {name}: in the table, but no longer in the code" for name in before.keys() - now.keys()]
    return worse


def ran_kernels(record: Path) -> set[str]:
    """Names, without template arguments, behind the lines "binary, address" that the shim has left."""
    addresses: dict[str, set[int]] = {}
    for line in record.read_text().splitlines():
        binary, address = line.split("\t")
        addresses.setdefault(binary, set()).add(int(address, 16))
    names = set()
    for binary, wanted in addresses.items():
        listing = subprocess.run(["nm", "-C", "--defined-only", binary], capture_output=True, text=True, check=True)
        for line in listing.stdout.splitlines():
            address, _, name = line.split(" ", 2)
            if int(address, 16) in wanted:
                names.add(re.sub(r"<.*", "", short(name)))
    return names


def not_run(files: dict[str, Kernels], names: set[str]) -> list[str]:
    known = {(file, re.sub(r"<.*", "", name)) for file, kernels in files.items() for name in kernels}
    return [f"{file}: {name} was run by no test" for file, name in sorted(known) if name not in names]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", help="parts of paths; none: all")
    parser.add_argument("--arch", nargs="+", default=ARCHITECTURES, choices=ARCHITECTURES, metavar="CC")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--update", action="store_true")
    parser.add_argument("--ran", type=Path)
    parser.add_argument("--link", type=Path, metavar="ARCHIVE")
    arguments = parser.parse_args()
    chosen = [p for p in sources() if not arguments.files or any(part in str(p) for part in arguments.files)]
    if arguments.link and arguments.files:
        parser.error("--link takes all files")
    missing: list[str] = []
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(arguments.jobs) as pool:
        objects = Path(folder) if arguments.link else None
        compiled = pool.map(lambda path: compile_one(path, arguments.arch, objects), chosen)
        files = {str(p.relative_to(ROOT / "csrc")): k for p, k in zip(chosen, compiled, strict=True)}
        if objects:
            missing = link(objects, arguments.link)
    total = sum(map(len, files.values()))
    version = nvcc_version()
    print(f"{total} kernels in {len(files)} files compile for sm_{', sm_'.join(arguments.arch)} (nvcc {version})")
    made_with, table = read_table(TABLE)
    if arguments.update:
        kept = {file: table[file] for file in known_files(table) - files.keys()}
        for file, kernels in files.items():
            for name, uses in kernels.items():
                kernels[name] = table.get(file, {}).get(name, {}) | uses
        write_table(TABLE, version, kept | files)
        print(f"wrote {TABLE.relative_to(ROOT)}")
        return 0
    worse = [line for file, kernels in files.items() for line in compare(file, kernels, table.get(file, {}))]
    gone = table.keys() - known_files(table)
    worse += [f"{file}: in the table, but there is no such file" for file in gone]
    lines = missing + (not_run(files, ran_kernels(arguments.ran)) if arguments.ran else [])
    if worse and made_with != version:
        print(f"the table was made with nvcc {made_with}, so these differences are no failure:")
        print("\n".join(worse))
    else:
        lines += worse
    for line in lines:
        print(line, file=sys.stderr)
    if lines:
        print("if that is meant: tools/cuda_resources.py --update, and say why in the commit", file=sys.stderr)
    else:
        print("registers, stack, spills and shared memory are as in the table")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
