"""Check what `make build` made: one sdist, one wheel, and in the wheel everything a user needs and nothing else."""

import sys
import zipfile
from pathlib import Path


def main(directory: Path) -> int:
    """Return 0 when `directory` holds a complete sdist and wheel; say what is wrong otherwise."""
    sdists, wheels = list(directory.glob("*.tar.gz")), list(directory.glob("*.whl"))
    if len(sdists) != 1 or len(wheels) != 1:
        print(f"expected one sdist and one wheel in {directory}, found {sdists} and {wheels}", file=sys.stderr)
        return 1
    names = zipfile.ZipFile(wheels[0]).namelist()
    problems = [f"stray file {name}" for name in names if not name.startswith(("headgate/", "headgate-"))]
    engine = Path("src/headgate/engine")
    balancing = Path("src/headgate/balancing")
    for source in [*sorted(engine.glob("*.pyx")), *sorted(balancing.glob("*.pxd"))]:
        module = f"{source.parent.relative_to('src')}/{source.stem}."
        if not any(name.startswith(module) and name.endswith(".so") for name in names):
            problems.append(f"compiled module {source.stem} is missing")
    # What a strategy does can be read, and copied, beside what it was compiled to.
    for source in sorted(balancing.glob("*.py")):
        if str(source.relative_to("src")) not in names:
            problems.append(f"{source.name} is missing")
    for typed in [Path("src/headgate/py.typed"), *sorted(engine.glob("*.pyi"))]:
        if str(typed.relative_to("src")) not in names:
            problems.append(f"{typed.name} is missing")
    for file in sorted(Path("src/headgate/admin/dashboard").iterdir()):
        if f"headgate/admin/dashboard/{file.name}" not in names:
            problems.append(f"the dashboard's {file.name} is missing")
    for problem in problems:
        print(f"{wheels[0].name}: {problem}", file=sys.stderr)
    if not problems:
        print(f"Made {sdists[0]} and, from it, {wheels[0]}.")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
