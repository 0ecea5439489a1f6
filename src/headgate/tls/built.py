"""All contexts of one configuration, made together. What has not changed is taken over, so that sessions stay good."""

from __future__ import annotations

import ssl
from collections.abc import Hashable

import msgspec

from headgate.config.schema import Config, Listener, Pool
from headgate.config.tls import ListenerTls, PoolTls
from headgate.tls import contexts
from headgate.tls.files import NONE, TlsFiles

# Keys that say nothing about certificates and ciphers: a change of them makes no other context.
_BESIDE = ("handshake_timeout", "max_handshakes", "hsts", "watch")


class Built:
    """The contexts of a configuration. before: those of the one before. listeners: those of listeners, too; else of
    pools only. Raises ValueError for what cannot be built, with the key it stands at."""

    def __init__(
        self,
        config: Config | None = None,
        files: TlsFiles = NONE,
        before: Built | None = None,
        *,
        listeners: bool = True,
    ) -> None:
        self._files = files
        self._made: dict[Hashable, ssl.SSLContext] = {}
        self._before = {} if before is None else before._made
        if config is None:
            return
        for listener in config.listeners if listeners else ():
            if listener.tls is not None:
                self._build(f"listener {listener.bind.text}", listener.tls)
        for name, pool in config.pools.items():
            if uses_tls(pool):
                self._build(f"pools.{name}", pool.tls)
        self._before = {}

    def of_listener(self, listener: Listener) -> ssl.SSLContext | None:
        """The context of a listener; None for one without TLS."""
        return None if listener.tls is None else self._made.get(_key(listener.tls, self._files))

    def of_pool(self, pool: Pool) -> ssl.SSLContext | None:
        """The context for a pool's https backends; None where there are none."""
        return self._made.get(_key(pool.tls, self._files)) if uses_tls(pool) else None

    def _build(self, where: str, tls: ListenerTls | PoolTls) -> None:
        key = _key(tls, self._files)
        if key in self._made:
            return
        context = self._before.get(key)
        if context is None:
            try:
                if isinstance(tls, ListenerTls):
                    context = contexts.listener_context(tls, self._files)
                else:
                    context = contexts.backend_context(tls, self._files)
            except (ValueError, KeyError, OSError) as error:
                raise ValueError(f"{where}.tls: {error}") from error
        self._made[key] = context


def uses_tls(pool: Pool) -> bool:
    """Has it a backend that is met by https?"""
    return any(backend.url.tls for backend in pool.backends)


def _key(tls: ListenerTls | PoolTls, files: TlsFiles) -> Hashable:
    """Equal where nothing differs that a context is made of."""
    if isinstance(tls, ListenerTls):
        defaults = {field.name: field.default for field in msgspec.structs.fields(tls) if field.name in _BESIDE}
        paths = [path for one in tls.certificates for path in (one.cert, one.key_file)]
        paths += [tls.client_ca, tls.client_crl]
        return msgspec.structs.replace(tls, **defaults), tuple(files.content.get(path, b"") for path in paths)
    paths = [tls.ca, tls.cert, tls.key]
    return tls, tuple(files.content.get(path, b"") for path in paths)
