# SPDX-License-Identifier: Apache-2.0
"""Writes the tables of docs/coverage.md from what a run of the programs suite said.

    coverage.py build/meson-logs/testlog.json > docs/coverage.md

A cell is what its cases came to: `yes` when the client tripped the breaker at the fifth
failure, was refused without a packet and recovered; the reason where it cannot be counted.
Of traces: how many rows of contexts.py a program passed, which HTTP outcomes it showed, and
the numbers of each workload of test_correlation.py.
"""

import json
import re
import sys

from harness import Peer

CASE = re.compile(r'(not )?ok \d+ - (.+?): (\S+) peer(?: on ::1)?, (.*)')
REASON = re.compile(r'# cell (.+?): (\S+) peer: (.*)')
CONTEXT = re.compile(r'(not )?ok \d+ - (\S+): .*')
OUTCOME = re.compile(r'(not )?ok \d+ - outcomes of (\S+): (\S+) .*')
WORKLOAD = re.compile(r'# workload (.+?): correct (\d+), orphan (\d+), crossed (\d+)')
OUTCOMES = {'500': '500 opens it, refused without a byte, closes', '404': '404 is none',
            'a': 'closed while idle is none'}
PROGRAMS = {'c': 'C, libcurl', 'curl': 'curl', 'java': 'Java, HttpServer and HttpURLConnection',
            'http.client': 'Python, http.server and http.client', 'nginx': 'nginx, kept upstream',
            'requests': 'Python, requests', 'session': 'Python, requests with a Session',
            'urllib': 'Python, urllib', 'aiohttp': 'Python, aiohttp', 'node': 'node, http'}
PHASES = ('trips at', 'next call refused', 'recovers')

HEAD = '''# What is covered

This page is written by `tests/programs/coverage.py` from a run of the programs suite.

Each client runs unmodified, first bare, then under the shim, against a peer on loopback that
is sick in one way. A cell says `yes` when all of this was seen: the client failed as it does
bare; the breaker opened at the fifth failed connection; the next call was refused without a
packet on the wire, in the client's own words for "connection refused"; and after the timeout
three successful calls closed the breaker. With a healthy peer each gives the same output and
exit status as bare. *Kept running* is one process for all calls, else each call is a process.

Each sick peer is on 127.0.0.1; curl also meets a refusing one on ::1. *Unanswered* is a full
backlog, where SYNs are dropped; *silent* accepts and never answers, and the client gives up
after its own time limit, which is longer than the patience set; *resetting-late* reads the
request before it resets. nginx has four workers, which run as `www-data` where root starts it.
'''

TRACES = '''
## Traces

Contexts in and out: rows of `tests/programs/contexts.py` that the program passed as a service
that holds no tracing code, over sockets; each is a request with some context, or none, or a
broken one, and what must leave with the calls made for it. Outcomes: what the breaker made of
answers to the program as a client that keeps its connections, where it can.
'''

CORRELATION = '''
Whose child is a call? Of 400 requests to each, 40 at once, 300 bring a context, and each call
made for one of these is in its trace, in a trace of its own (an orphan), or in another
request's (crossed, which is a bug always). Servers that serve one request at a time in each
thread or process have no orphans. *executor* reads in one thread and answers in others, and
php's own server polls all its connections. On event loops a call is ascribed to a request only
where nothing else can be meant, which in nginx is nearly always, and in node and asyncio never.
'''

TAIL = '''
What is shared and survives is shown by `tests/programs/test_shared.py`: one breaker for the
workers of a prefork server, of nginx and of PHP-FPM, also after a reload. For a binary upgrade
(USR2) nginx passes on only the variables that its configuration names, so it needs
`env LD_PRELOAD;` and an `env` line for each `AGENTSHIM_` variable in use; else the new binary
starts without the shim.

## How a connection is judged

A connection's outcome is open from `connect` to the first sign: a byte from the peer is a
success; an error, an end before any byte, or waiting in vain for `patience` is a failure. What
says nothing about the peer is excluded and moves no count but its own: faults of this process,
a kernel without a route, an idle connection that the peer closes, a request after one that said
`Connection: close`, giving up sooner than patience, a proxy's client that hung up first, a sibling
connection that did better, and an address that failed while its name has another to try next.

## What is not covered, or judged wrongly

`agentshim doctor PROGRAM|PID` says of one program, or of a running process, which of this applies.

- Nothing is seen of static programs, of Go, of io_uring and of programs that enter the kernel
  by themselves; setuid programs leave every preload out.
- A program that ends by a signal or `_exit` settles nothing. While half-open its place comes
  back after `probe_timeout`.
- A client that only writes, closes a second or more after its last write and never reads (some
  log and metrics senders) looks like one that gave up on a silent peer. Give its peer a rule
  with a longer `patience`, or `mode=off`.
- A proxy that reads ahead on an idle connection and gives it up later looks the same.
- A proxy that closes its client's connection before its own call counts that call as a failure,
  though the client left first.
- Of a name with several addresses only the last one's failure to connect counts, since a program
  tries them in turn; one that never does is noticed after eight such failures in one process.
- A protocol that keeps connections is judged once each, by the first answer.
- A thread created for a request inherits it only while that is all the process works on: of several, nobody can
  tell whose job a pool's worker was handed, so there calls from other threads begin traces of their own. Threads
  of C11 (`thrd_create`) libc creates past every hook.
- A server that reads a request in one thread and answers it in another (Puma, whose reactor does) is
  as *executor* above: its calls begin traces of their own.
- A proxy that writes a request's head in several pieces (tinyproxy) passes on `traceparent` with the
  parent id that came: the span of its call is recorded, but the next service's is not below it.
- A connect that fails or is refused leaves no span, but for libcurl's transfers; breakers count it all the same.
- What libc starts by itself, for `system(3)`, `popen(3)` and `wordexp(3)`, it starts past every hook: such
  children get the program's environment as it is, and no `TRACEPARENT` of the request at hand. Programs
  that fork and exec by themselves, as Python, Perl, Ruby, PHP's `proc_open` and shells do, and Java, are
  seen.
- Inside TLS a program is traced and judged by its answers where it calls OpenSSL (`SSL_read`, `SSL_write`, their `_ex`) or
  GnuTLS (`gnutls_record_send`, `_recv`) that it is linked to, or loads. Not so Java (JSSE), Node, Go, rustls and what brings a
  BoringSSL of its own (grpcio's secure channels): these are judged once for each connection, by the first bytes. Nor where TLS
  begins later on a connection (STARTTLS, PostgreSQL's sslmode, through an HTTP proxy's CONNECT), where a client sends early
  data, GnuTLS' packets or ranges, and where a program writes by `BIO_write` on a BIO of the session.
- A record inside TLS carries up to 16 KiB of a program's call together with our fields; where the session may write in parts
  (`SSL_MODE_ENABLE_PARTIAL_WRITE`, GnuTLS) a call with a head in it may so return less than it would bare.
- Of a GnuTLS client and a GnuTLS server that talk to each other in one process neither is followed.
- A certificate that the program refuses in its handshake is a failure of the peer; one that it looks at afterwards by itself
  (wget) is not.
- HTTP/2 that comes by an upgrade from HTTP/1 is not followed; nor are streams beyond 128 at once on a connection. A proxy over
  HTTP/2 (nginx's grpc_pass) passes a `traceparent` on with the parent id that came. Calls over a connection that several
  threads share begin traces of their own while the process works on more than one request.
- libcurl is seen where a program calls it through its import table: not where it is linked in
  statically, nor in extensions loaded with RTLD_DEEPBIND, but for PHP's (`AGENTSHIM_DEEPBIND`). Its transfers through an HTTP
  proxy, by CURLOPT_CONNECT_TO, over a UNIX socket, with CURLOPT_CONNECT_ONLY or with a URL given
  as a CURLU are left to their sockets, but for the header and the span of https through a proxy
  or CURLOPT_CONNECT_TO. Whether NO_PROXY names a host is not looked at.
- Where a setting depends on addresses (a network, an address, `private`) a transfer to a name is
  left to its sockets until the name was looked up once in the process; under
  `AGENTSHIM_EGRESS` one that follows redirections gets no header.
- A transfer of libcurl that was redirected is one span; its first host is judged well, and each
  other host by its connection.
- A program that has two libcurls and reaches one through a function of a plugin whose last act is
  the call (a tail call) looks as if it called itself: its handles are the other libcurl's.
- Under a seccomp filter that the program sets itself (`prctl` or `seccomp` through libc) it goes
  unguarded from then on. A filter set before its start must allow what we call at load and at
  the first connect, or `AGENTSHIM_DISABLE=1` is to be set: `membarrier madvise readlink getcwd
  newfstatat openat mkdir fallocate prlimit64 getrandom pread64 linkat unlinkat mmap
  rt_sigprocmask getpid gettid geteuid getsockopt getpeername`.
- A service's three files take 5 MiB of `/dev/shm`, which a container's memory limit counts;
  `AGENTSHIM_SPAN_RECORDS` makes them smaller or larger.
- `/dev/shm` files truncated by the same user while they are mapped are SIGBUS in the kernel.
'''


def lines_of(log):
    """(name of the test, line that it said)"""
    with open(log, encoding='utf-8') as f:
        for entry in map(json.loads, f):
            for line in entry.get('stdout', '').splitlines():
                yield entry['name'], line


def rows(log):
    cells, reasons, order = {}, {}, []
    for _, line in lines_of(log):
        if found := REASON.match(line):
            reasons[found[1], found[2]] = found[3]
        elif (found := CASE.match(line)) and found[3] in Peer.SICK:
            if found[2] not in order:
                order.append(found[2])
            cells.setdefault((found[2], found[3]), []).append((not found[1], found[4]))
    return sorted(order), cells, reasons


def cell(cases):
    if not cases:
        return ''
    if not all(ok for ok, _ in cases):
        return '**no**'
    if any(text.startswith('uncounted') for _, text in cases):
        return 'not counted'
    seen = [any(text.startswith(phase) for _, text in cases) for phase in PHASES]
    return 'yes' if all(seen) else 'bare only'


def traces(log):
    """{program: [rows of contexts passed, failed]}, {(program, outcome): passed}, [numbers]"""
    contexts, outcomes, workloads = {}, {}, []
    for test, line in lines_of(log):
        if 'contexts by' in test and (found := CONTEXT.match(line)):
            contexts.setdefault(found[2], [0, 0])[bool(found[1])] += 1
        elif found := OUTCOME.match(line):
            outcomes[found[2], found[3]] = not found[1]
        elif found := WORKLOAD.match(line):
            workloads.append(found.groups())
    return contexts, outcomes, workloads


def print_traces(log):
    contexts, outcomes, workloads = traces(log)
    said = {None: '', True: 'yes', False: '**no**'}
    print(TRACES)
    print('| program | contexts in and out | ' + ' | '.join(OUTCOMES.values()) + ' |')
    print('|---' * (2 + len(OUTCOMES)) + '|')
    for program in sorted({*contexts, *(p for p, _ in outcomes)}, key=PROGRAMS.get):
        passed, failed = contexts.get(program, (0, 0))
        rows_passed = f'{passed} of {passed + failed}' if passed + failed else ''
        print(f'| {PROGRAMS[program]} | {rows_passed} | '
              + ' | '.join(said[outcomes.get((program, o))] for o in OUTCOMES) + ' |')
    print(CORRELATION)
    print('| workload | correct | orphan | crossed |\n|---|---|---|---|')
    for numbers in workloads:
        print('| ' + ' | '.join(numbers) + ' |')


def main():
    order, cells, reasons = rows(sys.argv[1])
    print(HEAD)
    print('| client | ' + ' | '.join(Peer.SICK) + ' |')
    print('|---' * (len(Peer.SICK) + 1) + '|')
    for name in order:
        print(f'| {name} | ' + ' | '.join(cell(cells.get((name, kind))) for kind in Peer.SICK)
              + ' |')
    print()
    for (name, kind), reason in sorted(reasons.items()):
        print(f'- {name}, {kind} peer, not counted: {reason}.')
    print_traces(sys.argv[1])
    print(TAIL, end='')


if __name__ == '__main__':
    main()
