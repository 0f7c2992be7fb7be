"""The virtual environment that holds llama.cpp, its model files, and what this machine is."""

import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

from peers.errors import BenchError
from peers.shapes import Shape

# The low-level API follows llama.cpp's and changes with it; llama_worker is written for this one.
LLAMA_CPP_PYTHON = "0.3.36"
PACKAGES = ["numpy", "gguf", f"llama-cpp-python=={LLAMA_CPP_PYTHON}"]
# -march=native, and no tools beyond the library.
CMAKE_ARGS = "-DGGML_NATIVE=ON -DCMAKE_BUILD_TYPE=Release -DLLAVA_BUILD=OFF"
# Where the processor has AMX, llama.cpp of this version with it ends in a segmentation fault at the first prompt with
# quantized matrices, on both families of models. It uses AMX for nothing else.
NO_AMX = "-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"
# What llama.cpp's report of itself must name when the processor has it.
CPU_FEATURES = {
    "avx2": "AVX2",
    "avx512f": "AVX512",
    "avx512_vnni": "AVX512_VNNI",
    "avx512_bf16": "AVX512_BF16",
}


def say(text: str) -> None:
    print(f"bench-peers: {text}", file=sys.stderr, flush=True)


class Environment:
    """A folder with venv/ and models/; made when first needed, reused afterwards."""

    def __init__(self, folder: Path):
        self._folder = folder.resolve()
        self._python = self._folder / "venv" / "bin" / "python"

    def prepare(self) -> None:
        """Makes the environment unless it is there; building llama.cpp takes many minutes."""
        if not self._has_packages():
            self._folder.mkdir(parents=True, exist_ok=True)
            self._install()

    def model_file(self, shape: Shape, file_format: str) -> Path:
        """The path of the shape's GGUF file in that format, written if it is not there."""
        path = self._folder / "models" / f"{shape.name}.{file_format}.gguf"
        if path.exists():
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        if file_format == "bf16":
            say(f"writing {path.name} with random weights ...")
            self._call("peers.model_file", "write", shape.name, str(path))
        else:
            source = self.model_file(shape, "bf16")
            say(f"having llama.cpp convert bf16 to {path.name} ...")
            self._call("peers.model_file", "quantize", str(source), file_format, str(path))
        return path

    def command(self, module: str, *arguments: str) -> tuple[list[str], dict[str, str]]:
        """The command line and the variables that run one of our modules in the environment."""
        variables = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
        return [str(self._python), "-m", module, *arguments], variables

    def _call(self, module: str, *arguments: str) -> None:
        command, variables = self.command(module, *arguments)
        done = subprocess.run(command, env=variables, capture_output=True, text=True)
        if done.returncode != 0:
            raise BenchError(f"{' '.join(arguments)} failed:\n{done.stderr.strip()[-2000:]}")

    def _has_packages(self) -> bool:
        if not self._python.exists():
            return False
        check = (
            "import gguf, numpy; from importlib.metadata import version;"
            f"assert version('llama-cpp-python') == '{LLAMA_CPP_PYTHON}'"
        )
        return subprocess.run([self._python, "-c", check], capture_output=True).returncode == 0

    def _install(self) -> None:
        log_path = self._folder / "pip.log"
        say(f"building llama.cpp with pip (10 to 20 minutes on two cores), log in {log_path} ...")
        started = time.monotonic()
        variables = {"CMAKE_ARGS": CMAKE_ARGS, "CMAKE_BUILD_PARALLEL_LEVEL": str(os.cpu_count())}
        if "amx_tile" in cpu_flags():
            variables |= {name: f"{os.environ.get(name, '')} {NO_AMX}".strip() for name in ("CFLAGS", "CXXFLAGS")}
        with open(log_path, "w") as log:
            steps = [
                [sys.executable, "-m", "venv", str(self._folder / "venv")],
                # From source: a ready-made wheel would not be built for this processor.
                [str(self._python), "-m", "pip", "install", "--verbose"]
                + ["--no-binary", "llama-cpp-python", *PACKAGES],
            ]
            for step in steps:
                done = subprocess.run(step, env=os.environ | variables, stdout=log, stderr=log)
                if done.returncode != 0:
                    raise BenchError(self._install_advice(log_path))
        say(f"llama.cpp is built, {time.monotonic() - started:.0f} s")

    @staticmethod
    def _install_advice(log_path: Path) -> str:
        tail = "\n".join(log_path.read_text(errors="replace").splitlines()[-15:])
        return (
            f"{tail}\n\nMaking the environment for llama.cpp failed (above: the end of {log_path})."
            "\nIt needs python3 with venv (Debian: python3-venv), a C++ compiler (g++), and pip"
            "\nreaching PyPI (pip's own settings apply: PIP_INDEX_URL, PIP_PROXY). Mend that and run"
            "\nthe same command again; `--peers molt` measures molt alone, without llama.cpp."
        )


def cpu_flags() -> set[str]:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            return set(line.split(":", 1)[1].split())
    return set()


def built_without_amx(system: str) -> bool:
    """Whether llama.cpp, by its report of itself, leaves out AMX that the processor has."""
    return "amx_tile" in cpu_flags() and "AMX_INT8 = 1" not in system


def check_native(system: str) -> None:
    """Refuses a llama.cpp that was built without what this processor offers: too easy a match."""
    flags = cpu_flags()
    missing = [
        name for flag, name in CPU_FEATURES.items() if flag in flags and f"{name} = 1" not in system
    ]
    if missing:
        raise BenchError(
            f"this llama.cpp was built without {', '.join(missing)}, which the processor has, so"
            " the comparison would flatter us. Remove the environment's venv folder and run again."
        )


def describe_machine() -> dict:
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "compiler": _first_line("c++", "--version"),
    }


def git_commit(folder: Path) -> str:
    """The commit of the source tree, with "+changes" when files differ from it."""
    commit = _first_line("git", "-C", str(folder), "rev-parse", "--short=12", "HEAD")
    changed = _first_line("git", "-C", str(folder), "status", "--porcelain", "-uno")
    return commit + "+changes" if changed and commit != "unknown" else commit


def _first_line(*command: str) -> str:
    if not shutil.which(command[0]):
        return "unknown"
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        return "unknown"
    return (done.stdout.splitlines() or [""])[0]
