#!/usr/bin/env python3
"""Name the slowest tests of a JUnit report, and the files that cost most.

Usage: .ci/slowest.py REPORT.xml [ROWS]
"""

import sys
import xml.etree.ElementTree as ET
from collections import defaultdict
from pathlib import Path


def read(report: Path) -> list[tuple[float, str, str]]:
    """Return seconds, file and name of every test; what its fixtures cost counts as its own."""
    cases = ET.parse(report).getroot().iter("testcase")  # noqa: S314 - pytest wrote it
    return [(float(case.get("time", 0)), _file(case.get("classname", "")), case.get("name", "")) for case in cases]


def _file(classname: str) -> str:
    return classname.removeprefix("tests.").replace(".", "/") + ".py"


def _short(name: str) -> str:
    return name if len(name) <= 80 else f"{name[:77]}..."


def lines(tests: list[tuple[float, str, str]], rows: int) -> list[str]:
    """Return the report: a total, the slowest tests, and the files by what all their tests took."""
    total_s = sum(seconds for seconds, *_ in tests)
    files: defaultdict[str, float] = defaultdict(float)
    for seconds, file, _ in tests:
        files[file] += seconds
    found = [f"{len(tests)} tests, {total_s:.0f} s of one process after the other", "", "slowest tests"]
    found += [
        f"  {seconds:6.1f} s  {file}  {_short(name)}" for seconds, file, name in sorted(tests, reverse=True)[:rows]
    ]
    found += ["", "slowest files"]
    dearest = sorted(files.items(), key=lambda item: -item[1])[:rows]
    found += [f"  {seconds:6.1f} s  {seconds / total_s:4.0%}  {file}" for file, seconds in dearest]
    return found


def main() -> None:
    """Print the report."""
    tests = read(Path(sys.argv[1]))
    rows = int(sys.argv[2]) if sys.argv[2:] else 12
    print("\n".join(lines(tests, rows)) if any(seconds for seconds, *_ in tests) else "no test took any time")


if __name__ == "__main__":
    main()
