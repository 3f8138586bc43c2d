# SPDX-License-Identifier: MIT
"""Run pytest on this folder and speak TAP, for make check.

By hand, `python3 -m pytest bindings/python/tests` does the same with pytest's own
output. Arguments are handed to pytest (run.py -k torch).
"""

import os
import sys
from pathlib import Path


class Tap:
    """A pytest plugin: a line per test, with what went wrong as comments below it."""

    def __init__(self):
        # pytest takes the real standard output away while tests run.
        self.stream = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
        self.count = 0

    def line(self, text):
        self.stream.write(text.replace("\n", " ") + "\n")

    def result(self, word, name, directive=""):
        self.count += 1
        # A test's parameters may hold a "#", which starts a directive in TAP.
        self.line(f"{word} {self.count} - {name.replace('#', ' ')}{directive}")

    def comment(self, text):
        for line in text.splitlines():
            self.line("# " + line)

    def skip(self, report):
        # A skip reports (file, line, reason), an expected failure a traceback.
        whole = report.longrepr
        reason = whole[2] if isinstance(whole, tuple) else "expected to fail"
        self.result("ok", report.nodeid, f" # SKIP {reason.replace('Skipped: ', '')}")

    def pytest_runtest_logreport(self, report):
        if report.skipped:
            self.skip(report)
        elif report.failed:
            self.result("not ok", f"{report.nodeid} ({report.when})")
            self.comment(report.longreprtext)
        elif report.when == "call":
            self.result("ok", report.nodeid)

    def pytest_collectreport(self, report):
        if report.skipped:
            self.skip(report)
        elif report.failed:
            self.result("not ok", f"{report.nodeid} (collection)")
            self.comment(str(report.longrepr))

    def pytest_sessionfinish(self):
        self.line(f"1..{self.count}")


def main():
    try:
        import numpy  # noqa: F401
        import pytest
    except ImportError as missing:
        print(f"1..0 # SKIP {sys.executable}: {missing}")
        return 0
    folder = str(Path(__file__).resolve().parent)
    # The source tree may be read-only: no cache, and the folder itself as root.
    options = [
        "-p",
        "no:cacheprovider",
        "-p",
        "no:terminal",
        "--rootdir",
        folder,
        folder,
    ]
    status = pytest.main([*options, *sys.argv[1:]], plugins=[Tap()])
    # Failed tests are reported one by one already; the driver wants a status for the
    # rest.
    return 0 if status == pytest.ExitCode.TESTS_FAILED else int(status)


if __name__ == "__main__":
    sys.exit(main())
