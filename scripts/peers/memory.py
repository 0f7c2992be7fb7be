"""The memory-read ceiling: what a decode, which reads every weight once a token, cannot pass."""

import shutil
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("memory_read.c")


def read_rates(thread_counts: list[int], folder: Path) -> dict[int, float]:
    """Bytes per second by thread count; empty when there is no C compiler to build the probe."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        return {}
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "memory_read"
    flags = ["-std=c11", "-D_GNU_SOURCE", "-O3", "-march=native", "-pthread"]
    subprocess.run([compiler, *flags, str(SOURCE), "-o", str(program)], check=True)
    rates = {}
    for threads in thread_counts:
        done = subprocess.run(
            [str(program), str(threads)], check=True, capture_output=True, text=True
        )
        rates[threads] = float(done.stdout)
    return rates
