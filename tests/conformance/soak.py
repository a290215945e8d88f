#!/usr/bin/env python3
"""Runs fresh random programs on trio and on nursery, and compares.

    soak.py [COUNT] [FIRST_SEED]     (needs `pip install trio`)

A program whose trace trio itself does not always give is of no use, and is left out. One on which the two differ is
checked against all of the oracle's schedules, cut down to the smallest that still differs, and printed.
"""

import copy
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE / "oracle"))
sys.dont_write_bytecode = True

import gen
import oracle

BATCH = 200
QUICK = oracle.SCHEDULES[:14]
SEEDS, BUDGETS = 5, (1, 64)


def runner():
    command = ["cargo", "build", "--release", "-q", "-p", "nursery-conformance", "--message-format=json"]
    lines = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    built = [m["executable"] for m in map(json.loads, lines) if m.get("executable")]
    return os.environ.get("RUNNER") or built[-1]


def expected(program, schedules):
    """trio's trace; None if it has none, or more than one."""
    try:
        return oracle.stable_trace(program, schedules)
    except (oracle.Deadlock, AssertionError, KeyError, ValueError, TypeError):
        return None


def report(command, entries, budget):
    """What the runner says of the entries, by name, of those that differ."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(entries, file)
        file.flush()
        ran = subprocess.run(
            [command, "--seeds", str(SEEDS), "--budget", str(budget), file.name], capture_output=True, text=True
        )
    failures = ran.stdout.split("FAIL ")[1:]
    if not ran.stdout.strip().endswith(f"{len(failures)} failed"):
        raise SystemExit(f"the runner broke off:\n{ran.stdout}\n{ran.stderr}")
    return {text.split()[0].rstrip(":"): text for text in failures}


def failing(command, entries):
    found = {}
    for budget in BUDGETS:
        found.update(report(command, entries, budget))
    return found


def smaller(block):
    """Copies of a block with one statement less, or with a statement replaced by one of its blocks."""
    for i, s in enumerate(block):
        yield block[:i] + block[i + 1 :]
        for b in oracle.BLOCKS:
            if b in s:
                yield block[:i] + s[b] + block[i + 1 :]
                for inner in smaller(s[b]):
                    yield block[:i] + [{**s, b: inner}] + block[i + 1 :]


def shrink(command, program):
    """The smallest program that still differs, and how."""
    schedules = oracle.SCHEDULES[:40]
    done = False
    while not done:
        done = True
        for root in smaller(program["root"]):
            candidate = {**copy.deepcopy(program), "root": root}
            trace = expected(candidate, schedules)
            if trace and failing(command, [{"program": candidate, "expected": trace}]):
                program, done = candidate, False
                break
    trace = expected(program, oracle.SCHEDULES)
    return program, failing(command, [{"program": program, "expected": trace}])


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000
    command = runner()
    compared = differing = 0
    while compared < count:
        entries = []
        while len(entries) < min(BATCH, count - compared):
            program = gen.generate(seed, f"p{seed}")
            seed += 1
            trace = expected(program, QUICK)
            if trace:
                entries.append({"program": program, "expected": trace})
        compared += len(entries)
        programs = {e["program"]["name"]: e["program"] for e in entries}
        for name in failing(command, entries):
            trace = expected(programs[name], oracle.SCHEDULES)
            if trace is None:
                continue  # not stable after all
            still = failing(command, [{"program": programs[name], "expected": trace}])
            if not still:
                continue
            differing += 1
            program, how = shrink(command, programs[name])
            print(f"{name}, cut down:\n{json.dumps(program)}\n" + "\n".join(how.values()), flush=True)
        print(f"{compared} programs compared, {differing} differ (next seed {seed})", flush=True)
    sys.exit(bool(differing))


if __name__ == "__main__":
    main()
