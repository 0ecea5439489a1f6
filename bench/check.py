"""Does this tree need more instructions per request than the commit it started from? `make bench-check`.

    python -m bench.check [--base COMMIT] [--limit PERCENT]

Both engines are compiled in this run by the same compiler and play the same conversation (bench/conversation.py) under
callgrind, each by its own tree's script: that one fits the engine's interface. A case that says something else there is
not compared. Instructions depend neither on the machine nor on how busy it is; a stored figure would still break with
every compiler, so none is. Per case: (instructions for 2 N requests - those for N) / N, which leaves out what is done
once. More than 5 % above the base fails: one run was seen to differ from the next by up to 1.5 %.

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
from pathlib import Path

ROOT = Path(__file__).parents[1]
WORK = ROOT / "build" / "bench-check"
REQUESTS = 100
LIMIT_PERCENT = 5.0

# Where changes start from: the first that exists.
MAIN = ("origin/main", "origin/master", "main", "master")

# What a conversation runs through.
PATHS = ("src/headgate", "bench/conversation.py", "tests/transcripts/stage.py", "setup.py")

# What tells callgrind to write its counts down is an instruction sequence that only C can say.
MARK = "#include <valgrind/callgrind.h>\nvoid mark(void) { CALLGRIND_DUMP_STATS; }\n"

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


def find_base() -> str | None:
    """The commit to compare with: where this branch left main; on main itself the commit before (or, with changes that
    are not committed, the last one)."""
    head = _git("rev-parse", "HEAD")
    if head is None:
        return None
    for name in MAIN:
        base = _git("merge-base", "HEAD", name)
        if base is not None and base != head:
            return base
    if _git("status", "--porcelain", "--untracked-files=no"):
        return head
    return _git("rev-parse", "HEAD^")


def unchanged(base: str) -> bool:
    """Is what a request runs through the same as in `base`, byte for byte? Then there is nothing to count."""
    return _git("diff", "--quiet", base, "--", *PATHS) is not None


def build(tree: Path, log: Path) -> None:
    """Compile the engine of `tree` in place. CalledProcessError when it does not compile."""
    with log.open("w") as output:
        command = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace", "--parallel", "2"]
        subprocess.run(command, cwd=tree, stdout=output, stderr=subprocess.STDOUT, check=True)


def check_out(commit: str) -> Path:
    """The source of `commit`, built; kept for the next run."""
    tree = WORK / commit
    if not (tree / "built").exists():
        shutil.rmtree(tree, ignore_errors=True)
        tree.mkdir(parents=True)
        archive = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=True)
        subprocess.run(["tar", "-x"], cwd=tree, input=archive.stdout, check=True)
        build(tree, WORK / f"{commit}.log")
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


def count(tree: Path, mark: Path) -> Counts:
    """Play the conversation of `tree` with its own package. RuntimeError when it cannot be played."""
    cases = read_cases(tree)
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory) / "out"
        command: list[str | Path] = [
            "valgrind",
            "--tool=callgrind",
            f"--callgrind-out-file={out}",
            "--collect-atstart=no",
            "--toggle-collect=__pyx_pw_*Reactor*run_once",
            *(sys.executable, "-m", "bench.conversation", str(REQUESTS), mark),
        ]
        # Sets and dicts of strings have another order in every process otherwise.
        environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": f"{tree / 'src'}:{tree}"}
        done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(done.stderr)
        totals = [_total(Path(f"{out}.{n}")) for n in range(1, 3 * len(cases) + 1)]
    per_case = zip(totals[1::3], totals[2::3], strict=True)
    return {name: (twice - once) / REQUESTS for name, (once, twice) in zip(cases, per_case, strict=True)}


def _total(path: Path) -> int:
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


def _count_base(commit: str, mark: Path) -> Counts | None:
    """The base's figures for the cases that are the same there; None, and why, when it cannot be built or played."""
    try:
        tree = check_out(commit)
        said, here = read_cases(tree), read_cases(ROOT)
        return {name: figure for name, figure in count(tree, mark).items() if said[name] == here.get(name)}
    except subprocess.CalledProcessError:
        print(f"The base {commit[:12]} does not compile; nothing to compare with. See {WORK}/{commit}.log")
    except RuntimeError as error:
        print(f"The base {commit[:12]} cannot play its conversation; nothing to compare with:\n{error}")
    return None


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.check", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--base", help="the commit to compare with (default: where this branch left main)")
    parser.add_argument("--limit", type=float, default=LIMIT_PERCENT, help="how many percent worse are allowed")
    options = parser.parse_args()
    if shutil.which("valgrind") is None:
        print("bench-check needs valgrind (Debian: apt-get install valgrind)", file=sys.stderr)
        return 2
    base = _git("rev-parse", "--verify", f"{options.base}^{{commit}}") if options.base else find_base()
    if options.base and base is None:
        parser.error(f"no such commit: {options.base}")
    if base is not None and not options.base and unchanged(base):
        print(f"Instructions per request: nothing that a request runs through differs from {base[:12]}.")
        return 0
    WORK.mkdir(parents=True, exist_ok=True)
    mark = make_mark()
    build(ROOT, WORK / "here.log")
    here = count(ROOT, mark)
    before = _count_base(base, mark) if base is not None else None
    lines, within = compare(before, here, options.limit)
    print(f"Instructions per request, without the kernel's; base: {base[:12] if base else 'none'}")
    print("\n".join(lines))
    if not within:
        print(f"More than {options.limit:g} % above the base.", file=sys.stderr)
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
