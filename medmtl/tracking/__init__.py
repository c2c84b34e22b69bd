"""Runs and models on record: the Tracker protocol and its one MLflow adapter."""
