"""The nouns of medmtl. NumPy and the standard library only; every other package may import it."""
