"""The whole decision, step by step as `engine/exchange.pyx` takes it: the head, the balancer's own pages, the route,
limits, the cookie, a probe, the strategy, and who stands in when nothing is routable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import isfinite
from random import Random
from typing import Any

from headgate.config.schema import Config, Listener, Route
from headgate.engine.address import Networks
from headgate.engine.preview import Preview
from headgate.engine.request_head import BadRequestHead
from headgate.explain import routes
from headgate.explain.answer import Candidate, Explanation, PassedPool, PickedBy, StickySeen
from headgate.explain.picking import Picked, preview, score_of
from headgate.explain.question import Question, client_of, head
from headgate.explain.standing import PoolLook, Standing, why_not


@dataclass(slots=True)
class Told:
    """What is found out by and by."""

    said: dict[str, Any]
    notes: list[str] = field(default_factory=list)

    def end(self, outcome: str, status: int = 0) -> Explanation:
        return Explanation(**self.said, outcome=outcome, status=status, notes=self.notes)


def explain(
    question: Question,
    config: Config,
    listener: Listener,
    look: Callable[[str], PoolLook],
    *,
    sources: Sequence[Random] = (),
) -> Explanation:
    """Where a request that came to `listener` now would go. Changes nothing. Raises BadQuestion.

    look: a pool of the configuration as it is; only those that are asked for are looked at. sources: the random
    sources that strategies were given.
    """
    told = Told(
        {"method": question.method, "host": "", "path": "", "client": question.client, "listener": listener.bind.text}
    )
    limits = listener.limits
    try:
        seen = Preview(
            head(question),
            client_of(question),
            Networks(listener.trusted_proxies),
            forwarded=listener.forwarded,
            head_limit=limits.head,
            line_limit=limits.request_line,
            headers_limit=limits.headers,
        )
    except BadRequestHead as error:
        return told.end(f"answered {error.status} by the balancer: {error}", error.status)
    request = seen.request
    told.said |= {
        "host": request.host.decode("latin-1"),
        "path": request.path.decode("latin-1"),
        "client": request.client,
    }
    if (page := _page_of_ours(seen, listener, told)) is not None:
        return page
    if listener.redirect_https and not question.url.startswith("https:"):
        status = 301 if seen.only_reads else 308
        return told.end(f"answered {status} by the balancer: to the same place by https (redirect_https)", status)
    routing = routes.find(config.routes, listener.bind.text, request.host, request.path)
    told.said |= {"route": routing.route, "shadowed": routing.shadowed, "missed": routing.missed}
    if routing.taken is None:
        return told.end("answered 404 by the balancer: no route matches this host and path", 404)
    route = config.routes[routing.taken]
    limit = route.limits.body if route.limits.body is not None else limits.body
    if limit and seen.body_bytes is not None and seen.body_bytes > limit:
        return told.end(f"answered 413 by the balancer: the body is larger than {limit} bytes", 413)
    if seen.upgrade and _upgrade_passes(seen, route):
        seen.not_idempotent()
    return _through_pools(told, route, config, look, seen, sources)


def _page_of_ours(seen: Preview, listener: Listener, told: Told) -> Explanation | None:
    path = seen.request.path.partition(b"?")[0].decode("latin-1")
    if listener.status_path is not None and path == listener.status_path:
        if not seen.client_in(Networks(listener.status_allow)):
            return told.end(f"answered 404: {path} is the status page, and the client is not in status_allow", 404)
        if not seen.only_reads:
            return told.end("answered 405 by the balancer: its status page can only be read", 405)
        return told.end("answered 200 by the balancer: its status page", 200)
    if listener.ready_path is not None and path == listener.ready_path:
        if not seen.only_reads:
            return told.end("answered 405 by the balancer: its ready page can only be read", 405)
        return told.end("answered by the balancer: 200 while it takes traffic, 503 otherwise")
    if seen.ends_here:
        status = 405 if seen.request.method == "TRACE" else 200
        return told.end(f"answered {status} by the balancer: Max-Forwards is 0, so it is meant", status)
    return None


def _upgrade_passes(seen: Preview, route: Route) -> bool:
    if seen.websocket:
        return "websocket" in route.upgrade
    offered = {name.strip().lower() for name in (seen.request.header("upgrade") or b"").decode("latin-1").split(",")}
    offered.discard("")
    return bool(offered) and offered <= set(route.upgrade)


def _through_pools(
    told: Told,
    route: Route,
    config: Config,
    look: Callable[[str], PoolLook],
    seen: Preview,
    sources: Sequence[Random],
) -> Explanation:
    name = route.pool
    passed: list[PassedPool] = []
    told.said["passed"] = passed
    while True:
        pool = config.pools[name]
        here = look(name)
        found = _in_pool(told, here, seen, sources)
        if found is not None:
            return found
        why = _why_nobody(here)
        fallback = pool.fallback
        following = fallback.pool if fallback is not None else ""
        if fallback is None or (following and following not in config.pools) or following in {p.pool for p in passed}:
            return told.end(f"answered 503 by the balancer: {why}", 503)
        if not following:
            return told.end(
                f"answered {fallback.status} by the balancer: its static answer, since {why}", fallback.status
            )
        passed.append(PassedPool(pool=name, why=why))
        name = following


def _why_nobody(look: PoolLook) -> str:
    if not look.backends:
        return f"pool {look.name} has no backends"
    return f"no backend of pool {look.name} is routable"


def _in_pool(told: Told, look: PoolLook, seen: Preview, sources: Sequence[Random]) -> Explanation | None:
    """Who of this pool; None when nobody is routable."""
    request = seen.request
    sticky = _sticky(look, request)
    full = {standing.backend for standing in look.backends if standing.full and standing.eligible}
    picked = preview(look, request, full, sources=sources)
    chosen, by = _chosen(look, sticky, picked, request.idempotent)
    exact = picked.exact or by in ("sticky", "probe")
    told.said |= {
        "pool": look.name,
        "strategy": look.config.strategy.name,
        "rule": _rule(picked),
        "panic": look.panic,
        "sticky": sticky,
        "candidates": [_candidate(one, look, picked, chosen, full) for one in look.backends],
        "picked": chosen.name if chosen is not None else "",
        "picked_by": by,
        "exact": exact,
    }
    if picked.error and by != "sticky":
        told.notes.append(picked.error)
    if look.panic:
        told.notes.append("panic: less than the pool's `panic` share is routable, so ejected backends are used")
    standing = next((one for one in look.backends if one.backend is chosen), None)
    if look.full or (chosen is None and full):
        return told.end(_waits(look))
    if standing is not None and standing.full:
        return told.end(f"waits in the queue for {chosen.name}, where its session is bound: {standing.full}")
    if chosen is not None:
        where = chosen.name if chosen.name == chosen.url else f"{chosen.name} ({chosen.url})"
        return told.end(f"goes to {where}, {_by_whom(by, look)}")
    if picked.error and not picked.exact:
        return told.end(f"goes to a backend of pool {look.name}; {picked.error}")
    return None


def _waits(look: PoolLook) -> str:
    why = look.full or "every backend it may go to is full"
    if not look.config.queue.size:
        return f"answered 503 by the balancer: {why}, and the pool has no queue"
    return f"waits in the queue of pool {look.name}, for {look.config.queue.timeout:g} s at most: {why}"


def _by_whom(by: PickedBy, look: PoolLook) -> str:
    return {
        "sticky": "where its cookie binds it",
        "probe": "to see whether that works again (half-open)",
        "round_robin": "picked by round robin in the place of the strategy",
    }.get(by, f"picked by {look.config.strategy.name}")


def _chosen(look: PoolLook, sticky: StickySeen | None, picked: Picked, idempotent: bool) -> tuple[Any, PickedBy]:
    if sticky is not None and sticky.binds:
        bound = next(one.backend for one in look.backends if one.backend.name == sticky.backend)
        return bound, "sticky"
    if idempotent and (probed := look.probe()) is not None:
        return probed, "probe"
    if picked.backend is None:
        return None, ""
    return picked.backend, "round_robin" if picked.by_fallback else "strategy"


def _sticky(look: PoolLook, request: Any) -> StickySeen | None:
    config = look.config.sticky
    if config is None or look.sticky is None:
        return None
    value = request.cookie(config.name)
    if not value:
        return StickySeen(
            cookie=config.name, backend="", binds=False, why="the request has no such cookie; the answer sets one"
        )
    bound = look.sticky.get(value)
    if bound is None:
        why = "its value names no backend of this pool (forged, of another secret, or of one that was removed)"
        return StickySeen(cookie=config.name, backend="", binds=False, why=why)
    standing = next((one for one in look.backends if one.backend is bound), None)
    if standing is None or not standing.bound_ok:
        why = why_not(standing, look) if standing is not None else "it was removed"
        return StickySeen(cookie=config.name, backend=bound.name, binds=False, why=f"{bound.name} is not there: {why}")
    return StickySeen(cookie=config.name, backend=bound.name, binds=True, why="the cookie names it")


def _candidate(standing: Standing, look: PoolLook, picked: Picked, chosen: Any, full: set[Any]) -> Candidate:
    backend = standing.backend
    score = score_of(backend, picked.grounds)
    return Candidate(
        name=backend.name,
        url=backend.url,
        state=standing.state,
        reason=why_not(standing, look),
        routable=standing.eligible and backend not in full,
        picked=backend is chosen,
        weight=standing.weight,
        priority=standing.priority,
        share=round(standing.share, 6),
        active=standing.active,
        score=None if score is None or not isfinite(score.value) else float(score.value),
        score_text="" if score is None else score.text,
    )


def _rule(picked: Picked) -> str:
    rules = dict.fromkeys(one.rule for one in picked.grounds.values())
    return "; ".join(rules)
