"""Does this tree need more instructions per request than the commit it started from? `make bench-check`.

    python -m bench.check [--base COMMIT] [--limit PERCENT]

Both engines are compiled in this run by the same compiler and play the same conversation (bench/conversation.py) under
callgrind, each by its own tree's script: that one fits the engine's interface. A case that says something else there is
not compared. Instructions depend neither on the machine nor on how busy it is; a stored figure would still break with
every compiler, so none is. Per case: (instructions for 2 N requests - those for N) / N, which leaves out what is done
once. More than 5 % above the base fails: one run was seen to differ from the next by up to 1.5 %.

CI runs this, so it is quick: it ends at once where nothing that a request runs through has changed, takes what has
not changed from ccache and Cython's cache where there are such (`.ci/run` turns both on), and counts the two engines
side by side. Only the code can make it fail: where there is nothing to compare with, or valgrind cannot run here, it
says so and passes.

What the kernel does is not seen here: `make bench` measures that.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[1]
WORK = ROOT / "build" / "bench-check"
REQUESTS = 100
LIMIT_PERCENT = 5.0

# Where changes start from, for who knows it: a CI that is told what a push of many commits started from.
BASE_VARIABLE = "HEADGATE_BASE"

# And otherwise: the first that exists.
MAIN = ("origin/main", "origin/master", "main", "master")

# What a conversation runs through.
PATHS = ("src/headgate", "bench/conversation.py", "tests/transcripts/stage.py", "setup.py")

# What tells callgrind to write its counts down is an instruction sequence that only C can say. The first mark stands
# behind the first warm-up: before it nothing is counted, and python starts in 5 s instead of 15.
MARK = """
#include <valgrind/callgrind.h>
void mark(void) { CALLGRIND_DUMP_STATS; CALLGRIND_START_INSTRUMENTATION; }
"""

# No part of this takes a tenth of it.
PATIENCE_S = 300

Counts = Mapping[str, float]
"""Case -> instructions per request."""

Cases = Mapping[str, str]
"""Case -> what is said in it, as text to compare."""


def _git(*arguments: str) -> str | None:
    """What git answers; None when it refuses."""
    if shutil.which("git") is None:
        return None
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def _commit(name: str) -> str | None:
    return _git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")


def find_base() -> str | None:
    """The commit to compare with: what HEADGATE_BASE names; else where this branch left main; on main itself the commit
    before (or, with changes that are not committed, the last one). None where there is none: no git, a shallow clone.

    Of a merge the commit before is main as it was, so the whole branch is compared. Of commits that were pushed to main
    one by one it is the last one's alone that is: there HEADGATE_BASE should say what the push started from.
    """
    head = _git("rev-parse", "HEAD")
    if head is None:
        return None
    named = os.environ.get(BASE_VARIABLE)
    if named:
        base = _commit(named)
        if base is not None:
            return base
        # The first push of a branch has no commit before it (some services then say 0000...).
        print(f"{BASE_VARIABLE} names no commit that is here: {named}")
    for name in MAIN:
        base = _git("merge-base", "HEAD", name)
        if base is not None and base != head:
            return base
    if _git("status", "--porcelain", "--untracked-files=no"):
        return head
    return _commit("HEAD^")


def unchanged(base: str) -> bool:
    """Is what a request runs through the same as in `base`, byte for byte? Then there is nothing to count."""
    return _git("diff", "--quiet", base, "--", *PATHS) is not None


def build(tree: Path, log: Path) -> None:
    """Compile the engine of `tree` in place. CalledProcessError when it does not compile."""
    with log.open("w") as output:
        command = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace", "--parallel", "2"]
        # The directory goes into the debug information only; with it ccache would know no file of another tree.
        environment = {**os.environ, "CCACHE_NOHASHDIR": "1"}
        subprocess.run(command, cwd=tree, env=environment, stdout=output, stderr=subprocess.STDOUT, check=True)


def check_out(commit: str) -> Path:
    """The source of `commit`, built; kept for the next run. RuntimeError when it cannot be had or does not compile."""
    tree = WORK / commit
    if not (tree / "built").exists():
        shutil.rmtree(tree, ignore_errors=True)
        tree.mkdir(parents=True)
        archive = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=False)
        if archive.returncode != 0:
            raise RuntimeError(f"git does not give its files: {archive.stderr.decode(errors='replace')}")
        subprocess.run(["tar", "-x"], cwd=tree, input=archive.stdout, check=True)
        log = WORK / f"{commit}.log"
        try:
            build(tree, log)
        except subprocess.CalledProcessError:
            raise RuntimeError(f"it does not compile, see {log}") from None
        (tree / "built").touch()
    return tree


def make_mark() -> Path:
    """The library whose `mark()` makes callgrind write its counts down."""
    WORK.mkdir(parents=True, exist_ok=True)
    library = WORK / "mark.so"
    compiler = os.environ.get("CC", "gcc")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, "-x", "c", "-"], input=MARK.encode(), check=True)
    return library


def read_cases(tree: Path) -> Cases:
    """What `tree` says per case, in the order of its conversation. RuntimeError when it has no conversation."""
    environment = {**os.environ, "PYTHONPATH": f"{tree / 'src'}:{tree}"}
    script = "from bench.conversation import CASES; print(ascii([(case.name, repr(case)) for case in CASES]))"
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, "-c", script]
        done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    return dict(ast.literal_eval(done.stdout))


def callgrind(out: Path) -> list[str | Path]:
    """The beginning of a command whose turns of the reactor are to be counted, between the marks that it makes."""
    return [
        "valgrind",
        "--tool=callgrind",
        f"--callgrind-out-file={out}",
        "--instr-atstart=no",
        "--collect-atstart=no",
        "--toggle-collect=__pyx_pw_*Reactor*run_once",
    ]


def surroundings(tree: Path) -> dict[str, str]:
    """The environment in which the engine of `tree` is counted."""
    # Sets and dicts of strings have another order in every process otherwise.
    return {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": f"{tree / 'src'}:{tree}"}


def per_request(out: Path, number: int, requests: int) -> float:
    """Instructions for each request of what was played as the `number`th, from 0.

    Three files for each: the warm-up's, of no interest, that of N requests, that of 2 N.
    """
    once, twice = (total(Path(f"{out}.{3 * number + n}")) for n in (2, 3))
    return (twice - once) / requests


def count(tree: Path, mark: Path) -> Counts:
    """Play the conversation of `tree` with its own package. RuntimeError when it cannot be played."""
    cases = read_cases(tree)
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory) / "out"
        command = [*callgrind(out), sys.executable, "-m", "bench.conversation", str(REQUESTS), mark]
        try:
            done = subprocess.run(
                command,
                cwd=directory,
                env=surroundings(tree),
                capture_output=True,
                text=True,
                check=False,
                timeout=PATIENCE_S,
            )
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"the conversation did not end within {PATIENCE_S} s") from None
        if done.returncode != 0:
            raise RuntimeError(done.stderr)
        return {name: per_request(out, number, REQUESTS) for number, name in enumerate(cases)}


def total(path: Path) -> int:
    found = re.search(r"^totals: (\d+)", path.read_text(), re.MULTILINE)
    if found is None or int(found[1]) == 0:
        raise RuntimeError(f"callgrind counted nothing: {path}")
    return int(found[1])


def compare(base: Counts | None, here: Counts, limit_percent: float = LIMIT_PERCENT) -> tuple[list[str], bool]:
    """(lines of a table, whether every case stays within the limit)."""
    lines = ["| case | base | here | change |", "|---|---:|---:|---:|"]
    within = True
    for name, now in here.items():
        before = base.get(name) if base is not None else None
        if before is None:
            lines.append(f"| {name} | - | {now:,.0f} | |")
            continue
        change = (now / before - 1) * 100
        worse = change > limit_percent
        within = within and not worse
        lines.append(f"| {name} | {before:,.0f} | {now:,.0f} | {change:+.1f} %{' too much' if worse else ''} |")
    return lines, within


def _count_base(tree: Path, mark: Path) -> Counts:
    """The base's figures for the cases that are the same there. RuntimeError when it cannot play its conversation."""
    said, here = read_cases(tree), read_cases(ROOT)
    return {name: figure for name, figure in count(tree, mark).items() if said[name] == here.get(name)}


def valgrind_runs() -> bool:
    """Can valgrind run Python here at all? It does not know every processor's newest instructions."""
    command = ["valgrind", "--tool=none", sys.executable, "-c", "pass"]
    return subprocess.run(command, capture_output=True, check=False, timeout=PATIENCE_S).returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.check", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--base", help=f"the commit to compare with (default: ${BASE_VARIABLE}, or where main was)")
    parser.add_argument("--limit", type=float, default=LIMIT_PERCENT, help="how many percent worse are allowed")
    options = parser.parse_args()
    if shutil.which("valgrind") is None:
        print("bench-check needs valgrind (Debian: apt-get install valgrind)", file=sys.stderr)
        return 2
    base = _commit(options.base) if options.base else find_base()
    if options.base and base is None:
        parser.error(f"no such commit: {options.base}")
    if base is None:
        print(
            "Instructions per request: no commit to compare with (no git here, a shallow clone, or the first commit)."
        )
    elif not options.base and unchanged(base):
        print(f"Instructions per request: nothing that a request runs through differs from {base[:12]}.")
        return 0
    if not valgrind_runs():
        print("Instructions per request: not counted, valgrind cannot run Python on this machine.")
        return 0
    WORK.mkdir(parents=True, exist_ok=True)
    mark = make_mark()
    build(ROOT, WORK / "here.log")
    before: Counts | None = None
    # Neither count depends on what else runs, so both run at once.
    with ThreadPoolExecutor() as pool:
        counting = pool.submit(count, ROOT, mark)
        try:
            before = _count_base(check_out(base), mark) if base is not None else None
        except RuntimeError as error:
            print(f"Nothing to compare with: the base {base} cannot be counted: {error}")
        here = counting.result()
    lines, within = compare(before, here, options.limit)
    print(f"Instructions per request, without the kernel's; base: {base[:12] if base else 'none'}")
    print("\n".join(lines))
    if not within:
        print(f"More than {options.limit:g} % above the base.", file=sys.stderr)
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
