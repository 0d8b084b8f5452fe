"""Stages and losses as a LightningModule; the rest is left to the trainer."""
