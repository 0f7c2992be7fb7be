"""The command line of bench-peers and the order in which things run."""

import argparse
import datetime
import os
import subprocess
import sys
from pathlib import Path

from peers import memory
from peers.contenders import Contender, LlamaCpp, Molt, Workload
from peers.environment import Environment, describe_machine, say
from peers.errors import BenchError
from peers.report import Case, Report
from peers.shapes import SHAPES

ROOT = Path(__file__).resolve().parent.parent.parent
PEERS = ("llama.cpp", "molt")
FORMATS = ("bf16", "f16", "q8_0", "q4_k_m", "q4_0")

DESCRIPTION = """\
Measures molt beside llama.cpp on this machine's CPU, at the shapes of published
Mamba and Mamba-2 models with random weights: prefill and decode, tokens/s.

The first run builds llama.cpp with pip for this very processor (10 to 20 minutes
on two cores) and writes the model files; later runs reuse both. The peers take
turns round by round, so that what disturbs the machine disturbs both; the ratio
reported is the median of the rounds' ratios. For figures worth keeping, leave
the machine alone while it runs.
"""

EXAMPLES = """\
examples:
  scripts/bench-peers
      mamba-130m and mamba2-130m in bf16 at 1 thread and at all cores
  scripts/bench-peers --shapes mamba2-780m --rounds 3 --out docs/benchmarks/780m.md
      a larger model; writes 780m.md and, with every round, 780m.json
  scripts/bench-peers --formats bf16,q8_0,q4_k_m --state bf16
      also quantized weights, and molt's states in half the bytes
"""


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench-peers",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    cores = len(os.sched_getaffinity(0))
    add = parser.add_argument
    add("--shapes", default="mamba-130m,mamba2-130m", type=names_among(SHAPES), metavar="NAMES",
        help=f"comma-separated: {', '.join(SHAPES)} (default: mamba-130m,mamba2-130m)")
    add("--formats", default="bf16", type=names_among(FORMATS), metavar="NAMES",
        help="comma-separated formats of llama.cpp's matrices: bf16, and f16, q8_0, q4_k_m, q4_0,"
        " which llama.cpp itself converts from it; beside q8_0 molt runs int8, beside q4_k_m and"
        " q4_0 int4, beside f16 nothing (default: bf16)")
    add("--threads", default=sorted({1, cores}), type=positive_numbers, metavar="NUMBERS",
        help=f"comma-separated thread counts (default: 1 and all cores, here {cores})")
    add("--rounds", default=7, type=positive, help="measurements of each case (default: 7)")
    add("--prefill", default=512, type=positive, metavar="TOKENS",
        help="length of the prompt (default: 512)")
    add("--decode", default=128, type=positive, metavar="TOKENS",
        help="tokens decoded (default: 128)")
    add("--peers", default="llama.cpp,molt", type=names_among(PEERS), metavar="NAMES",
        help="who runs: llama.cpp, molt or both (default: both)")
    add("--molt", default=ROOT / "build/release/bin/molt", type=Path, metavar="PROGRAM",
        help="the molt to measure (default: build/release/bin/molt)")
    add("--work-dir", default=ROOT / "build/peers", type=Path, metavar="FOLDER",
        help="keeps llama.cpp and the model files between runs (default: build/peers)")
    add("--out", type=Path, metavar="FILE.md",
        help="also writes the report there and every round to FILE.json")
    add("--state", default="f32", choices=("f32", "bf16"),
        help="type of molt's SSM states; llama.cpp's are f32 (default: f32)")
    add("--no-ceiling", action="store_true", help="does not measure the memory-read ceiling")
    options = parser.parse_args(arguments)
    if options.out and options.out.suffix != ".md":
        parser.error(f"--out {options.out}: the report's name must end in .md")
    return options


def names_among(known):
    def parse_names(text: str) -> list[str]:
        names = [name.strip() for name in text.split(",")]
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"'{name}' is none of {', '.join(known)}")
        return list(dict.fromkeys(names))

    return parse_names


def positive(text: str) -> int:
    if not text.strip().isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of at least 1")
    return int(text)


def positive_numbers(text: str) -> list[int]:
    return sorted({positive(part) for part in text.split(",")})


def make_contenders(options: argparse.Namespace) -> list[Contender]:
    contenders: list[Contender] = []
    if "molt" in options.peers and not os.access(options.molt, os.X_OK):
        raise BenchError(
            f"there is no molt at {options.molt}; build it (cmake --preset release && cmake --build"
            " --preset release), name one with --molt, or measure llama.cpp alone with"
            " --peers llama.cpp"
        )
    if "llama.cpp" in options.peers:
        environment = Environment(options.work_dir)
        environment.prepare()
        contenders.append(LlamaCpp(environment))
    if "molt" in options.peers:
        contenders.append(Molt(options.molt, ROOT, options.state))
    return contenders


def measure_model(
    contenders: list[Contender], shape: str, file_format: str, options: argparse.Namespace
) -> list[Case]:
    """All thread counts of one model, in rounds in which the contenders take turns."""
    able = [contender for contender in contenders if contender.supports(file_format)]
    workload = Workload(options.prefill, options.decode, prompt=32)
    try:
        for contender in able:
            contender.start(SHAPES[shape], file_format)
        cases = [Case(shape, file_format, threads) for threads in options.threads]
        for number in range(options.rounds):
            turn = able if number % 2 == 0 else able[::-1]
            for case in cases:
                rates = {c.name: c.measure(workload, case.threads) for c in turn}
                case.rounds.append(rates)
                figures = "; ".join(
                    f"{c.name} {rates[c.name].prefill:.1f} and {rates[c.name].decode:.1f}"
                    for c in able
                )
                say(
                    f"{shape} {file_format}, round {number + 1} of {options.rounds},"
                    f" {case.threads} thread(s): {figures} tokens/s"
                )
        for case in cases:
            case.step_bytes = {contender.name: contender.step_bytes for contender in able}
        return cases
    finally:
        for contender in able:
            contender.stop()


def measure_ceilings(options: argparse.Namespace) -> dict[int, float]:
    return {} if options.no_ceiling else memory.read_rates(options.threads, options.work_dir)


def run(options: argparse.Namespace) -> None:
    contenders = make_contenders(options)
    for threads in options.threads:
        if threads > len(os.sched_getaffinity(0)):
            say(f"warning: {threads} threads are more than the cores there are")
    load_before = os.getloadavg()[0]
    ceilings = measure_ceilings(options)
    cases = []
    for shape in options.shapes:
        for file_format in options.formats:
            cases += measure_model(contenders, shape, file_format, options)
    for threads, rate in measure_ceilings(options).items():
        ceilings[threads] = max(rate, ceilings[threads])
    report = Report(
        date=datetime.datetime.now().astimezone().isoformat(timespec="minutes"),
        machine=describe_machine(),
        peers={contender.name: contender.describe() for contender in contenders},
        workload=Workload(options.prefill, options.decode, prompt=32),
        load_before=load_before,
        load_after=os.getloadavg()[0],
        memory_read=ceilings,
        cases=cases,
    )
    print(report.markdown(), end="")
    if options.out:
        record = report.write(options.out)
        say(f"wrote {options.out} and {record}")


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    try:
        run(options)
        return 0
    except BenchError as error:
        print(f"bench-peers: {error}", file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as error:
        print(f"bench-peers: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
