"""`python -m agelens` is the command `agelens`."""

from agelens.cli import main

if __name__ == "__main__":
    main()
