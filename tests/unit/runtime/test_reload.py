"""A reload does its long work beside the loop."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, cast

from headgate.config.schema import Config
from headgate.runtime.reload import Reloader

TIMEOUT_S = 60.0


def test_the_loop_goes_on_while_the_file_is_read() -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        reading, may_end = threading.Event(), threading.Event()

        def read() -> Config:
            reading.set()
            # Only a loop that goes on can end this.
            assert may_end.wait(TIMEOUT_S)
            raise ValueError("nonsense\nand more of it")

        nothing: Any = cast(Any, None)
        reloader = Reloader(nothing, nothing, nothing, loop=loop, read=read, in_force=lambda: None)
        for ask in (reloader.reload, reloader.plan):
            asked = asyncio.create_task(ask())
            assert await asyncio.to_thread(reading.wait, TIMEOUT_S)
            assert reloader.alone.locked()
            loop.call_soon(may_end.set)
            result = await asked
            assert not result.ok
            assert result.problems == ("nonsense", "and more of it")
            reading.clear()
            may_end.clear()

    asyncio.run(run())
