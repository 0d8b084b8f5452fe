"""Volume → Slab → grid → batch."""
