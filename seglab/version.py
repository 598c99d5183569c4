"""The version, in a file that a build can read without importing anything."""

__version__ = "0.1.0"
