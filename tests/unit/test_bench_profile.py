"""What a sample of the profile is put down to."""

from __future__ import annotations

from collections import Counter

import pytest
from bench.profile import KERNEL, LIBRARY, OTHER_PART, PYTHON, place, samples, table

OUTPUT = """\
        ffffffffb1a3 tcp_sendmsg_locked+0x12 ([kernel.kallsyms])
        ffffffffb1a4 __x64_sys_sendto+0x4 ([kernel.kallsyms])
            7f06b16d __send+0x10 (/usr/lib/x86_64-linux-gnu/libc.so.6)

            7f06b170 __pyx_f_8headgate_6engine_5http1_read_fields (/somewhere/headgate/engine/http1.cpython-311.so)

"""


def test_stacks_are_told_apart() -> None:
    first, second = samples(OUTPUT.splitlines())
    assert [symbol for symbol, _ in first] == ["tcp_sendmsg_locked", "__x64_sys_sendto", "__send"]
    assert place(first) == "system call: sendto"
    assert (
        place([("____sys_sendmsg", "[kernel.kallsyms]"), ("do_syscall_64", "[kernel.kallsyms]")])
        == "system call: sendmsg"
    )
    assert place(second) == "heads: parsed, checked, written"


@pytest.mark.parametrize(
    ("where", "what"),
    [
        ("[kernel.kallsyms]", KERNEL),
        ("[vdso]", LIBRARY),
        ("/usr/lib/x86_64-linux-gnu/libc.so.6", LIBRARY),
        ("/usr/lib/x86_64-linux-gnu/libpython3.11.so.1.0", PYTHON),
        ("/usr/bin/python3.12", PYTHON),
        (
            "/site-packages/headgate/engine/reactor.cpython-311-x86_64-linux-gnu.so",
            "events and timers",
        ),
        ("/site-packages/headgate/engine/decisions.cpython-311-x86_64-linux-gnu.so", OTHER_PART),
    ],
)
def test_places(where: str, what: str) -> None:
    assert place([("any", where)]) == what


def test_the_table_adds_up_to_the_whole() -> None:
    lines = table(Counter({"a": 3, "b": 1}), 20.0).splitlines()
    assert lines[2:] == ["| a | 15.00 | 75.0% |", "| b | 5.00 | 25.0% |"]
