"""Task losses to one update: a thin table over torchjd, and the few methods it lacks."""
