"""Builds the engine: one C compiler is all it needs. Metadata stands in pyproject.toml."""

import os
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

if sys.platform != "linux":
    # epoll, timerfd, memfd and splice are what the engine is made of; there is no other reactor.
    sys.exit("headgate runs on Linux only: its engine is built on epoll, timerfd, memfd and splice.")

HERE = Path(__file__).parent
os.chdir(HERE)
ENGINE = Path("src/headgate/engine")
BALANCING = Path("src/headgate/balancing")

# -fno-strict-aliasing: CPython's own flag; the buffers are read through several struct types.
COMPILE = ["-O2", "-fno-strict-aliasing", "-fvisibility=hidden", "-Wall", "-Wno-unused-function"]
LINK = ["-pthread"]
MACROS: list[tuple[str, str | None]] = []
# `make sanitize`: the sanitizers to compile in, "address,undefined". What they find ends the process. Nothing that was
# given back is kept for the next use, or a use after that would look like a use of the next owner's.
SANITIZE = os.environ.get("HEADGATE_SANITIZE", "")
if SANITIZE:
    COMPILE += [f"-fsanitize={SANITIZE}", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g", "-O1"]
    # The runtime of UBSan, beside that of ASan, writes to standard error only, which nobody reads of a worker that
    # ends. A trap is reported by ASan, with the stack, where its reports go.
    COMPILE += ["-fsanitize-undefined-trap-on-error"]
    LINK += [f"-fsanitize={SANITIZE}"]
    MACROS += [("HEADGATE_NO_FREELIST", "1")]


def extension(source: Path, *arguments: str) -> Extension:
    """The module that a file below src is compiled to."""
    return Extension(
        ".".join(source.relative_to("src").with_suffix("").parts),
        [str(source)],
        extra_compile_args=[*COMPILE, *arguments],
        extra_link_args=LINK,
        define_macros=MACROS,
    )


engine = [extension(source) for source in sorted(ENGINE.glob("*.pyx"))]
# Strategies that are compiled as they stand, the type of everything being said in a .pxd beside each. Contracted
# arithmetic would be more exact than Python's, so picks would differ.
strategies = [extension(types.with_suffix(".py"), "-ffp-contract=off") for types in sorted(BALANCING.glob("*.pxd"))]

if not engine:
    sys.exit("headgate cannot be built: src/headgate/engine holds no .pyx files, so this source tree is incomplete.")


def compiled(extensions: list[Extension], **directives: object) -> list[Extension]:
    """C of them."""
    return cythonize(
        extensions,
        nthreads=0,
        # Where it is set, C is taken from there as long as nothing that it is made of has changed.
        cache="CYTHON_CACHE_DIR" in os.environ,
        compiler_directives={"language_level": 3, "embedsignature": True, **directives},
    )


setup(
    package_dir={"": "src"},
    # One after the other the compiler needs more than a minute.
    options={"build_ext": {"parallel": os.cpu_count() or 1}},
    ext_modules=[
        # The engine works on C pointers; every index is bounded by the code beside it.
        *compiled(engine, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False),
        # Where Python raises an error, so do they.
        *compiled(strategies, nonecheck=True, annotation_typing=False),
    ],
)
