"""From measurements to medians and ratios, a Markdown table and a JSON record."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

from peers.contenders import Rates, Workload

KINDS = ("prefill", "decode")
# Below this share of the processor time asked for, a measurement says more of the others running.
UNDISTURBED = 0.95


@dataclass
class Case:
    """One model at one thread count, measured in rounds; rounds[i] maps a peer's name to Rates."""

    shape: str
    file_format: str
    threads: int
    step_bytes: dict[str, int | None] = field(default_factory=dict)  # a peer's name: a token's
    rounds: list[dict[str, Rates]] = field(default_factory=list)

    def rates(self, peer: str, kind: str) -> list[float]:
        return [getattr(by_peer[peer], kind) for by_peer in self.rounds if peer in by_peer]

    def ratios(self, kind: str) -> list[float]:
        """molt / llama.cpp round by round: what disturbs a round disturbs both sides of it."""
        return [
            getattr(by_peer["molt"], kind) / getattr(by_peer["llama.cpp"], kind)
            for by_peer in self.rounds
            if {"molt", "llama.cpp"} <= by_peer.keys()
        ]

    def cpu_shares(self) -> list[float]:
        """What share of the processor time asked for was got, where a peer can tell."""
        return [
            rates.cpu_share
            for by_peer in self.rounds
            for rates in by_peer.values()
            if rates.cpu_share is not None
        ]

    def disturbed(self) -> bool:
        return bool(shares := self.cpu_shares()) and median(shares) < UNDISTURBED


@dataclass
class Report:
    """All that one run of the benchmark found; loads are the 1-minute averages."""

    date: str
    machine: dict
    peers: dict[str, str]
    workload: Workload
    load_before: float
    load_after: float
    memory_read: dict[int, float]
    cases: list[Case]

    def markdown(self) -> str:
        return "\n".join([*self._heading(), "", *self._table(), "", *self._notes()]) + "\n"

    def write(self, path: Path) -> Path:
        """Writes PATH and, beside it, the same with every round as .json; returns the latter."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.markdown())
        record = path.with_suffix(".json")
        record.write_text(json.dumps(asdict(self), indent=1) + "\n")
        return record

    def _heading(self) -> list[str]:
        machine = self.machine
        ceilings = ", ".join(
            f"{rate / 1e9:.1f} GB/s ({threads} thread{'s' * (threads > 1)})"
            for threads, rate in self.memory_read.items()
        )
        lines = [
            "# molt beside llama.cpp",
            "",
            f"- {self.date}; {machine['cpu']}, {machine['cores']} cores; Linux {machine['kernel']};"
            f" {machine['compiler']}",
        ]
        lines += [f"- {description}" for description in self.peers.values()]
        if ceilings:
            lines.append(f"- memory read, measured in this run: {ceilings}")
        lines.append(f"- load average {self.load_before:.2f} before, {self.load_after:.2f} after")
        return lines

    def _table(self) -> list[str]:
        lines = [
            "| model | format | threads | test | llama.cpp, tokens/s | molt, tokens/s"
            " | molt / llama.cpp |",
            "|---|---|---|---|---|---|---|",
        ]
        tests = {
            "prefill": f"prefill {self.workload.prefill}",
            "decode": f"decode {self.workload.decode}",
        }
        for case in self.cases:
            for kind in KINDS:
                ratios = case.ratios(kind)
                cells = [
                    case.shape,
                    case.file_format,
                    str(case.threads) + " [disturbed]" * case.disturbed(),
                    tests[kind],
                    _spread(case.rates("llama.cpp", kind), 1),
                    _spread(case.rates("molt", kind), 1),
                    "**" + _spread(ratios, 2).replace(" ", "** ", 1) if ratios else "",
                ]
                lines.append("| " + " | ".join(cells) + " |")
        return lines

    def _notes(self) -> list[str]:
        rounds = max((len(case.rounds) for case in self.cases), default=0)
        lines = [
            f"Median (least to greatest) of {rounds} rounds, batch of one. Within a round the peers"
            " run one after the other, the first one alternating; the ratio is the median of the"
            " rounds' ratios. Random weights at published shapes, the same sizes on both sides."
            f" Prefill: a prompt of {self.workload.prefill} tokens from a fresh state, logits of the"
            f" last. Decode: {self.workload.decode} tokens, each with its logits, after a short"
            " prompt. Loading and sampling are not timed.",
        ]
        lines += self._decode_ceiling_notes()
        if any(case.disturbed() for case in self.cases):
            lines += [
                "",
                "[disturbed]: in half of the rounds or more llama.cpp got less than"
                f" {UNDISTURBED:.0%} of the processor time that it asked for, because something else"
                " was running. Threads that wait for each other suffer most: measure again.",
            ]
        return lines

    def _decode_ceiling_notes(self) -> list[str]:
        """What share of the memory-read ceiling each decode reaches."""
        lines = []
        for case in self.cases:
            ceiling = self.memory_read.get(case.threads)
            cells = []
            for peer in self.peers:
                rates, size = case.rates(peer, "decode"), case.step_bytes.get(peer)
                known = bool(ceiling and rates and size)
                cells.append(f"{size / 1e6:.0f} MB, {median(rates) * size / ceiling:.0%}" if known else "")
            if any(cells):
                cells = [case.shape, case.file_format, str(case.threads), *cells]
                lines.append("| " + " | ".join(cells) + " |")
        if not lines:
            return []
        head = [
            "",
            "Decoding a token reads every weight once and reads and writes the states. These bytes, and"
            " the share of the memory-read ceiling that they amount to (caches can lift it above 100%):",
            "",
            "| model | format | threads | " + " | ".join(self.peers) + " |",
            "|---|---|---|" + "---|" * len(self.peers),
        ]
        return head + lines


def _spread(values: list[float], digits: int) -> str:
    if not values:
        return ""
    middle, low, high = (f"{x:.{digits}f}" for x in (median(values), min(values), max(values)))
    return f"{middle} ({low} to {high})"
