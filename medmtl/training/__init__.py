"""Training: a loop on one screen and what the recipes share."""
