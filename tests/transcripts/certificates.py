"""Contexts for both ends of both connections, made once."""

from __future__ import annotations

import functools
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ..pki import Authority, Issued

NAME = "h.example"


def server(issued: Issued) -> ssl.SSLContext:
    """For whoever shows this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as directory:
        context.load_cert_chain(*issued.write(Path(directory), "pair"))
    context.options |= ssl.OP_NO_RENEGOTIATION
    return context


def client(authority: Authority) -> ssl.SSLContext:
    """For whoever trusts this authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=authority.pem.decode())
    return context


@dataclass(frozen=True)
class Contexts:
    """listener and to_backend are the balancer's, client and backend those of its peers."""

    authority: Authority
    listener: ssl.SSLContext
    client: ssl.SSLContext
    to_backend: ssl.SSLContext
    backend: ssl.SSLContext


@functools.cache
def table() -> dict[str, object]:
    """What a configuration must say of a listener that speaks TLS; the engine is given contexts, whatever it says."""
    cert, key = authority().issue(NAME).write(Path(tempfile.mkdtemp()), "pair")
    return {"certificates": [{"cert": cert, "key": key}]}


@functools.cache
def authority() -> Authority:
    return Authority()


def contexts() -> Contexts:
    """Fresh ones, of one authority."""
    root = authority()
    issued = root.issue(NAME)
    return Contexts(root, server(issued), client(root), client(root), server(issued))
