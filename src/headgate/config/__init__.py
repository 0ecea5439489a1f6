"""One schema for TOML, YAML, JSON, flags and the API.

`schema.py` is the table of all keys with their defaults and reasons; `values.py`, `hosts.py` and `addresses.py` read
single values; `walk.py` turns a raw tree into the schema's types by their annotations; `validate.py` adds what concerns
several keys, and reports all mistakes at once; `load.py` reads files, with `locate.py` and `yaml_file.py` finding the
line of a key; `simple.py` is the short form behind `headgate proxy`; `reference.py` prints docs/configuration.md.
"""
