"""``python -m seglab`` is the same program as ``seglab`` (torchrun starts it this way)."""

from seglab.cli import program

if __name__ == "__main__":
    program()
