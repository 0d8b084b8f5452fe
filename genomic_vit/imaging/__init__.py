"""Disk ⇄ Volume in patient space. Never torch."""
