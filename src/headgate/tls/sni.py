"""Which certificate a client gets. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from headgate.tls import x509

Group = tuple[int, ...]
"""Places in the list of certificates: one for each kind of key, of which OpenSSL takes what the client understands."""


class Chooser:
    """Chooses among certificates, given in the order of the configuration, at least one.

    Exactly the name that was asked for, else "*." above it, else the first certificate of all (as nginx has it): a
    client that does not care gets an answer, and one that does refuses the certificate.
    """

    def __init__(self, certificates: Sequence[x509.Certificate]) -> None:
        self._certificates = certificates
        # A name is decided once: exactly named before covered by a star, then the order of the list.
        self._exact: dict[str, Group] = {}
        self._stars: dict[str, Group] = {}
        for name in dict.fromkeys(name for certificate in certificates for name in certificate.names):
            exact = [place for place, one in enumerate(certificates) if name in one.names]
            covered = [place for place, one in enumerate(certificates) if name not in one.names and one.is_for(name)]
            group = self._one_of_each_key((*exact, *covered))
            if name.startswith("*."):
                self._stars[name[2:]] = group
            else:
                self._exact[name] = group
        beside = [
            place for place, one in enumerate(certificates) if place and set(one.names) & set(certificates[0].names)
        ]
        self.default: Group = self._one_of_each_key((0, *beside))

    def choose(self, name: str | None) -> Group:
        """For the name that a client asks for; None: it names none."""
        if not name:
            return self.default
        name = name.lower().removesuffix(".")
        group = self._exact.get(name)
        if group is None:
            group = self._stars.get(name.partition(".")[2], self.default)
        return group

    @property
    def groups(self) -> list[Group]:
        """All that may be chosen, each once; the default first."""
        return list(dict.fromkeys((self.default, *self._exact.values(), *self._stars.values())))

    @property
    def unused(self) -> list[int]:
        """Certificates that nobody will ever get: all their names belong to others before them."""
        used = {place for group in self.groups for place in group}
        return [place for place in range(len(self._certificates)) if place not in used]

    def _one_of_each_key(self, places: Iterable[int]) -> Group:
        kinds: dict[str, int] = {}
        for place in places:
            kinds.setdefault(self._certificates[place].key_type, place)
        return tuple(sorted(kinds.values()))
