"""Metrics and intervals, by patient."""
