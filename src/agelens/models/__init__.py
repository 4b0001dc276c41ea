"""The model files that ship, listed in `models.json`."""
