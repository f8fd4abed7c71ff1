#!/usr/bin/env python3
"""Checks this source tree against the rules of the house.

    tests/tidy/tidy.py              prints what is wrong, ends with 1 if anything is
    tests/tidy/tidy.py --record     first writes the budgets of new and cheaper headers
    tests/tidy/tidy.py --root DIR   looks at another tree
"""

import argparse
import os
import sys

sys.dont_write_bytecode = True

import header_cost
import house
import rules_includes  # noqa: F401 (its rules register themselves)
from rules import RULES
from tree import Finding, Tree


def check(tree):
    """All findings that nothing exempts, and the exemptions that exempt nothing."""
    needed = set()
    for function in RULES.values():
        for finding in function(tree):
            if (finding.rule, finding.path) in house.EXEMPT:
                needed.add((finding.rule, finding.path))
            else:
                yield finding
    for name, path in house.EXEMPT.keys() - needed:
        yield Finding(house.PATH, 1, "exempt", f"{path} no longer needs its exemption from {name}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--root", default=os.path.join(os.path.dirname(__file__), "..", ".."))
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()

    root = os.path.realpath(options.root)
    if options.record:
        header_cost.record(Tree(root))
    tree = Tree(root)
    findings = sorted(check(tree), key=str)
    for finding in findings:
        print(finding)
    print(f"tidy: {len(tree.files)} files, {len(RULES)} rules, {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
