"""`tutelage doctor`: what this machine has, what it lacks, and how to mend it. Takes about four seconds."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import click

from .output import only_json_on_stdout, print_result


@dataclass(frozen=True)
class Check:
    """One finding. remedy: what to do when it is not ok."""

    name: str
    status: Literal["ok", "warn", "fail"]
    found: str
    remedy: str | None = None


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout: {ok, checks}.")
def doctor(as_json: bool) -> int:
    """Check this machine: versions, memory, disk, speed. Exit code 1 when something must be mended first."""
    with only_json_on_stdout(as_json):
        checks = [_guarded(check) for check in CHECKS]
    ok = all(check.status != "fail" for check in checks)
    if as_json:
        print_result({"ok": ok, "checks": [asdict(check) for check in checks]}, as_json)
    else:
        for check in checks:
            print(f"{check.status:<5}{check.name:<14}{check.found}")
            if check.remedy:
                print(f"{'':<19}-> {check.remedy}")
    return 0 if ok else 1


def _guarded(check: Callable[[], Check]) -> Check:
    """A check that breaks is a finding, not the end of the examination."""
    try:
        return check()
    except Exception as error:
        return Check(check.__name__, "fail", f"{type(error).__name__}: {error}", "reinstall: pip install --force-reinstall tutelage")


def python() -> Check:
    found = sys.version.split()[0]
    return Check("python", "ok", found) if sys.version_info >= (3, 11) else Check("python", "fail", found, "install Python 3.11 or newer")


def torch_version() -> Check:
    return _package("torch", (2, 13))


def transformers_version() -> Check:
    return _package("transformers", (5, 16))


def _package(name: str, floor: tuple[int, int]) -> Check:
    remedy = f"pip install '{name}>={floor[0]}.{floor[1]}'"
    try:
        found = importlib.import_module(name).__version__
    except ImportError as error:
        return Check(name, "fail", f"cannot be imported ({error})", remedy)
    version = tuple(int(part) for part in re.findall(r"\d+", found)[:2])
    return Check(name, "ok", found) if version >= floor else Check(name, "fail", found, remedy)


def threads() -> Check:
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    used = torch.get_num_threads()
    found = f"{used} of {cores} cores used by torch"
    if used > cores:
        return Check("threads", "warn", found, f"more threads than cores is slow: export OMP_NUM_THREADS={cores}")
    return Check("threads", "ok", found)


def memory() -> Check:
    gigabytes = memory_bytes() / 1e9
    if gigabytes < 3:
        return Check("memory", "warn", f"{gigabytes:.1f} GB", "the demo needs 3 GB; close other programs or use a smaller preset")
    return Check("memory", "ok", f"{gigabytes:.1f} GB")


def memory_bytes() -> int:
    """Physical memory, or the container's limit where that is lower."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.is_file() else "max"
    return physical if text == "max" else min(physical, int(text))


def disk() -> Check:
    gigabytes = shutil.disk_usage(Path.cwd()).free / 1e9
    found = f"{gigabytes:.1f} GB free in {Path.cwd()}"
    return Check("disk", "ok", found) if gigabytes >= 2 else Check("disk", "warn", found, "checkpoints may not fit; free some space")


def write_speed() -> Check:
    megabytes, start = 32, time.perf_counter()
    try:
        with tempfile.NamedTemporaryFile(dir=Path.cwd(), prefix=".tutelage-doctor-") as file:
            file.write(os.urandom(megabytes * 1_000_000))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return Check("write", "fail", f"cannot write in {Path.cwd()} ({error.strerror})", "start from a folder you may write to")
    return Check("write", "ok", f"{megabytes / (time.perf_counter() - start):.0f} MB/s with fsync")


def gpu() -> Check:
    import torch

    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        return Check("gpu", "ok", f"{names}; use --device cuda")
    if torch.backends.mps.is_available():
        return Check("gpu", "ok", "Apple GPU; use --device mps")
    if Path("/dev/nvidia0").exists():
        return Check("gpu", "warn", "an NVIDIA GPU is here, but this torch cannot use it", "install a CUDA build of torch for its driver")
    return Check("gpu", "ok", "none; everything here runs on the CPU")


def extras() -> Check:
    """Optional groups of packages, as the installed package declares them."""
    if not _installed("tutelage"):
        return Check("extras", "warn", "tutelage runs from its source folder without being installed", "pip install --editable .")
    declared = importlib.metadata.metadata("tutelage").get_all("Provides-Extra") or []
    lacking = [extra for extra in declared if not all(map(_installed, _requirements_of(extra)))]
    found = f"{len(declared) - len(lacking)} of {len(declared)} optional groups installed" if declared else "none to install"
    return Check("extras", "ok", found + (f"; pip install 'tutelage[{','.join(lacking)}]' adds the others" if lacking else ""))


def _requirements_of(extra: str) -> list[str]:
    """Package names an extra asks for."""
    lines = importlib.metadata.requires("tutelage") or []
    return [re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in lines if re.search(rf"""extra == ['"]{re.escape(extra)}['"]""", line)]


def _installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def matmul_speed() -> Check:
    """Float32 matrix products of 512 x 512 for two seconds: 2·512³ operations each."""
    import torch

    a = torch.rand(512, 512)
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < 2:
        a @ a
        count += 1
    speed = count * 2 * 512**3 / (time.perf_counter() - start) / 1e9
    if speed < 20:
        return Check("matmul", "warn", f"{speed:.0f} GFLOP/s, which is slow", "see whether another program is using the cores")
    return Check("matmul", "ok", f"{speed:.0f} GFLOP/s in float32")


CHECKS = (python, torch_version, transformers_version, threads, memory, disk, write_speed, gpu, extras, matmul_speed)
