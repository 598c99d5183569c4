"""The parts of ``seglab fetch``: registry, ways to download, safe unpacking. Nothing else here uses the network."""
