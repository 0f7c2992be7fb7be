"""The two peers behind one interface: start on a model, measure, stop."""

import json
import subprocess
import tempfile
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from peers.environment import Environment, built_without_amx, check_native, git_commit
from peers.errors import BenchError
from peers.shapes import Shape

WARM_UP_TOKENS = 16


@dataclass(frozen=True)
class Workload:
    """What one measurement does: a prompt from a fresh state, then (apart) tokens one by one."""

    prefill: int
    decode: int
    prompt: int  # the tokens before the timed decode


@dataclass(frozen=True)
class Rates:
    """Tokens per second of one measurement."""

    prefill: float
    decode: float
    cpu_share: float | None = None  # processor time got / (time * threads); under 1: disturbed


class Contender(ABC):
    name: str

    @abstractmethod
    def supports(self, file_format: str) -> bool:
        """Whether it can run models whose matrices are in that format."""

    @abstractmethod
    def start(self, shape: Shape, file_format: str) -> None:
        """Makes ready to measure that model, until the next start or stop."""

    @abstractmethod
    def measure(self, workload: Workload, threads: int) -> Rates:
        """One measurement, nothing repeated."""

    @abstractmethod
    def stop(self) -> None:
        """Frees what start took; harmless when nothing was started."""

    @abstractmethod
    def describe(self) -> str:
        """Name and version for the report; valid once a measurement has run."""

    @property
    @abstractmethod
    def step_bytes(self) -> int | None:
        """Bytes that decoding a token moves: every weight once, the states read and written; None
        where that is not known before a measurement has run."""


class LlamaCpp(Contender):
    """llama.cpp in a process of its own that keeps the model and takes commands over a pipe."""

    name = "llama.cpp"

    def __init__(self, environment: Environment):
        self._environment = environment
        self._process: subprocess.Popen | None = None
        self._errors = tempfile.TemporaryFile(mode="w+")  # unlike a pipe, it is never full
        self._warm: set[int] = set()
        self._info: dict = {}
        self._state_bytes = 0

    def supports(self, file_format: str) -> bool:
        return True

    def start(self, shape: Shape, file_format: str) -> None:
        self.stop()
        self._state_bytes = shape.state_bytes
        path = self._environment.model_file(shape, file_format)
        command, variables = self._environment.command("peers.llama_worker", str(path))
        self._process = subprocess.Popen(
            command,
            env=variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self._info = self._ask("info")
        check_native(self._info["system"])

    def measure(self, workload: Workload, threads: int) -> Rates:
        if threads not in self._warm:
            self._ask(f"prefill {workload.prefill} {threads}")
            self._ask(f"decode {WARM_UP_TOKENS} {threads} {workload.prompt}")
            self._warm.add(threads)
        prefill = self._ask(f"prefill {workload.prefill} {threads}")
        decode = self._ask(f"decode {workload.decode} {threads} {workload.prompt}")
        share = min(run["cpu_seconds"] / run["seconds"] / threads for run in (prefill, decode))
        return Rates(prefill["tokens_per_s"], decode["tokens_per_s"], share)

    def stop(self) -> None:
        if self._process:
            self._process.stdin.close()
            self._process.stdout.close()
            self._process.wait()
        self._process = None
        self._warm = set()

    def describe(self) -> str:
        system = self._info["system"]
        without = (
            ", without AMX, with which this version ends in a segmentation fault on quantized matrices"
            if built_without_amx(system)
            else ""
        )
        return (
            f"llama.cpp as packaged in llama-cpp-python {self._info['version']}, built on this"
            f" machine ({system.strip(' |')}){without}"
        )

    @property
    def step_bytes(self) -> int | None:
        """With llama.cpp's own count of its weights; its states are in f32."""
        return self._info["model_bytes"] + 2 * self._state_bytes

    def _ask(self, command: str) -> dict:
        try:
            self._process.stdin.write(command + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended; what it said on the way out is read below
        answer = self._process.stdout.readline()
        if not answer:
            code = self._process.wait()
            self._errors.seek(0)
            raise BenchError(
                f"llama.cpp's process ended at '{command}' (code {code}):\n"
                + self._errors.read().strip()[-2000:]
            )
        return json.loads(answer)


class Molt(Contender):
    """molt, by one `molt bench` a measurement."""

    name = "molt"
    # llama.cpp's file format -> molt's nearest.
    DTYPES = {"bf16": "bf16", "q8_0": "int8", "q4_k_m": "int4", "q4_0": "int4"}

    def __init__(self, program: Path, source: Path, state: str):
        self._program = program
        self._source = source
        self._state = state
        self._model: list[str] = []
        self._step_bytes: int | None = None

    def supports(self, file_format: str) -> bool:
        return file_format in self.DTYPES

    def start(self, shape: Shape, file_format: str) -> None:
        self._model = ["--shape", shape.name, "--dtype", self.DTYPES[file_format]]
        self._model += ["--state", self._state]
        self._step_bytes = None

    def measure(self, workload: Workload, threads: int) -> Rates:
        command = [str(self._program), "bench", *self._model]
        command += ["--prefill", str(workload.prefill), "--decode", str(workload.decode)]
        command += ["--threads", str(threads), "--repeat", "1", "--no-ceilings", "--json"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise BenchError(f"'{' '.join(command)}' failed:\n{done.stderr.strip()[-2000:]}")
        try:
            report = json.loads(done.stdout)
            rates = {run["kind"]: run["tokens_per_s"] for run in report["results"]}
            self._step_bytes = report["weight_bytes"] + 2 * report["state_bytes"]
            return Rates(float(rates["prefill"]), float(rates["decode"]))
        except (ValueError, KeyError, TypeError) as error:
            raise BenchError(
                f"'{' '.join(command)}' did not print the results expected ({error!r}):\n"
                + done.stdout[:500]
            ) from error

    def stop(self) -> None:
        self._model = []

    def describe(self) -> str:
        return f"molt, commit {git_commit(self._source)}, SSM states in {self._state}"

    @property
    def step_bytes(self) -> int | None:
        return self._step_bytes
