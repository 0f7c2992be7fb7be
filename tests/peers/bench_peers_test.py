#!/usr/bin/env python3
"""Tests of scripts/bench-peers that need neither llama.cpp nor molt.

Run: python3 tests/peers/bench_peers_test.py
"""

import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

from peers import environment, main  # noqa: E402
from peers.contenders import Molt, Rates, Workload  # noqa: E402
from peers.errors import BenchError  # noqa: E402
from peers.report import Case, Report  # noqa: E402
from peers.shapes import SHAPES  # noqa: E402

WORKLOAD = Workload(prefill=512, decode=128, prompt=32)


class ShapesTest(unittest.TestCase):
    def test_sizes_of_published_checkpoints(self):
        mamba = SHAPES["mamba-130m"]
        self.assertEqual(mamba.matrices["ssm_in"], (3072, 768))
        self.assertEqual(mamba.matrices["ssm_x"], (80, 1536))
        self.assertEqual(mamba.matrices["ssm_dt"], (1536, 48))
        mamba2 = SHAPES["mamba2-130m"]
        self.assertEqual((mamba2.conv_channels, mamba2.dt_rank), (1792, 24))
        self.assertEqual(mamba2.matrices["ssm_in"], (3352, 768))

    def test_every_name_tells_its_size(self):
        for name, shape in SHAPES.items():
            size = name.split("-")[1]
            millions = float(size[:-1]) * (1000 if size.endswith("b") else 1)
            weights = shape.layer_weights + shape.vocab * shape.d_model
            self.assertAlmostEqual(weights / 1e6 / millions, 1, delta=0.06, msg=name)


class CaseTest(unittest.TestCase):
    def test_ratio_is_taken_round_by_round(self):
        case = Case("mamba-130m", "bf16", 1)
        # The machine halves its speed for a round: both slow down, the ratio does not move.
        for speed in (1.0, 0.5, 1.0):
            case.rounds.append(
                {
                    "llama.cpp": Rates(prefill=100 * speed, decode=10 * speed),
                    "molt": Rates(prefill=300 * speed, decode=20 * speed),
                }
            )
        self.assertEqual(case.ratios("prefill"), [3.0, 3.0, 3.0])
        self.assertEqual(case.ratios("decode"), [2.0, 2.0, 2.0])
        self.assertEqual(case.rates("molt", "decode"), [20.0, 10.0, 20.0])

    def test_disturbed_when_the_processor_was_shared(self):
        for shares, disturbed in (([1.0, 0.97, 0.3], False), ([1.0, 0.5, 0.3], True), ([None], False)):
            rounds = [{"llama.cpp": Rates(1.0, 1.0, share)} for share in shares]
            self.assertEqual(Case("s", "bf16", 1, rounds=rounds).disturbed(), disturbed, shares)

    def test_no_ratio_without_both(self):
        case = Case("mamba-130m", "q8_0", 1, rounds=[{"llama.cpp": Rates(1.0, 2.0)}])
        self.assertEqual(case.ratios("prefill"), [])


class ReportTest(unittest.TestCase):
    def test_table_and_record(self):
        rounds = [
            {"llama.cpp": Rates(100.0, 10.0, 0.97), "molt": Rates(250.0, 15.0)},
            {"llama.cpp": Rates(110.0, 12.0, 1.0), "molt": Rates(220.0, 30.0)},
            {"llama.cpp": Rates(90.0, 11.0, 1.0), "molt": Rates(270.0, 11.0)},
        ]
        report = Report(
            date="2025-01-01T00:00+00:00",
            machine={"cpu": "Test CPU", "cores": 2, "kernel": "6.1", "compiler": "c++ 12"},
            peers={"llama.cpp": "llama.cpp 1", "molt": "molt 2"},
            workload=WORKLOAD,
            load_before=0.5,
            load_after=1.5,
            memory_read={1: 22e9},
            cases=[Case("mamba-130m", "bf16", 1, {"llama.cpp": 10**9, "molt": 5 * 10**8}, rounds)],
        )
        text = report.markdown()
        self.assertIn(
            "| mamba-130m | bf16 | 1 | prefill 512 | 100.0 (90.0 to 110.0)"
            " | 250.0 (220.0 to 270.0) | **2.50** (2.00 to 3.00) |",
            text,
        )
        self.assertIn("| **1.50** (1.00 to 2.50) |", text)
        self.assertIn("load average 0.50 before, 1.50 after", text)
        self.assertIn("| mamba-130m | bf16 | 1 | 1000 MB, 50% | 500 MB, 34% |", text)
        self.assertNotIn("disturbed", text)
        with tempfile.TemporaryDirectory() as folder:
            record = report.write(Path(folder) / "new" / "report.md")
            stored = json.loads(record.read_text())
        self.assertEqual(stored["cases"][0]["rounds"][1]["molt"]["decode"], 30.0)


class MoltTest(unittest.TestCase):
    """Against programs that stand in for molt."""

    def measure(self, script: str) -> Rates:
        with tempfile.TemporaryDirectory() as folder:
            program = Path(folder) / "molt"
            program.write_text("#!/bin/sh\n" + script)
            program.chmod(0o755)
            molt = Molt(program, ROOT, "bf16")
            molt.start(SHAPES["mamba2-130m"], "q8_0")
            rates = molt.measure(WORKLOAD, threads=2)
            self.step_bytes = molt.step_bytes
            return rates

    def test_command_and_result(self):
        expected = "bench --shape mamba2-130m --dtype int8 --state bf16 --prefill 512 --decode 128 --threads 2"
        rates = self.measure(
            f'case "$*" in "{expected} --repeat 1 --no-ceilings --json") ;; *) echo "got $*" >&2; exit 2;; esac\n'
            'echo \'{"results":[{"kind":"prefill","tokens_per_s":512.5},'
            '{"kind":"decode","tokens_per_s":64}],"weight_bytes":1000,"state_bytes":30}\'\n'
        )
        self.assertEqual(rates, Rates(512.5, 64.0))
        self.assertEqual(self.step_bytes, 1060)

    def test_failure_is_reported_with_its_reason(self):
        with self.assertRaisesRegex(BenchError, "no such shape"):
            self.measure("echo no such shape >&2; exit 2\n")

    def test_output_that_is_not_results_is_reported(self):
        for output in ("nothing", "{}", '{"results":[{"kind":"prefill","tokens_per_s":1}]}', "[]"):
            with self.assertRaisesRegex(BenchError, "did not print the results expected"):
                self.measure(f"echo '{output}'\n")


class NativeTest(unittest.TestCase):
    def test_a_build_without_the_processors_features_is_refused(self):
        flags = Path("/proc/cpuinfo").read_text().split()
        if "avx2" not in flags:
            self.skipTest("this processor has none of the features that are checked")
        with self.assertRaisesRegex(BenchError, "AVX2"):
            environment.check_native("SSE3 = 1")
        environment.check_native("".join(f"{f} = 1 | " for f in environment.CPU_FEATURES.values()))


class CommandLineTest(unittest.TestCase):
    def refused(self, *arguments: str) -> str:
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors), self.assertRaises(SystemExit) as stopped:
            main.parse(list(arguments))
        self.assertEqual(stopped.exception.code, 2)
        return errors.getvalue()

    def test_unknown_names_are_refused_with_the_known_ones(self):
        self.assertIn("mamba2-2.7b", self.refused("--shapes", "mamba-7b"))
        self.assertIn("q8_0", self.refused("--formats", "q9"))
        self.assertIn("molt", self.refused("--peers", "gold"))

    def test_bad_numbers_are_refused(self):
        for option in ("--rounds", "--prefill", "--decode", "--threads"):
            for value in ("0", "-1", "x", "1.5", ""):
                self.assertIn("whole number", self.refused(f"{option}={value}"))

    def test_lists(self):
        options = main.parse(["--threads", "4,1,4", "--shapes", "mamba2-130m, mamba-130m"])
        self.assertEqual(options.threads, [1, 4])
        self.assertEqual(options.shapes, ["mamba2-130m", "mamba-130m"])

    def test_no_molt_says_what_to_do(self):
        done = subprocess.run(
            [ROOT / "scripts" / "bench-peers", "--molt", "/nonexistent/molt"],
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        )
        self.assertEqual(done.returncode, 2)
        self.assertIn("--peers llama.cpp", done.stderr)
        self.assertNotIn("Traceback", done.stderr)


if __name__ == "__main__":
    unittest.main()
