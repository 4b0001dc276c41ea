"""Trains models that the prediction corridor runs unchanged. The only room that imports torch."""
