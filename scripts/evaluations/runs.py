"""`molt eval` run over many settings, by several processes at once, and its results looked up.

A run that was stopped goes on where it was: everything lands in a journal in the work folder.
"""
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def add_options(parser):
    """The options of every script that evaluates."""
    parser.add_argument("--data", type=Path, required=True, help="folder with the tasks' data (docs/evaluation.md)")
    parser.add_argument("--work", type=Path, required=True, help="folder for what is computed; goes on from it")
    parser.add_argument("--molt", type=Path, default=ROOT / "build/release/bin/molt")
    parser.add_argument("--dtype", default="bf16", help="of the weight matrices (default: bf16)")
    parser.add_argument("--jobs", type=int, default=1,
                        help="processes at a time; on a machine with many cores, one a core with --threads 1")
    parser.add_argument("--threads", type=int, help="of each process")


def check_options(arguments):
    if not arguments.molt.exists():
        sys.exit(f"{arguments.molt}: not there; build it, or name it with --molt")
    arguments.work.mkdir(parents=True, exist_ok=True)


def with_cut(spec, cut):
    """A spec without its cut, at that cut; a schedule's file knows its own."""
    return spec if spec.endswith(".json") else f"{spec}{',' if ':' in spec else ':'}flops={cut:g}"


def run_all(commands):
    """Runs them at once; ends the script when one fails."""
    running = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for command in commands]
    codes = [process.wait() for process in running]
    for command, code in zip(commands, codes):
        if code != 0:
            sys.exit(f"exit code {code}: {' '.join(command)}")


def measure(arguments, model, task, specs, options):
    """A task's results, dense and reduced, as `molt eval --out` writes them."""
    out = arguments.work / f"{model.name}-{task}.json"
    command = [arguments.molt, "eval", model, "--tasks", task, "--data", arguments.data, "--dtype", arguments.dtype,
               "--resume", arguments.work / f"{model.name}.jsonl", *options]
    for spec in specs:
        command += ["--reduce", spec]
    if arguments.threads:
        command += ["--threads", arguments.threads]
    command = [str(part) for part in command]
    if arguments.jobs > 1:
        run_all([[*command, "--shard", f"{job + 1}/{arguments.jobs}"] for job in range(arguments.jobs)])
    run_all([[*command, "--out", str(out)]])
    return json.loads(out.read_text())


def group_of(result, name="all"):
    return next(group for group in result["tasks"][0]["groups"] if group["group"] == name)


def row_of(group, spec):
    """The row of a setting, or None."""
    return next((row for row in group["settings"] if row["setting"] == spec), None)


def row_at(group, spec, cut):
    """The row of a method at a cut; None where there is none, as of a schedule that was made for another cut."""
    row = row_of(group, with_cut(spec, cut))
    return row if row is not None and abs(row["cut_asked"] - cut) < 0.01 else None
