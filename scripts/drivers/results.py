"""Runs a driver's own tests, which a function of its module `tests` gives (the first argument names it), and prints one
JSON line a test: its name and whether it passed, failed or was skipped.

Each test is a process of its own, ended when its time is over: one that waits inside libpq runs no handler, and must
not take those after it along.
"""
import json
import os
import signal
import sys
import unittest

import tests

test_timeout_s = 30


def tell(test, outcome, detail=""):
    line = json.dumps({"test": test.id(), "outcome": outcome, "detail": detail[-2000:]})
    print(line, file=sys.__stdout__, flush=True)


class Result(unittest.TestResult):
    def addSuccess(self, test):
        tell(test, "pass")

    def addFailure(self, test, err):
        tell(test, "fail", self._exc_info_to_string(err, test))

    def addError(self, test, err):
        tell(test, "fail", self._exc_info_to_string(err, test))

    def addSkip(self, test, reason):
        tell(test, "skip", reason)

    def addExpectedFailure(self, test, err):
        tell(test, "pass")

    def addSubTest(self, test, subtest, err):
        # One that passes is told with its test.
        if err is not None:
            tell(test, "fail", f"{subtest}: {self._exc_info_to_string(err, test)}")

    def addUnexpectedSuccess(self, test):
        tell(test, "fail", "unexpected success")


def flat(suite):
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from flat(test)
        else:
            yield test


for test in flat(getattr(tests, sys.argv[1])()):
    child = os.fork()
    if child == 0:
        # Nothing handles it, so it ends the process wherever that waits.
        signal.alarm(test_timeout_s)
        unittest.TestSuite([test]).run(Result())
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM:
        tell(test, "fail", f"not over after {test_timeout_s} s")
    elif status != 0:
        tell(test, "fail", f"its process ended with {status}")
