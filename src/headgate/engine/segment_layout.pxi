# How the segment is laid out. Included by stats.pyx.

cdef const char *MAGIC = b"headgate"

cdef struct Header:
    char magic[8]
    uint32_t layout
    uint32_t workers
    uint32_t backends
    uint32_t pools
    uint32_t state_size
    uint32_t backend_size
    uint32_t worker_size
    uint32_t histogram_size
    uint64_t size
    uint32_t routes
    uint32_t listeners
    uint32_t pool_size
    uint32_t route_size


cdef size_t rounded(size_t size, size_t unit) noexcept nogil:
    return (size + unit - 1) // unit * unit


cdef Offsets lay_out(int workers, int backends, int pools, int routes, int listeners) noexcept nogil:
    """Where everything is: sections from the segment's start, then those within a worker's part from its start."""
    cdef Offsets o
    cdef size_t histogram = rounded(sizeof(Histogram), LINE)
    o.histogram = histogram
    o.coarse = rounded(sizeof(CoarseHistogram), LINE)
    o.route = rounded(sizeof(RouteCounters), LINE)
    o.states = PAGE
    o.backend_places = o.states + rounded(backends * sizeof(BackendState), PAGE)
    o.pool_places = o.backend_places + rounded(backends * sizeof(BackendPlaces), PAGE)
    o.marks = o.pool_places + rounded(pools * sizeof(PoolPlaces), PAGE)
    o.pool_marks = o.marks + rounded(backends * sizeof(BackendMarks), PAGE)
    o.workers = o.pool_marks + rounded(pools * sizeof(PoolMarks), PAGE)
    o.backends = rounded(sizeof(WorkerCounters), PAGE)
    o.pool_latency = o.backends + rounded(backends * sizeof(BackendCounters), PAGE)
    o.pool_first_byte = o.pool_latency + rounded(pools * histogram, PAGE)
    o.pools = o.pool_first_byte + rounded(pools * histogram, PAGE)
    o.backend_first_byte = o.pools + rounded(pools * sizeof(PoolCounters), PAGE)
    o.routes = o.backend_first_byte + rounded(backends * o.coarse, PAGE)
    o.listeners = o.routes + rounded(routes * o.route, PAGE)
    o.worker = o.listeners + rounded(listeners * sizeof(ListenerCounters), PAGE)
    o.size = o.workers + workers * o.worker
    return o


cdef void fill_header(Header *header, int workers, int backends, int pools, int routes, int listeners) noexcept nogil:
    memset(header, 0, sizeof(Header))
    memcpy(header.magic, MAGIC, 8)
    header.layout = LAYOUT
    header.workers = workers
    header.backends = backends
    header.pools = pools
    header.routes = routes
    header.listeners = listeners
    header.state_size = sizeof(BackendState)
    header.backend_size = sizeof(BackendCounters)
    header.worker_size = sizeof(WorkerCounters)
    header.histogram_size = sizeof(Histogram)
    header.pool_size = sizeof(PoolCounters)
    header.route_size = sizeof(RouteCounters)
    header.size = lay_out(workers, backends, pools, routes, listeners).size
