"""Scripts that run inside the environments of rivals; they import nothing of medmtl.

`python -m benchmarks.peers` makes the environments (6 GB and some minutes).
"""
