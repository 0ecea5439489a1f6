"""TLS beside the request path: certificates, and the `ssl.SSLContext` objects that the engine works with.

`files` says which files a configuration names and holds their bytes; `pem`, `der` and `x509` read them; `pairs` loads a
certificate with its key; `check` says what is wrong with a whole configuration; `sni` decides which certificate a
client gets; `policy` has versions and ciphers; `contexts` puts it all together for listeners and backends; `identity`
is who a client is by its certificate; `expiry` is about dates. Only the standard library is needed: `ssl` has no public
way to read a certificate that it was not just shown in a handshake, so `x509` reads DER itself. Nothing here verifies a
signature: OpenSSL does that.
"""
