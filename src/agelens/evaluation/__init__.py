"""Measures models by the field's protocols. Knows the prediction corridor and the data sets, never torch."""
