"""Why the model answered so and whether to believe it: activation maps and quality flags."""
