"""How the models that ship are made: courses in which networks learn from those before them, as data and as code.

`agelens train` needs nothing of it; `make model` runs `python -m agelens.training.recipe`.
"""
