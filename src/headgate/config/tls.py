"""The tables of the schema that are about TLS: on listeners, in routes, and to backends. See `schema`."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal

from headgate.config.hosts import ServerName
from headgate.config.table import FALSE_IS_NONE, Seconds, Struct
from headgate.config.values import Duration, Text, Whole, Wrong, kind_of, quoted, string

File = Annotated[str, Text("a file")]

_DAY_S = 86400.0


class Certificate(Struct, frozen=True, kw_only=True):
    """A certificate and its key, both PEM. A plain string stands for a file with both."""

    EXPECTS: ClassVar[str] = "a file or a table with cert and key"

    cert: File
    """The certificate, and behind it those of the authorities between it and the root, each signed by the next."""
    key: File = ""
    """Its private key, without passphrase. Not set: it is in the file of the certificate."""

    @staticmethod
    def expand(raw: object) -> object:
        """A plain string stands for a file with both."""
        return {"cert": raw} if isinstance(raw, str) else raw

    @property
    def key_file(self) -> str:
        """Where the key is."""
        return self.key or self.cert


class Hsts(Struct, frozen=True, kw_only=True):
    """Strict-Transport-Security (RFC 6797): browsers that were told come by https only. A plain duration stands for a
    table with only max_age."""

    EXPECTS: ClassVar[str] = "a duration or a table"

    max_age: Annotated[float, Duration(lowest_s=1.0, highest_s=10 * 366 * _DAY_S)] = 730 * _DAY_S
    """For so long. Two years: what Mozilla's guideline asks for at least, and lists of browsers accept."""
    include_subdomains: bool = False
    """For every name below the host, too? No: a name that is not served by https would be lost to every browser that
    was told, for `max_age`."""
    preload: bool = False
    """Agree to be put into the lists that browsers come with; needs include_subdomains. No: it takes months to take
    back."""

    @staticmethod
    def expand(raw: object) -> object:
        """A duration stands for a table with only max_age, true for one with the defaults."""
        if raw is True:
            return {}
        return {"max_age": raw} if isinstance(raw, (str, int, float)) and not isinstance(raw, bool) else raw

    @property
    def value(self) -> str:
        """What the header field says."""
        more = ("; includeSubDomains" if self.include_subdomains else "") + ("; preload" if self.preload else "")
        return f"max-age={int(self.max_age)}{more}"


class ListenerTls(Struct, frozen=True, kw_only=True):
    """TLS on a listener."""

    certificates: tuple[Certificate, ...]
    """One or many. A client that names a host (SNI) gets the one for exactly that host, else one for "*." above it,
    else the first of the list, as does one that names none. Of two for the same host, one with an EC and one with an
    RSA key, each client gets the one it understands."""
    policy: Literal["modern", "intermediate", "old"] = "intermediate"
    """Versions and ciphers, as Mozilla's guideline 6.0 has them: "modern" is TLS 1.3 only, "intermediate" 1.2 and 1.3
    with forward secrecy and authenticated ciphers, "old" (guideline 5.8) goes down to 1.0. Intermediate: every browser
    since 2014 can do it."""
    client_ca: File = ""
    """Authorities (PEM) whose certificates clients may show. Not set: clients are not asked for one."""
    client_auth: Literal["required", "optional"] = "required"
    """Must a client show a certificate? Where it is "optional", one without it is served as well, and one with a wrong
    one is refused all the same. Required: who names a `client_ca` wants to know who comes."""
    client_crl: File = ""
    """Lists (PEM) of certificates that were revoked, one for each authority in `client_ca` that issues for clients.
    Not set: none was."""
    handshake_timeout: Seconds = 10.0
    """How long a handshake may take, from the first byte on. As long as a request head (`timeouts.client_header`): a
    few packets, too."""
    max_handshakes: Annotated[int, Whole(1, 10**6, off=True)] = 1000
    """Handshakes in progress, in each worker; who comes beyond that waits in the kernel's queue until one is over. Each
    holds some 50 KiB, so a thousand hold 50 MiB, and `handshake_timeout` ends those that do not go on."""
    hsts: Annotated[Hsts | None, FALSE_IS_NONE] = None
    """A duration, or a table: tell browsers to come by https only. Off: whoever tries TLS out could not go back."""
    watch: bool = False
    """Read the files again when one of them has changed (looked at twice a second)? A pair that is broken or does not
    match is refused, said in the log, and the old one stays. No: `headgate reload`, which tools that renew certificates
    can call, says at once what was wrong."""


class ReadRedirect:
    """Reader of a listener's `redirect_https`: the port that redirects lead to; 0 for none."""

    expects = 'true (port 443), a port, or "off"'

    def __call__(self, raw: object) -> int:
        if raw is True:
            return 443
        if raw is False or raw == "off":
            return 0
        if isinstance(raw, int) and 1 <= raw <= 65535:
            return raw
        got = f"{raw}" if isinstance(raw, int) and abs(raw) < 10**18 else kind_of(raw)
        raise Wrong(f"expected {self.expects}, got {got}")


class ReadFingerprint:
    """Reader of a certificate's SHA-256 fingerprint: 64 hexadecimal digits, with colons or not; lower case without."""

    expects = "a SHA-256 fingerprint (64 hexadecimal digits)"

    def __call__(self, raw: object) -> str:
        text = string(raw, self.expects)
        digits = text.replace(":", "").lower()
        if re.fullmatch(r"[0-9a-f]{64}", digits) is None:
            hint = ""
            if re.fullmatch(r"[0-9a-f]{40}", digits):
                hint = "this is SHA-1; openssl x509 -noout -fingerprint -sha256 -in FILE prints the other"
            raise Wrong(f"{quoted(text)} is not {self.expects}", hint)
        return digits


class ClientCert(Struct, frozen=True, kw_only=True):
    """Whose certificates match. Where both are given, both must."""

    EXPECTS: ClassVar[str] = "true or a table"

    subjects: tuple[Annotated[str, Text("a subject")], ...] = ()
    """Subjects as RFC 4514 writes them, "CN=alice,O=Example": one of them, exactly, as X-Client-Cert-Subject and
    `openssl x509 -noout -subject -nameopt RFC2253` show it. None: any."""
    fingerprints: tuple[Annotated[str, ReadFingerprint()], ...] = ()
    """SHA-256 fingerprints, in hexadecimal: one of them. None: any."""

    @staticmethod
    def expand(raw: object) -> object:
        """true stands for any certificate."""
        return {} if raw is True else raw

    def matches(self, subject: str, fingerprint: str) -> bool:
        """Is it one of these? fingerprint: in lower-case hexadecimal."""
        return (not self.subjects or subject in self.subjects) and (
            not self.fingerprints or fingerprint in self.fingerprints
        )

    def __str__(self) -> str:
        """How a plan names it."""
        found = [*self.subjects, *(f"sha256 {text[:16]}…" for text in self.fingerprints)]
        return " or ".join(found) or "any"


class PoolTls(Struct, frozen=True, kw_only=True):
    """TLS to backends whose URL is https."""

    ca: File = ""
    """Authorities (PEM) that backends' certificates must be signed by; a backend's own self-signed certificate will do.
    Not set: those of the system."""
    server_name: Annotated[str, ServerName()] = ""
    """The name that is asked for (SNI) and that the certificate must be for. Not set: the host in the backend's
    URL."""
    cert: File = ""
    """A certificate (PEM) to show to backends that ask for one. Not set: none."""
    key: File = ""
    """Its private key. Not set: it is in the file of `cert`."""
    verify: bool = True
    """false talks to whoever answers, and says so in the log at every start: anybody on the way can read and change
    everything. Better: name the certificate itself as `ca`."""

    @property
    def key_file(self) -> str:
        """Where the key of `cert` is."""
        return self.key or self.cert
