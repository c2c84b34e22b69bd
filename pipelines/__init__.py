"""The programs: `medmtl` on the command line and the recipes of the shipped models."""
