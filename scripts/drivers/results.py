"""Runs psycopg2's own tests, and prints one JSON line a test: its name and whether it passed, failed or was skipped."""
import json
import sys
import unittest

import tests


class Result(unittest.TestResult):
    def tell(self, test, outcome, detail=""):
        print(json.dumps({"test": test.id(), "outcome": outcome, "detail": detail[-2000:]}), file=sys.__stdout__, flush=True)

    def addSuccess(self, test):
        self.tell(test, "pass")

    def addFailure(self, test, err):
        self.tell(test, "fail", self._exc_info_to_string(err, test))

    def addError(self, test, err):
        self.tell(test, "fail", self._exc_info_to_string(err, test))

    def addSkip(self, test, reason):
        self.tell(test, "skip", reason)

    def addExpectedFailure(self, test, err):
        self.tell(test, "pass")

    def addUnexpectedSuccess(self, test):
        self.tell(test, "fail", "unexpected success")


tests.test_suite().run(Result())
