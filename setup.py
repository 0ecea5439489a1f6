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

extensions = [
    Extension(
        f"headgate.engine.{source.stem}",
        [str(source)],
        extra_compile_args=COMPILE,
        extra_link_args=LINK,
        define_macros=MACROS,
    )
    for source in sorted(ENGINE.glob("*.pyx"))
]

if not extensions:
    sys.exit("headgate cannot be built: src/headgate/engine holds no .pyx files, so this source tree is incomplete.")

setup(
    package_dir={"": "src"},
    # One after the other the compiler needs more than a minute.
    options={"build_ext": {"parallel": os.cpu_count() or 1}},
    ext_modules=cythonize(
        extensions,
        nthreads=0,
        # Where it is set, C is taken from there as long as nothing that it is made of has changed.
        cache="CYTHON_CACHE_DIR" in os.environ,
        compiler_directives={
            "language_level": 3,
            "embedsignature": True,
            # The engine works on C pointers; every index is bounded by the code beside it.
            "boundscheck": False,
            "wraparound": False,
            "cdivision": True,
            "initializedcheck": False,
        },
    ),
)
