"""A cohort for the benchmark's tests, in memory: small slabs whose lesion is bright where the label is 1."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from genomic_vit.cohort.labels import Covariate
from genomic_vit.cohort.manifest import Case, Cohort
from genomic_vit.config_tree import from_tree
from genomic_vit.data.prepare import Prepared
from genomic_vit.data.slab import Slab
from genomic_vit.evaluation.plan import BenchmarkConfig
from genomic_vit.imaging.geometry import Geometry

TILE_PX = 16
RUN = {
    "device": "cpu",
    "slab": {"tile_px": TILE_PX},
    "view": {"eval_flips": False},  # eight times the work: tests/test_inference.py has it
    "vit": {"patch_px": 8, "width": 16, "heads": 2, "depth": 2},
    "training": {"epochs": 1},
    "split": {"validation": 0.3},
}


@dataclass(frozen=True, eq=False)
class SlabInMemory(Slab):
    """A slab with what a prepared one tells beside its pixels."""

    notes: tuple[str, ...] = ()
    siblings: int = 1


def small_run(**changes):
    """A run config whose networks train in a second."""
    return from_tree(RUN | changes, "test")


def number(name, values):
    """A covariate of numbers."""
    return Covariate(name, "number", np.array([str(v) for v in values], dtype=object), np.asarray(values, dtype=float))


def category(name, values):
    """A covariate of texts."""
    return Covariate(name, "category", np.array(values, dtype=object), np.array(values, dtype=object))


def bright_cohort(patients=24, lesions=1, contrast_hu=300.0, seed=0, covariates=(), targets=("mutant",)):
    """Half of the patients are positive; contrast 0 plants nothing. `covariates` are given by case."""
    generator = np.random.default_rng(seed)
    cases, slabs, labels = [], [], []
    positive = generator.permutation(np.arange(patients) % 2)
    for patient in range(patients):
        for lesion in range(lesions):
            cases.append(
                Case(f"c{patient}-{lesion}", f"P{patient}", Path(f"scan{patient}"), Path(f"l{patient}-{lesion}"))
            )
            labels.append([float(positive[patient])] * len(targets))
            slabs.append(bright_slab(generator, positive[patient] * contrast_hu))
    return Prepared(Cohort(tuple(cases), targets, np.array(labels), tuple(covariates)), slabs, ())


def bright_slab(generator, contrast_hu):
    """Nine to twelve slices of structured noise with a ball in the middle."""
    slices = int(generator.integers(9, 13))
    shape = (slices, TILE_PX, TILE_PX)
    hu = generator.normal(-700, 120, shape)
    z, y, x = np.indices(shape) - (np.array(shape).reshape(3, 1, 1, 1) - 1) / 2
    radius = generator.uniform(3, 5)
    ball = z**2 + y**2 + x**2 <= radius**2
    hu[ball] += 400 + contrast_hu
    geometry = Geometry(shape, np.array([1.0, 1.0, 1.0]), np.zeros(3), np.eye(3))
    return SlabInMemory(hu.astype(np.float32), ball, geometry, float(2 * radius))


def with_covariates(patients=20, lesions=2):
    """A cohort with an age, a kernel, and two lesions a patient."""
    cases = patients * lesions
    age = np.repeat(np.random.default_rng(3).normal(60, 9, patients), lesions)
    kernel = np.repeat(np.array(["B30f", "B50f"] * (patients // 2)), lesions).tolist()
    assert len(age) == cases
    return bright_cohort(patients, lesions, covariates=(number("age", age), category("kernel", kernel)))


ARMS = ("joint", "cnn", "heat-zero", "swap-zero", "swap-shuffled", "clinical", "size")
PREPARED = with_covariates()
CONFIG = BenchmarkConfig(
    run=small_run(),
    arms=ARMS,
    folds=2,
    clinical=("age",),
    acquisition=("kernel",),
    subgroups=("kernel=B30f",),
    minimum=8,
)
