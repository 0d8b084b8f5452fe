"""Who is in the phantom cohort: labels, sizes, scanners and the phenotype that follows the genotype."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

DIAMETER_MM = (10.0, 26.0)
PAIR_SPREAD_MM = 0.2  # largest difference of diameter between the mutant and the wild-type patient of a pair
SLICES_MM = (1.0, 1.25, 1.5, 2.0, 2.5, 3.0)
KERNELS = ("soft", "sharp")
ORIENTATIONS = ("LPS", "RAS")
PULL = 0.38  # how far from one half, at signal 1, genotype moves the probability of a feature


@dataclass(frozen=True)
class Phenotype:
    """How a lesion looks: for each feature its strength, 0 where absent, else 0.5 to 1."""

    ground_glass: float
    spiculation: float
    lobulation: float
    air_bronchogram: float
    pleural_tag: float
    emphysema: float

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            if not (value == 0 or 0.5 <= value <= 1):
                raise ValueError(f"Phenotype: {entry.name} is {value}; needed is 0 (absent) or a strength of 0.5 to 1")


FEATURES = tuple(entry.name for entry in fields(Phenotype))
WILD_TYPE_FEATURES = ("emphysema",)  # the others are the mutants'


@dataclass(frozen=True)
class Scanner:
    """How a patient was scanned; never depends on the label.

    Args:
        pixel_mm: in-plane spacing.
        slice_mm: slice thickness, and distance.
        cover_mm: extent along z.
        noise_hu: standard deviation of the noise in the image.
        kernel: reconstruction kernel, "soft" or "sharp".
        orientation: where array axes x, y, z of the file run to, "LPS" or "RAS".
        table_mm: LPS position of the chest's centre in the scanner.
    """

    pixel_mm: float
    slice_mm: float
    cover_mm: float
    noise_hu: float
    kernel: str
    orientation: str
    table_mm: tuple[float, float, float]


@dataclass(frozen=True)
class Patient:
    """One patient of the cohort, drawn but not yet rendered.

    Args:
        index: from 1; with `seed` it fixes all that is random in this patient.
        seed: of the cohort.
        mutant: the label.
        diameter_mm: of the sphere with the lesion's volume.
        scanner: how the scan was made.
        phenotype: how the lesion looks.
    """

    index: int
    seed: int
    mutant: bool
    diameter_mm: float
    scanner: Scanner
    phenotype: Phenotype

    @property
    def name(self) -> str:
        return f"P{self.index:04d}"


def streams(seed: int, index: int) -> tuple[np.random.Generator, ...]:
    """Independent generators of one patient: scanner, phenotype, chest, lesion, noise.

    What is drawn for the phenotype, which alone knows the label, thus moves nothing else.
    """
    return tuple(np.random.default_rng([seed, index]).spawn(5))


def draw_patients(patients: int, seed: int, signal: float) -> tuple[Patient, ...]:
    """All patients of a cohort, in shuffled order; half of them (rounded down) mutant."""
    mutant, diameter_mm = draw_roster(patients, np.random.default_rng([seed, 0]))
    drawn = []
    for index in range(1, patients + 1):
        scanner, phenotype, *_ = streams(seed, index)
        is_mutant = bool(mutant[index - 1])
        looks = draw_phenotype(is_mutant, signal, phenotype)
        drawn.append(Patient(index, seed, is_mutant, float(diameter_mm[index - 1]), draw_scanner(scanner), looks))
    return tuple(drawn)


def draw_roster(patients: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Labels, bool (patient,), and diameters in mm, (patient,), matched in pairs of one mutant and one wild type."""
    low, high = DIAMETER_MM
    spread = PAIR_SPREAD_MM / 2
    pair_mm = rng.uniform(low + spread, high - spread, size=(patients + 1) // 2)
    diameter_mm = np.repeat(pair_mm, 2) + rng.uniform(-spread, spread, size=2 * len(pair_mm))
    order = rng.permutation(patients)  # of an odd number the last has no partner and is wild type
    return (np.arange(patients) % 2 == 1)[order], diameter_mm[:patients][order]


def draw_phenotype(mutant: bool, signal: float, rng: np.random.Generator) -> Phenotype:
    """Features of one lesion; each is there with probability 0.5 ± PULL signal, its strength ignores the label."""
    strength = {}
    for name in FEATURES:
        expected = mutant != (name in WILD_TYPE_FEATURES)
        chance, size = rng.uniform(), rng.uniform(0.5, 1.0)
        strength[name] = round(float(size), 3) if chance < 0.5 + (PULL if expected else -PULL) * signal else 0.0
    return Phenotype(**strength)


def draw_scanner(rng: np.random.Generator) -> Scanner:
    """A scanner and protocol."""
    return Scanner(
        pixel_mm=round(float(rng.uniform(1.0, 1.4)), 4),
        slice_mm=float(rng.choice(SLICES_MM)),
        cover_mm=float(rng.uniform(60.0, 70.0)),
        noise_hu=round(float(rng.uniform(8.0, 32.0)), 1),
        kernel=str(rng.choice(KERNELS)),
        orientation=str(rng.choice(ORIENTATIONS)),
        table_mm=tuple(np.round(rng.uniform((-15, -190, -400), (15, -140, 100)), 3).tolist()),
    )
