"""Manifests and inputs: from files on a disk to the studies and samples that a program works on."""
