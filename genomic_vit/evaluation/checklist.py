"""Items of CLAIM and TRIPOD+AI: filled where software can know the answer, left to the author where it cannot.

CLAIM: Mongan et al. 2020, doi 10.1148/ryai.2020200029. TRIPOD+AI: Collins et al. 2024, doi 10.1136/bmj-2023-078378.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

AUTHOR = "author"


class Item(NamedTuple):
    """One thing to report.

    Args:
        claim, tripod: numbers in the two lists, "" where a list has none.
        asks: what is asked, in short.
        answer: what the software knows, with {names} to fill in; AUTHOR where it cannot know.
    """

    claim: str
    tripod: str
    asks: str
    answer: str


ITEMS = (
    Item("1, 2", "1, 2", "title, structured abstract", AUTHOR),
    Item("3, 4", "3, 4", "background, intended use, inequalities, objectives", AUTHOR),
    Item("5", "5b", "prospective or retrospective, dates", AUTHOR),
    Item("6", "", "goal of the study", "{goal}"),
    Item("7, 8", "5a, 6", "sources, setting, eligibility, treatments", AUTHOR),
    Item("12, 40–42", "17, 18", "de-identification, ethics, registration, protocol, data and code, funding", AUTHOR),
    Item("9", "7", "preparation of the images", "{preparation}"),
    Item("10", "", "selection of data subsets", "All labelled, usable cases. Subgroups: {subgroups}."),
    Item("11", "9", "definition of what models see", "Arms in the table of arms; covariates: {covariates}."),
    Item("13", "11", "missing data", "{missing}"),
    Item("14–18", "8", "reference standard: definition, assessors, blinding, tools, variability", AUTHOR),
    Item("19", "10", "sample size: how it was reached", "{size} Why it suffices: author."),
    Item("20, 21", "12a", "partitions, and the level at which they are disjoint", "{partitions}"),
    Item("22", "12c, 22", "model, in full", "Settings below give every layer; source: {software}."),
    Item("23", "", "software and hardware", "{environment}"),
    Item("24", "", "initial weights", "{weights}"),
    Item("25, 26", "12b, 12c", "training, and how the final model is chosen",
         "{training} Epoch, threshold, calibration, scaling and imputation are chosen inside the training part."),
    Item("27", "", "ensembling", "{ensembling}"),
    Item("", "13", "class imbalance", "{imbalance}"),
    Item("", "16", "differences between the data learnt from and those tested on", "{differences}"),
    Item("", "14", "fairness", "Subgroup table where subgroups were named; what they mean: author."),
    Item("", "15, 12g", "output, how predictions are calculated, thresholds",
         "Probability after Platt calibration and a threshold of largest balanced accuracy, both from inner cases; "
         "predictions.csv."),
    Item("28, 29", "12e", "metrics, intervals, tests", "{statistics}"),
    Item("30", "12d", "robustness, heterogeneity over sites", "{robustness}"),
    Item("31", "", "explanation, and how it was checked", "{explanation}"),
    Item("32", "", "external data", "None in this comparison; python -m genomic_vit.evaluate scores another cohort."),
    Item("33", "20a", "flow of participants", "See flow of cases."),
    Item("34", "20b", "characteristics of the cohort", "See cohort, for declared columns; others: author."),
    Item("", "20c, 21", "participants and events in each analysis", "See cohort and results.csv."),
    Item("35, 36", "23", "performance with intervals", "See arms; every number in results.csv."),
    Item("37", "", "failure analysis", "Worst case by rule under heat examples; why it failed: author."),
    Item("", "24, 12f", "model updating", "None was done."),
    Item("", "19", "patient and public involvement", AUTHOR),
    Item("38, 39", "25–27", "limitations, implications, use", AUTHOR),
)  # fmt: skip


def fill(known: Mapping[str, str]) -> list[tuple[str, str, str, str]]:
    """(CLAIM, TRIPOD+AI, asks, answer) of every item."""
    return [
        (
            item.claim or "–",
            item.tripod or "–",
            item.asks,
            item.answer if item.answer == AUTHOR else item.answer.format(**known),
        )
        for item in ITEMS
    ]
