# SPDX-License-Identifier: Apache-2.0
"""Each variable: what a good value does, and that a bad one harms nobody and is told.

    test_settings.py [NAME...]
"""

import json
import os
import re
import signal
import stat
import subprocess
import sys
import time

import web
from harness import (CLIENTS, PATIENT_S, TOOL, Peer, Place, Session, Tap, check, equal, need,
                     own_network, wait_until)

GIVEUP_MS = 700
TRIPS_AT = 5
PYTHON = '/usr/bin/python3'
URLLIB = os.path.join(CLIENTS, 'call_urllib.py')
SERVICE = 'call_urllib.py'


def one(place, peer, **settings):
    """One call by a process of its own."""
    return place.run([PYTHON, URLLIB, peer.name, str(GIVEUP_MS), 'one'], **settings)


def kept(place, peer, **settings):
    return Session(place, [PYTHON, URLLIB, peer.name, str(GIVEUP_MS), 'loop'], **settings)


def calls(place, peer, count, **settings):
    """`count` calls, which must fail the bare way; says how many reached the peer."""
    before = peer.calls()
    for _ in range(count):
        done = one(place, peer, **settings)
        equal(done.status, 1, f'{done}')
        check('Connection refused' in done.text, f'{done}')
    return peer.calls() - before


def tripped(place, peer, **settings):
    equal(calls(place, peer, TRIPS_AT, **settings), TRIPS_AT, 'calls that reached the peer')
    equal(place.state_of(peer.name), 'open', 'state')


def log_lines(path):
    with open(path, encoding='utf-8') as f:
        return [json.loads(line) for line in f]


def until(seconds, began):
    """Waits for the end of a span that began earlier: the product's own subject is time."""
    time.sleep(max(0, began + seconds - time.monotonic()))


def bad(name, value, **others):
    """A bad value: the program runs as bare, and log and status name variable and value."""
    with Place(**others) as place, Peer('healthy') as peer:
        bare = one(place, peer, shim=False)
        log = os.path.join(place.path, 'log')
        done = one(place, peer, **{'LOG': log, name: value})
        equal((done.status, done.out, done.err), (bare.status, bare.out, bare.err),
              'shimmed, bare')
        told = [line for line in log_lines(log) if line['event'] == 'config_error']
        check(told, f'no config_error in the log: {log_lines(log)}')
        text = json.dumps(told)
        check(f'AGENTSHIM_{name}' in text and 'expected' in text, f'unclear: {text}')
        problems = json.dumps(place.status())
        check(re.search(rf'AGENTSHIM_{name}[^"]*found', problems), f'not in status: {problems}')


# ---- good values --------------------------------------------------------------------------

def mode_observe(_):
    with Place(MODE='observe') as place, Peer('refusing') as peer:
        equal(calls(place, peer, TRIPS_AT + 2), TRIPS_AT + 2, 'calls that reached the peer')
        equal(place.state_of(peer.name), 'open', 'state')
        equal([s['mode'] for s in place.status()['services']], ['observe'], 'mode in force')


def mode_off(_):
    with Place(MODE='off') as place, Peer('refusing') as peer:
        equal(calls(place, peer, TRIPS_AT + 1), TRIPS_AT + 1, 'calls that reached the peer')
        check(place.state_of(peer.name) in (None, 'closed'), f'{place.status()}')


def mode_forced_open(_):
    with Place(MODE='forced_open') as place, Peer('refusing') as peer:
        equal(calls(place, peer, 1), 0, 'calls that reached the peer')


def mode_forced_closed(_):
    with Place(MODE='forced_closed') as place, Peer('refusing') as peer:
        equal(calls(place, peer, TRIPS_AT + 1), TRIPS_AT + 1, 'calls that reached the peer')


def recovered_after(successes, **settings):
    with Place(TIMEOUT='1ms', **settings) as place, Peer('refusing') as peer:
        equal(calls(place, peer, TRIPS_AT, TIMEOUT='1h'), TRIPS_AT, 'calls that reached the peer')
        peer.become('healthy')
        for i in range(successes):
            equal(place.state_of(peer.name), 'half-open' if i else 'open', f'after {i} successes')
            equal(one(place, peer).status, 0, 'exit status')
        equal(place.state_of(peer.name), 'closed', f'after {successes} successes')


def max_requests(_):
    recovered_after(1, MAX_REQUESTS=1)
    recovered_after(2, MAX_REQUESTS=2)
    recovered_after(3)


def interval(_):
    with Place(INTERVAL='500ms') as place, Peer('refusing') as peer:
        calls(place, peer, 1)
        began = time.monotonic()
        until(0.6, began)
        calls(place, peer, 1)
        equal(place.breaker(peer.name)['counts']['consecutive_failures'], 1, 'failures counted')
    with Place(INTERVAL='1h') as place, Peer('refusing') as peer:
        calls(place, peer, 2)
        equal(place.breaker(peer.name)['counts']['consecutive_failures'], 2, 'failures counted')


def timeout(_):
    with Place(TIMEOUT='2s') as place, Peer('refusing') as peer:
        tripped(place, peer)
        began = time.monotonic()
        equal(calls(place, peer, 1, TIMEOUT='1h'), 0, 'calls that reached the open peer')
        until(2.1, began)
        equal(calls(place, peer, 1), 1, 'calls that reached the peer after the timeout')


def consecutive_failures(_):
    for limit in (1, 2):
        with Place(CONSECUTIVE_FAILURES=limit) as place, Peer('refusing') as peer:
            equal(calls(place, peer, limit), limit, 'calls that reached the peer')
            equal(place.state_of(peer.name), 'open', 'state')
            equal(calls(place, peer, 1), 0, 'calls that reached the open peer')


def patience(_):
    for settings, failures in (({'PATIENCE': '200ms'}, 1), ({'PATIENCE': '1h'}, 0)):
        with Place(**settings) as place, Peer('silent') as peer:
            equal(one(place, peer).status, 1, 'exit status')
            counts = place.breaker(peer.name)['counts']
            equal(counts['failures'], failures, f'{settings}: {counts}')


def probe_timeout(_):
    with Place(TIMEOUT='1ms', MAX_REQUESTS=1) as place, Peer('refusing') as peer:
        equal(calls(place, peer, TRIPS_AT, TIMEOUT='1h'), TRIPS_AT, 'calls that reached the peer')
        peer.become('silent')
        before = peer.calls()
        # A probe that nobody settles: its process is killed while it waits.
        probe = place.start([PYTHON, URLLIB, peer.name, '30000', 'one'])
        wait_until(lambda: peer.calls() > before, 'the probe under way')
        probe.send_signal(signal.SIGKILL)
        probe.wait()
        equal(calls(place, peer, 1, PROBE_TIMEOUT='1h'), 0, 'calls while the lease holds')
        peer.become('healthy')
        equal(one(place, peer, PROBE_TIMEOUT='1ms').status, 0, 'exit status after the lease')
        equal(place.state_of(peer.name), 'closed', 'state')


def errno_(_):
    with Place(ERRNO='EHOSTUNREACH') as place, Peer('refusing') as peer:
        tripped(place, peer)
        done = one(place, peer)
        check('No route to host' in done.text, f'{done}')


def peers(_):
    with Peer('refusing') as spared, Peer('refusing') as guarded:
        with Place(PEERS=f'*,!{spared.name}') as place:
            equal(calls(place, spared, TRIPS_AT + 1), TRIPS_AT + 1, 'calls to the spared peer')
            check(place.breaker(spared.name) is None, f'{place.status()}')
            tripped(place, guarded)
            equal(calls(place, guarded, 1), 0, 'calls to the guarded peer')
        with Place(PEERS=guarded.name) as place:
            equal(calls(place, spared, TRIPS_AT + 1), TRIPS_AT + 1, 'calls to the unnamed peer')
            tripped(place, guarded)
        with Place(PEERS='!127.0.0.0/8') as place:
            equal(calls(place, guarded, TRIPS_AT + 1), TRIPS_AT + 1, 'calls into a spared network')


def rules(_):
    with Peer('refusing') as strict, Peer('refusing') as other, Peer('refusing') as off:
        with Place(RULES=f'{strict.name} consecutive_failures=2 errno=EHOSTUNREACH; '
                         f'{off.name} mode=off') as place:
            equal(calls(place, strict, 2), 2, 'calls to the strict peer')
            check('No route to host' in one(place, strict).text, 'the rule\'s errno')
            tripped(place, other)
            equal(calls(place, off, TRIPS_AT + 1), TRIPS_AT + 1, 'calls to the peer that is off')


def service(_):
    with Place() as place, Peer('refusing') as peer:
        equal(calls(place, peer, TRIPS_AT, SERVICE='shop'), TRIPS_AT, 'calls of shop')
        equal(calls(place, peer, 1, SERVICE='bank'), 1, 'calls of bank')
        equal(calls(place, peer, 1, SERVICE='shop'), 0, 'calls of shop, tripped')
        # Any program of the name is the same service.
        done = place.run(['curl', '-sS', peer.url], SERVICE='shop')
        equal(done.status, 7, f'{done}')
        states = {s['service']: [b['state'] for b in s['breakers']]
                  for s in place.status()['services']}
        equal(states, {'shop': ['open'], 'bank': ['closed']}, 'services')


def service_odd(_):
    """There is no bad name: what a file name cannot hold is written in percent codes."""
    for name in ('a/b', '../../etc', 'é', 'x' * 300, ' '):
        with Place(SERVICE=name) as place, Peer('refusing') as peer:
            tripped(place, peer)
            equal(calls(place, peer, 1), 0, f'calls of {name!r}')
            for entry in os.scandir(place.state):
                check(len(entry.name) < 128, entry.name)
            equal(os.listdir(os.path.dirname(place.state)), ['state'], 'files elsewhere')


def dir_(_):
    with Place() as place, Peer('refusing') as peer:
        made = os.path.join(place.path, 'made')
        equal(calls(place, peer, TRIPS_AT, DIR=made), TRIPS_AT, 'calls that reached the peer')
        equal(stat.S_IMODE(os.stat(made).st_mode), 0o700, 'mode of the directory')
        check(any(name.endswith('.state') for name in os.listdir(made)), os.listdir(made))
        equal(os.listdir(place.state), [], 'files elsewhere')
        equal(calls(place, peer, 1, DIR=made), 0, 'calls that reached the peer')


def dir_bad(_):
    """A directory that cannot be: the breaker lives in the process alone, and says why."""
    for path in ('relative/path', '/proc/no/such', '/dev/null'):
        with Place() as place, Peer('refusing') as peer:
            log = os.path.join(place.path, 'log')
            caller = kept(place, peer, DIR=path, LOG=log)
            for _ in range(TRIPS_AT):
                check('refused' in caller.call().text, 'bare failure')
            before = peer.packets()
            check('refused' in caller.call().text, 'refusal')
            equal(peer.packets(), before, 'packets')
            equal(caller.close(), 0, 'exit status')
            told = json.dumps([line for line in log_lines(log)
                               if line['event'] in ('state_private', 'config_error')])
            check(path in told or 'AGENTSHIM_DIR' in told, f'{path}: {log_lines(log)}')


def log(_):
    with Place() as place, Peer('refusing') as peer:
        path = os.path.join(place.path, 'log')
        tripped(place, peer, LOG=path)
        changes = [line for line in log_lines(path) if line['event'] == 'state_change']
        equal([(c['from'], c['to'], c['breaker']) for c in changes],
              [('closed', 'open', peer.name)], 'state changes')
    for stream in ('out', 'err'):
        with Place() as place, Peer('refusing') as peer:
            bare = one(place, peer, shim=False)
            done = [one(place, peer, LOG=f'std{stream}') for _ in range(TRIPS_AT)][-1]
            extra = getattr(done, stream).replace(getattr(bare, stream), '', 1)
            check('state_change' in [json.loads(line)['event'] for line in extra.splitlines()],
                  f'{done}')
            other = 'err' if stream == 'out' else 'out'
            equal(getattr(done, other), getattr(bare, other), 'the other stream')
    with Place() as place, Peer('refusing') as peer:
        bare = one(place, peer, shim=False)
        for i in range(TRIPS_AT + 1):
            done = one(place, peer)
            equal((done.out, done.err), (bare.out, bare.err), f'unasked, call {i}')


def log_bad(_):
    with Place() as place, Peer('refusing') as peer:
        bare = one(place, peer, shim=False)
        for _ in range(TRIPS_AT):
            done = one(place, peer, LOG='/no/such/directory/log')
            equal((done.status, done.text), (bare.status, bare.text), 'shimmed, bare')
        equal(place.state_of(peer.name), 'open', 'state')
        problems = json.dumps(place.status())
        check('AGENTSHIM_LOG' in problems, f'not in status: {problems}')


def log_level(_):
    for level in ('warn', 'info'):
        with Place(LOG_LEVEL=level) as place, Peer('refusing') as peer:
            path = os.path.join(place.path, 'log')
            tripped(place, peer, LOG=path)
            levels = {line['level'] for line in log_lines(path)}
            check('warn' in levels, f'{level}: {levels}')
            if level == 'warn':
                equal(levels, {'warn'}, 'levels of the lines')


def span_records(_):
    """It counts when the file is made; who finds one goes by that, and has breakers all the same."""
    def made(place):
        return [os.stat(e.path).st_size for e in os.scandir(place.state)
                if e.name.endswith('.spans')]

    with Place(SPAN_RECORDS=20, TIMEOUT='1h') as place, Peer('refusing') as peer:
        tripped(place, peer)
        equal(made(place), [4096 + 64 + 16 * (64 + 20 * 256)], 'size of the file')
        equal(calls(place, peer, 1, SPAN_RECORDS=4000), 0, 'calls that reached the peer')
        equal(made(place), [4096 + 64 + 16 * (64 + 20 * 256)], 'size of the file')
        equal(place.status()['services'][0]['problems'], [], 'problems')


def disable(_):
    with Place(DISABLE=1) as place, Peer('refusing') as peer:
        equal(calls(place, peer, TRIPS_AT + 1), TRIPS_AT + 1, 'calls that reached the peer')
        equal(os.listdir(place.state), [], 'files')
    with Place(DISABLE=0) as place, Peer('refusing') as peer:
        tripped(place, peer)
        equal(calls(place, peer, 1), 0, 'calls that reached the peer')


# ---- traces -------------------------------------------------------------------------------

TRACE, PARENT = '0af7651916cd43dd8448eb211c80319c', 'b7ad6b7169203331'
CAME = ('traceparent', f'00-{TRACE}-{PARENT}-01')
OURS = ('traceparent', 'tracestate', 'baggage', 'x-trace-id', 'b3', 'uber-trace-id')


def ours(request):
    return {name.lower(): value for name, value in request.fields if name.lower() in OURS}


def asked(answer=None, env=None, **settings):
    """One call of a client, what of ours went with it, and the spans that its log has."""
    with Place() as place, web.Recorder(answer) as callee:
        log = web.Log(place, 'client')
        done = one(place, callee, env=env, **log.settings, **settings)
        equal(done.status, 0, f'{done}')
        return ours(callee.requests[0]), log.spans()


def served(sent, spans=0, env=None, **settings):
    """What leaves with the call that a service makes for one request, and the service's spans.

    It is waited for that many spans: the last of them ends when the answer is out.
    """
    with Place() as place, web.Recorder() as callee:
        log = web.Log(place, 'service')
        service = web.service('urllib', place, env=env, **log.settings, **settings)
        link = web.Link(service.port)
        link.post([callee.url + '/'], sent)
        link.close()
        log.wait(spans)
        service.close()
        return callee.requests[0], log.spans()


def traced_by_default(_):
    fields, spans = asked()
    equal(sorted(fields), ['traceparent', 'x-trace-id'], 'fields')
    equal([(s['kind'], s['trace_id'], s['span_id']) for s in spans],
          [('client', *fields['traceparent'].split('-')[1:3])], 'spans')


def traced_anyhow(_):
    """Whatever breakers are told; but a peer that is left out is left alone."""
    for settings in ({'MODE': 'off'}, {'MODE': 'observe'}, {'MODE': 'forced_closed'},
                     {'RULES': '127.0.0.1 mode=off'}):
        fields, spans = asked(**settings)
        equal((sorted(fields), len(spans)), (['traceparent', 'x-trace-id'], 1), f'{settings}')
    equal(asked(PEERS='!127.0.0.1'), ({}, []), 'fields and spans with a peer left out')


def untraced(env=None, **settings):
    """Nothing is added and nothing told, but the breaker counts answers all the same."""
    equal(asked(env=env, **settings), ({}, []), 'fields and spans')
    request, spans = served([CAME], env=env, **settings)
    equal((ours(request), spans), ({}, []), 'fields and spans of a service')
    with Place(TIMEOUT='1h') as place, web.Recorder(lambda _: web.reply('500 Wrong')) as callee:
        for _ in range(TRIPS_AT):
            one(place, callee, env=env, **settings)
        equal(place.state_of(callee.name), 'open', 'state after answers 500')


def trace_off(_):
    for word in ('off', 'FALSE', '0'):
        equal(asked(TRACE=word), ({}, []), f'fields and spans with {word}')
    untraced(TRACE='off')


def sdk_disabled(_):
    untraced(env={'OTEL_SDK_DISABLED': 'true'})
    untraced(env={'OTEL_SDK_DISABLED': 'false'}, TRACE='off')
    untraced(env={'OTEL_SDK_DISABLED': 'true'}, TRACE='on')


def egress(_):
    for rule, goes in (('private', True), ('!private', False), ('127.0.0.0/8', True),
                       ('*,!127.0.0.1', False), ('*.example.com', False),
                       ('10.0.0.0/99', False)):
        fields, spans = asked(EGRESS=rule)
        equal(bool(fields), goes, f'EGRESS={rule}: fields {fields}')
        equal([s['kind'] for s in spans], ['client'], f'EGRESS={rule}: spans')


def forward_headers(_):
    sent = [CAME, ('X-Request-Id', 'r-1'), ('Authorization', 'secret'), ('X-Tenant', 'blue')]

    def forwarded(request):
        return sorted((name, value) for name, value in request.fields
                      if name.lower() in ('x-request-id', 'authorization', 'x-tenant'))

    equal(forwarded(served(sent)[0]), [], 'headers passed on unasked')
    equal(forwarded(served(sent, FORWARD_HEADERS='X-Request-ID')[0]), [('x-request-id', 'r-1')],
          'one name')
    equal(forwarded(served(sent, FORWARD_HEADERS='authorization,x-tenant')[0]),
          [('x-tenant', 'blue')], 'a name that is refused')


def through_nginx(**settings):
    """The traceparent that nginx passes on, and its spans."""
    need('nginx')
    with Place() as place, web.Recorder() as callee:
        log = web.Log(place, 'nginx', place.state)
        nginx = web.Proxy(place, f'''
	server {{ listen 127.0.0.1:{{port}}; location / {{ proxy_pass http://{callee.name}; }} }}''',
                          workers=1, **log.settings, **settings)
        link = web.Link(nginx.port)
        equal(link.ask('GET', '/', [CAME])[0], 200, 'status')
        link.close()
        log.wait(2)
        nginx.close()
        return ours(callee.requests[0])['traceparent'], {s['kind']: s for s in log.spans()}


def rewrite(_):
    value, spans = through_nginx()
    equal(value, f'00-{TRACE}-{spans["client"]["span_id"]}-01', 'traceparent that was rewritten')
    equal(spans['client']['parent_span_id'], spans['server']['span_id'], 'parent of the client')
    value, spans = through_nginx(REWRITE='off')
    equal(value, CAME[1], 'traceparent that was left')
    equal((spans['server']['parent_span_id'], spans['client']['trace_id']), (PARENT, TRACE),
          'place of the spans')


def samplers(_):
    """name, argument: is a new trace sampled, one that came sampled, one that came unsampled?"""
    for name, arg, new, yes, no in (
            ('always_on', None, True, True, True), ('always_off', None, False, False, False),
            ('parentbased_always_on', None, True, True, False),
            ('parentbased_always_off', None, False, True, False),
            ('traceidratio', '0', False, False, False), ('traceidratio', '1.0', True, True, True),
            ('parentbased_traceidratio', '0', False, True, False),
            ('parentbased_traceidratio', '1', True, True, False)):
        env = {'OTEL_TRACES_SAMPLER': name, **({'OTEL_TRACES_SAMPLER_ARG': arg} if arg else {})}
        for sent, sampled in (([], new), ([CAME], yes), ([(CAME[0], CAME[1][:-1] + '0')], no)):
            request, spans = served(sent, 2 * sampled, env=env)
            flags = ours(request)['traceparent'][-2:]
            equal(flags[1] in '13', sampled, f'{name} {arg}, {sent}: sampled by its flags {flags}')
            equal(sorted(s['kind'] for s in spans), ['client', 'server'] if sampled else [],
                  f'{name} {arg}, {sent}: spans')


def propagators(_):
    for value, fields in (('b3', ['b3']), ('jaeger,b3', ['b3', 'uber-trace-id']), ('none', []),
                          ('tracecontext', ['traceparent']), ('xray,b3', ['b3'])):
        equal(sorted(asked(env={'OTEL_PROPAGATORS': value})[0]), fields, f'fields of {value}')


def environment(_):
    """A script's calls are children of the job that started it; what a service is asked is not."""
    env = {'TRACEPARENT': CAME[1], 'TRACESTATE': 'job=1'}
    fields, spans = asked(env=env)
    equal(fields, {'traceparent': f'00-{TRACE}-{spans[0]["span_id"]}-01', 'tracestate': 'job=1',
                   'x-trace-id': TRACE}, 'fields of a script')
    equal(spans[0]['parent_span_id'], PARENT, 'parent of its span')
    check(TRACE not in str(ours(served([], env=env)[0])), 'a served request is in the job\'s trace')


def otel_bad(name, value, **env):
    """A bad value of OpenTelemetry's: the default stands, and log and status say so."""
    def story(_):
        with Place() as place, web.Recorder() as callee:
            log = os.path.join(place.path, 'log')
            done = one(place, callee, env={name: value, **env}, LOG=log)
            equal(done.status, 0, f'{done}')
            equal(sorted(ours(callee.requests[0])), ['traceparent', 'x-trace-id'], 'fields')
            told = json.dumps([line for line in log_lines(log) if line['event'] == 'config_error'])
            check(name in told and 'stands' in told, f'unclear: {told}')
            check(name in json.dumps(place.status()), 'not in status')
    return story


# ---- on a running process -----------------------------------------------------------------

def switch(place, verb):
    done = subprocess.run([TOOL, verb, SERVICE], env=place.env(True) | {'LD_PRELOAD': ''},
                          capture_output=True, text=True, timeout=PATIENT_S, check=False)
    equal(done.returncode, 0, f'agentshim {verb}: {done.stdout}{done.stderr}')


def switches(_):
    with Place(TIMEOUT='1h') as place, Peer('refusing') as peer:
        caller = kept(place, peer)

        def reached():
            before = peer.packets()
            check('refused' in caller.call().text, 'the call fails either way')
            return peer.packets() > before

        for i in range(TRIPS_AT):
            check(reached(), f'call {i}')
        check(not reached(), 'the tripped breaker refuses')
        for verb, passes in (('off', True), ('on', False), ('observe', True), ('on', False)):
            switch(place, verb)
            equal(reached(), passes, f'the first call after {verb} reached the peer')
        equal(caller.close(), 0, 'exit status')


def switch_unknown(_):
    with Place() as place:
        done = subprocess.run([TOOL, 'off', 'nobody'], env=place.env(True) | {'LD_PRELOAD': ''},
                              capture_output=True, text=True, timeout=PATIENT_S, check=False)
        check(done.returncode != 0 and 'nobody' in done.stderr, f'{done}')


GOOD = {
    'MODE=observe decides and reports, never refuses': mode_observe,
    'MODE=off leaves calls alone': mode_off,
    'MODE=forced_open refuses': mode_forced_open,
    'MODE=forced_closed never refuses': mode_forced_closed,
    'MAX_REQUESTS successes close': max_requests,
    'INTERVAL clears the counts': interval,
    'TIMEOUT ends the open state': timeout,
    'CONSECUTIVE_FAILURES trips at the number': consecutive_failures,
    'PATIENCE tells a timeout from a change of mind': patience,
    'PROBE_TIMEOUT frees the place of a killed probe': probe_timeout,
    'ERRNO is what connect says': errno_,
    'PEERS chooses who is guarded': peers,
    'RULES settle one peer': rules,
    'SERVICE shares and separates': service,
    'SERVICE may be any text': service_odd,
    'DIR is made and used': dir_,
    'DIR that cannot be leaves private breakers': dir_bad,
    'LOG writes lines where asked, else nothing': log,
    'LOG that cannot be opened harms nobody': log_bad,
    'LOG_LEVEL chooses the lines': log_level,
    'SPAN_RECORDS is what a new file has': span_records,
    'DISABLE=1 makes the shim inert': disable,
    'TRACE unset traces': traced_by_default,
    'TRACE goes on whatever the mode of breakers': traced_anyhow,
    'TRACE=off adds nothing and tells nothing': trace_off,
    'OTEL_SDK_DISABLED=true is the same': sdk_disabled,
    'EGRESS says who gets our contexts': egress,
    'FORWARD_HEADERS are passed on, and only they': forward_headers,
    'REWRITE=off leaves what a proxy passes on': rewrite,
    'OTEL_TRACES_SAMPLER chooses the traces': samplers,
    'OTEL_PROPAGATORS chooses the formats': propagators,
    'TRACEPARENT is the parent of what a script asks': environment,
    'OTEL_TRACES_SAMPLER=sometimes is told and the default stands':
        otel_bad('OTEL_TRACES_SAMPLER', 'sometimes'),
    'OTEL_TRACES_SAMPLER_ARG=2 is told and the default stands':
        otel_bad('OTEL_TRACES_SAMPLER_ARG', '2', OTEL_TRACES_SAMPLER='traceidratio'),
    'OTEL_SDK_DISABLED=perhaps is told and the default stands':
        otel_bad('OTEL_SDK_DISABLED', 'perhaps'),
    'agentshim off, on, observe act on a running process within one call': switches,
    'agentshim off of an unknown service says so': switch_unknown,
}

BAD = {
    'MODE': 'sometimes',
    'MAX_REQUESTS': '5000',
    'INTERVAL': '10',
    'TIMEOUT': '30 parsecs',
    'CONSECUTIVE_FAILURES': '-1',
    'PATIENCE': 'long',
    'PROBE_TIMEOUT': '99999999999h',
    'ERRNO': 'EWHATEVER',
    'PEERS': '10.0.0.0/99',
    'RULES': 'payments:443 timeout=parsecs',
    'LOG_LEVEL': 'loud',
    'SPAN_RECORDS': '1',
    'TRACE': 'perhaps',
    'EGRESS': '10.0.0.0/99',
    'FORWARD_HEADERS': 'authorization',
    'REWRITE': 'maybe',
    'FAILURE_STATUS': '999',
    'DISABLE': 'perhaps',
}


def main():
    tap = Tap()
    own_network()
    wanted = sys.argv[1:]
    for name, story in GOOD.items():
        if not wanted or name.split()[0].split('=')[0] in wanted:
            with tap.case(name):
                story(tap)
    for name, value in BAD.items():
        if not wanted or name in wanted:
            with tap.case(f'{name}={value} is told and the default stands'):
                bad(name, value)
    return tap.done()


if __name__ == '__main__':
    sys.exit(main())
