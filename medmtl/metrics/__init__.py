"""How good an answer is: thin over MONAI and scikit-learn; unknown truth enters no metric.

Rules that hold everywhere:
    - Both masks empty: no Dice and no distance (None), so easy absences do not lift a mean.
    - One mask empty, the other not: Dice 0, no distance, and the segment counts as `missed`.
    - A finding whose truth is unknown enters no number; a class with one truth value has no AUROC.
    - Intervals resample patients, never volumes (`intervals.py`).
"""
