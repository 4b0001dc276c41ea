"""`python -m agelens.training.recipe`, which `make model` runs."""

from agelens.training.recipe.make import main

if __name__ == "__main__":
    main()
