"""What keys about TLS must agree with each other, and what the files they name must hold. See `validate`."""

from __future__ import annotations

from collections.abc import Callable

from headgate.config.problems import Key, Problems
from headgate.config.schema import Config, Listener, Pool
from headgate.config.table import Struct
from headgate.config.values import quoted

# What the lists that browsers come with ask for (hstspreload.org).
_PRELOAD_S = 365 * 86400.0


def check_tls(config: Config, problems: Problems, where: Callable[[Struct], Key]) -> None:
    """Notes every mistake. where: the key at which a table stood."""
    for listener in config.listeners:
        _listener(listener, problems, where(listener))
    for name, pool in config.pools.items():
        _pool(pool, problems, ("pools", name, "tls"))
    _routes(config, problems, where)
    _files(config, problems, where)


def _listener(listener: Listener, problems: Problems, key: Key) -> None:
    tls = listener.tls
    if tls is None:
        return
    if listener.redirect_https:
        hint = "set it on the listener beside it that has no tls"
        problems.add((*key, "redirect_https"), "this listener speaks https already", hint)
    key = (*key, "tls")
    if not tls.certificates and not problems.touches((*key, "certificates")):
        hint = 'such as [{ cert = "site.pem", key = "site.key" }]; headgate cert makes one for development'
        problems.add((*key, "certificates"), "no certificate", hint)
    if not tls.client_ca and not problems.touches((*key, "client_ca")):
        for name, default in (("client_crl", ""), ("client_auth", "required")):
            if getattr(tls, name) != default:
                problems.add((*key, name), "has no effect without client_ca", "name the authorities of your clients")
    if tls.hsts is not None and tls.hsts.preload:
        if not tls.hsts.include_subdomains:
            problems.add((*key, "hsts", "preload"), "needs include_subdomains = true: browsers' lists ask for it")
        if tls.hsts.max_age < _PRELOAD_S:
            problems.add((*key, "hsts", "preload"), "needs a max_age of a year at least: browsers' lists ask for it")


def _pool(pool: Pool, problems: Problems, key: Key) -> None:
    tls = pool.tls
    if tls == type(tls)() or problems.touches(key):
        return
    if pool.backends and not any(backend.url.tls for backend in pool.backends):
        problems.add(key, "has no effect: no backend of this pool has an https URL", 'write them as "https://…"')
    if tls.key and not tls.cert:
        problems.add((*key, "key"), "has no effect without cert", "name the certificate it belongs to")
    if tls.ca and not tls.verify:
        problems.add((*key, "verify"), "with verify = false the ca has no effect", "leave one of them out")


def _routes(config: Config, problems: Problems, where: Callable[[Struct], Key]) -> None:
    for route in config.routes:
        if route.client_cert is None:
            continue
        listeners = [one for one in config.listeners if route.listener in (None, one.bind.text)]
        if listeners and not any(one.tls is not None and one.tls.client_ca for one in listeners):
            which = f"listener {quoted(route.listener)}" if route.listener else "any listener"
            problems.add(
                (*where(route), "client_cert"),
                f"never matches: clients of {which} are not asked for a certificate",
                "set client_ca in its tls",
            )


def _files(config: Config, problems: Problems, where: Callable[[Struct], Key]) -> None:
    if not any(one.tls for one in config.listeners) and all(
        pool.tls == type(pool.tls)() for pool in config.pools.values()
    ):
        return
    from headgate.tls import check  # with it comes OpenSSL, which the others need not wait for

    try:
        check.read(config)
    except check.Problems as error:
        for finding in error.findings:
            key = _written(finding.key, config, where)
            if not problems.touches(key):
                problems.add(key, finding.message, finding.suggestion)


def _written(key: Key, config: Config, where: Callable[[Struct], Key]) -> Key:
    """The key in the file: places in its lists count what could not be read, too."""
    if key[0] != "listeners" or not isinstance(key[1], int):
        return key
    listener = config.listeners[key[1]]
    if key[3:4] == ("certificates",) and isinstance(key[4], int) and listener.tls is not None:
        return (*where(listener.tls.certificates[key[4]]), *key[5:])
    return (*where(listener), *key[2:])
