"""What all tests share: one thread a process, as the tests themselves run side by side, and no device from outside."""

import os

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy, OpenCV or torch is imported, and for child processes
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # tests import it before seglab
os.environ.pop("SEGLAB_DEVICE", None)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    import cv2

    cv2.setNumThreads(1)
