"""Who is in, with which label, in which fold. Never torch."""
