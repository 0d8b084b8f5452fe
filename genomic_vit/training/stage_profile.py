"""The parts of a stage's time as a table, and how near its arithmetic comes to what the device can do."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from genomic_vit.training.run_folder import write_csv

STEP = ("load", "augment", "vit", "rollout", "cnn", "loss", "backward", "optimizer")
BESIDE = ("average", "validation", "checkpoint", "other")
ARITHMETIC = ("vit", "rollout", "cnn", "loss", "backward")
COMPILED = ("vit", "rollout", "cnn")  # by training.compile they become one, called by what is booked as loss


@dataclass(frozen=True)
class StageProfile:
    """Where the time of one stage went.

    Args:
        seconds: by part.
        steps: batches learnt from.
        flops: of one step.
        peak: operations a second the device reached on one large product.
        kind: what the product was made of, such as float32 on a CPU.
        compiled: whether the parts of the network ran as one.
    """

    seconds: Counter[str]
    steps: int
    flops: int
    peak: float
    kind: str
    compiled: bool = False

    @property
    def parts(self) -> tuple[str, ...]:
        """Those that could be told apart."""
        return tuple(part for part in (*STEP, *BESIDE) if not (self.compiled and part in COMPILED))

    @property
    def arithmetic_s(self) -> float:
        return sum(self.seconds[part] for part in ARITHMETIC)

    @property
    def reached(self) -> float:
        """Operations a second."""
        return self.flops * self.steps / self.arithmetic_s

    def __str__(self) -> str:
        total, step = sum(self.seconds.values()), sum(self.seconds[part] for part in STEP)
        lines = [f"{self.steps} steps in {total:.1f} s, {1e3 * step / self.steps:.1f} ms a step"]
        lines += [f"  {'part':12s}{'ms a step':>12s}{'of the stage':>14s}"]
        for part in self.parts:
            lines.append(f"  {part:12s}{1e3 * self.seconds[part] / self.steps:12.2f}{self.seconds[part] / total:14.1%}")
        if self.compiled:
            lines.append(
                f"  compiled: {', '.join(COMPILED)} run as one and cannot be told apart; they are in loss. "
                "Compiling itself is in loss and backward."
            )
        lines.append(
            f"  arithmetic: {self.flops / 1e9:.2f} GFLOP a step, {self.reached / 1e9:.1f} GFLOP/s, "
            f"{self.reached / self.peak:.0%} of the {self.peak / 1e9:.0f} GFLOP/s of one large matrix product "
            f"({self.kind})"
        )
        return "\n".join(lines)

    def write(self, path: Path) -> None:
        """A CSV: part, seconds, ms a step, share of the stage's time.

        The last row, arithmetic, sums up the parts that are; it alone has GFLOP a step, GFLOP/s reached and of one
        large matrix product, and the share of the latter.
        """
        total = sum(self.seconds.values())

        def row(part: str, seconds: float) -> tuple[str, ...]:
            return part, f"{seconds:.4f}", f"{1e3 * seconds / self.steps:.3f}", f"{seconds / total:.4f}"

        rows = [(*row(part, self.seconds[part]), "", "", "", "") for part in self.parts]
        rates = (self.flops, self.reached, self.peak)
        share = f"{self.reached / self.peak:.4f}"
        rows.append((*row("arithmetic", self.arithmetic_s), *(f"{rate / 1e9:.4g}" for rate in rates), share))
        gflop = ("gflop_a_step", "gflop_a_s", "peak_gflop_a_s", "share_of_peak")
        write_csv(path, ("part", "seconds", "ms_a_step", "share", *gflop), rows)
