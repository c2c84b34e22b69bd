"""From studies to predictions: bundles, tiling, the predictor and the batch."""
