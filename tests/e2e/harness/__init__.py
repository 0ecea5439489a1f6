"""What the end-to-end tests are made of.

`processes`  starts and ends real programs, and waits for what they print
`ports`      ports the kernel chose, held while nobody listens there
`waiting`    bounded waits on conditions that send no event
`tools`      programs a test needs (nginx, wrk, ...): skip without them, fail in CI
`wire`       a strict reader of HTTP/1.1 messages, written apart from the product's codec so that it can judge it
`client`     a client on a bare socket: sends exactly the bytes it is told to
`backends`   a backend on a bare socket: records every byte, answers by a script
`nginx`      nginx: with any configuration, and as a backend
`servers`    other real servers as backends, all with the same application (`sites`)
`headgate`   the program under test
`memory`     resident memory of a process
"""
