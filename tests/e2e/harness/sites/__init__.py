"""Applications for real servers, all of them the same: see `servers.py`.

GET /            200, "name\n", the name from the environment (SITE_NAME)
GET /bytes/N     200, N bytes of "x", with Content-Length
GET /chunked/N   200, N bytes of "x", in pieces without a length
HEAD             as GET
POST, PUT        200, "LENGTH SHA256\n" of the body
"""
