"""An explanation, and a decision, for somebody who was asleep a minute ago: the answer first, then why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_STATES = {"up": "up", "half_open": "half-open"}


def explanation(said: Mapping[str, Any]) -> str:
    """From the JSON of `POST /explain`."""
    lines = [
        f"{said['method']} http://{said['host']}{said['path']}  from {said['client']}",
        f"=> {said['outcome']}",
        "",
    ]
    route = said["route"]
    lines.append(f"listener  {said['listener']}")
    if route is not None:
        lines.append(f"route     {route['number']}: {route['why']} -> pool {route['pool']}")
    for other in said["shadowed"]:
        lines.append(f"          {_route(other)} matches too, but {other['why']}")
    for passed in said["passed"]:
        lines.append(f"pool      {passed['pool']}: {passed['why']}; the next one stands in")
    if said["pool"]:
        lines.append(f"pool      {said['pool']}{' (PANIC: ejected backends are used)' if said['panic'] else ''}")
        lines.append(f"strategy  {said['strategy']}")
        if said["rule"]:
            lines.append(f"          {said['rule']}")
    if (sticky := said["sticky"]) is not None:
        lines.append(f"sticky    cookie {sticky['cookie']}: {sticky['why']}")
    if said["candidates"]:
        lines += ["", *_candidates(said["candidates"])]
    if route is None and said["missed"]:
        lines += ["", "Routes that do not match, the nearest first:"]
        lines += [f"  {_route(other)}: {other['why']}" for other in said["missed"]]
    if said["workers"]:
        lines += ["", "By worker:"]
        lines += [f"  {one['worker']}: {one['outcome']}" for one in said["workers"]]
    if said["notes"]:
        lines += ["", *(f"note: {note}" for note in said["notes"])]
    return "\n".join(lines)


def _route(route: Mapping[str, Any]) -> str:
    listener = f" on {route['listener']}" if route["listener"] else ""
    return f"route {route['number']} ({route['host'] or '*'}{route['pathPrefix']}{listener} -> {route['pool']})"


def _candidates(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    table = [("", "backend", "state", "weight", "active", "score", "")]
    for row in rows:
        mark = "=>" if row["picked"] else "  " if row["routable"] else "x "
        share = "" if row["share"] == row["weight"] else f" ({row['share']:.3g} now)"
        table.append(
            (
                mark,
                row["name"],
                _STATES.get(row["state"], row["state"].upper()),
                f"{row['weight']}{share}",
                str(row["active"]),
                "" if row["score"] is None else f"{row['score']:.4g}",
                "; ".join(part for part in (row["reason"], row["scoreText"]) if part),
            )
        )
    return columns(table)


def columns(table: Sequence[Sequence[str]]) -> list[str]:
    """Rows with their columns under each other; the last one may be as long as it is."""
    widths = [max(len(row[index]) for row in table) for index in range(len(table[0]) - 1)]
    return [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in table
    ]


def decision(said: Mapping[str, Any]) -> str:
    """From one entry of `GET /decisions`, with all that is known."""
    cut = " (kept: the first ones and the last)" if said["attemptsMade"] > len(said["attempts"]) else ""
    lines = [
        f"{said['method']} http://{said['host']}{said['path']}  from {said['client']}",
        f"=> {said['status'] or 'no answer'}, {said['kind']}: {said['why']}",
        "",
        f"id        {said['id']}",
        f"time      {said['time']}, took {said['totalMs']:g} ms, in worker {said['worker']}",
        f"listener  {said['listener']}",
        f"route     {said['route'] or 'none'}" + (f" -> pool {said['pool']}" if said["pool"] else ""),
    ]
    if said["sticky"]:
        lines.append("sticky    a cookie bound it to its backend")
    if said["queuedMs"] is not None:
        lines.append(f"queued    {said['queuedMs']:g} ms")
    if said["notes"]:
        lines.append(f"notes     {', '.join(said['notes'])}")
    if said["traceId"]:
        lines.append(f"trace     {said['traceId']}")
    lines += ["", f"{said['attemptsMade']} attempts{cut}:" if said["attempts"] else "No backend was asked."]
    for number, one in enumerate(said["attempts"], 1):
        answered = f"answered {one['status']}" if one["status"] else "no answer"
        first = "" if one["firstByteMs"] is None else f", first byte after {one['firstByteMs']:g} ms"
        after = f"at +{one['startedMs']:g} ms"
        lines.append(f"  {number}. {one['backend']}: {one['kind']}, {answered}, {after}, {one['ms']:g} ms{first}")
    return "\n".join(lines)


def decision_line(said: Mapping[str, Any]) -> str:
    """One entry of `GET /decisions` in a line."""
    went = " -> ".join(
        one["backend"] if one["kind"] == "ok" else f"{one['backend']} ({one['kind']})" for one in said["attempts"]
    )
    word = "" if said["kind"] == "ok" else f" {said['kind']}"
    request = f"{said['method']} {said['host']}{said['path']}"
    return f"{said['time']} {said['id']} {said['status'] or '-'}{word} {request} {went or '-'} {said['totalMs']:g} ms"
