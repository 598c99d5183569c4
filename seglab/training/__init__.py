"""From a prepared dataset to a model bundle, in runs that survive."""

import os

# Threads that wait for each other sleep instead of spinning. Where anything else wants the processor, the threads that
# make batches to begin with, spinning makes a step many times slower. OpenMP reads this once, when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
