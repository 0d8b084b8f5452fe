"""Vessels and airways of a phantom: trees that reach every part of a lung from its hilum."""

from __future__ import annotations

import numpy as np

from genomic_vit.cohort.phantom_anatomy import BLOOD
from genomic_vit.cohort.phantom_canvas import Canvas, paint, tube

TREES, TWIGS = 2, 130  # trees (arteries, veins) a lung, twigs a tree
TWIG_MM, MURRAY = 0.62, 2.7  # radius of the last twig; parent^e = sum of children^e


def paint_vessels(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paint vessel trees into both lungs and the trachea with its main bronchi into the mediastinum."""
    for side in (-1, 1):
        hilum_mm = np.array([side * 34.0, rng.uniform(-4, 8), rng.uniform(-25, 25)])
        for _ in range(TREES):
            nodes_mm = _lung_points(canvas, side, rng)
            if len(nodes_mm):
                _paint_tree(canvas, hilum_mm + rng.normal(0, 4, 3), nodes_mm)
    _paint_airways(canvas, rng)


def _lung_points(canvas: Canvas, side: int, rng: np.random.Generator) -> np.ndarray:
    """Random points (twig 3) in the lung of one side (-1 right, 1 left), a few mm below the pleura."""
    pick = [rng.integers(0, size, size=24 * TWIGS) for size in canvas.hu.shape]
    depth_mm = canvas.lung_mm[tuple(pick)]
    x = canvas.x_mm[pick[2]]
    points = np.stack([x, canvas.y_mm[pick[1]], canvas.z_mm[pick[0]]], axis=1)
    return points[(depth_mm > 4) & (x * side > 0)][:TWIGS].astype(float)


def _paint_tree(canvas: Canvas, hilum_mm: np.ndarray, nodes_mm: np.ndarray) -> None:
    """Join each point to the nearest one nearer the hilum, and let radii add up towards it."""
    nodes_mm = nodes_mm[np.argsort(np.linalg.norm(nodes_mm - hilum_mm, axis=1))]
    nodes_mm = np.concatenate([hilum_mm[None], nodes_mm])
    parent, path_mm = np.zeros(len(nodes_mm), dtype=int), np.zeros(len(nodes_mm))
    for node in range(1, len(nodes_mm)):
        reach_mm = np.linalg.norm(nodes_mm[:node] - nodes_mm[node], axis=1)
        parent[node] = np.argmin(reach_mm + 0.35 * path_mm[:node])  # the path keeps branches running outwards
        path_mm[node] = path_mm[parent[node]] + reach_mm[parent[node]]
    flow = np.ones(len(nodes_mm))
    for node in range(len(nodes_mm) - 1, 0, -1):
        flow[parent[node]] += flow[node]
    radius_mm = TWIG_MM * np.minimum(flow, 150) ** (1 / MURRAY)
    for node in range(1, len(nodes_mm)):
        near_mm = min(radius_mm[parent[node]], 1.25 * radius_mm[node])
        box, coverage = tube(canvas, nodes_mm[parent[node]], nodes_mm[node], (near_mm, radius_mm[node]))
        paint(canvas, box, coverage, BLOOD - 10, np.maximum)


def _paint_airways(canvas: Canvas, rng: np.random.Generator) -> None:
    """Trachea and main bronchi; all walls before all lumens, so that they open into one another."""
    carina = np.array([-2.0, 4.0, rng.uniform(-10, 45)])
    courses = [(carina + np.array([0, -4, 80]), 8.0)]
    courses += [(carina + np.array([side * 42, 6, -rng.uniform(25, 45)]), 5.5) for side in (-1, 1)]
    for wall_mm, hu in ((1.5, 20.0), (0.0, -980.0)):
        for end_mm, radius_mm in courses:
            box, coverage = tube(canvas, carina, end_mm, (radius_mm + wall_mm, 0.8 * radius_mm + wall_mm))
            paint(canvas, box, coverage, hu)
