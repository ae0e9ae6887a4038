#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""`agentshim metrics` adds up to what a client counted itself (TAP).

A client calls servers that answer, fail and are away, some of it over kept connections, in
several processes at once; each counts its own calls. The sums in shared memory are theirs.

usage: test_metrics.py
"""
import json
import re
import subprocess
import sys
from collections import Counter

from harness import PATIENT_S, TOOL, Peer, Place, Tap, check, equal
from web import PYTHON, Recorder, reply

PROCESSES = 4
ROUNDS = 25
CLIENT = '''
import collections, http.client, json, sys, urllib.error, urllib.request
told = collections.Counter()
web, away = sys.argv[1], sys.argv[2]
for status in ("200", "200", "404", "500", "204") * int(sys.argv[3]):
    try:
        told[str(urllib.request.urlopen(f"http://{web}/{status}").status)] += 1
    except urllib.error.HTTPError as error:
        told[str(error.code)] += 1
kept = http.client.HTTPConnection(web)
for _ in range(10):
    kept.request("GET", "/200")
    answer = kept.getresponse()
    answer.read()
    told[str(answer.status)] += 1
for _ in range(3):
    try:
        urllib.request.urlopen(f"http://{away}/")
    except OSError:
        told["away"] += 1
print(json.dumps(told))
'''


def metrics(place):
    """{(name, labels without the service): value} over all services of the place."""
    page = subprocess.run([TOOL, 'metrics'], env=place.env(False) | {'AGENTSHIM_DIR': place.state},
                          capture_output=True, text=True, check=True, timeout=PATIENT_S).stdout
    sums = Counter()
    for line in page.splitlines():
        if line.startswith('#'):
            continue
        name, labels, value = re.fullmatch(r'(\w+)\{(.*)\} (\S+)', line).groups()
        labels = frozenset(l for l in re.findall(r'\w+="[^"]*"', labels)
                           if not l.startswith('service='))
        sums[name, labels] += float(value)
    return sums


def of(sums, name, **labels):
    wanted = {f'{key}="{value}"' for key, value in labels.items()}
    return round(sum(value for (key, found), value in sums.items()
                     if key == name and wanted <= found), 6)


def answer(request):
    status = request.target[1:]
    return reply(status='204 No Content' if status == '204' else f'{status} X',
                 body=b'' if status == '204' else b'x')


def clients_own_count(tap):
    with Place(CONSECUTIVE_FAILURES=1000) as place, Recorder(answer) as web, Peer('refusing') as away:
        argv = [PYTHON, '-c', CLIENT, web.name, away.name, str(ROUNDS)]
        with tap.case('every process ends well'):
            running = [place.start(argv, stdout=subprocess.PIPE) for _ in range(PROCESSES)]
            told = Counter()
            for child in running:
                told.update(json.loads(child.communicate(timeout=PATIENT_S)[0]))
            equal(told['away'], 3 * PROCESSES, 'calls to the peer that is away')
            equal(told['200'], (2 * ROUNDS + 10) * PROCESSES, 'answers 200')
        sums = metrics(place)
        answered = sum(n for status, n in told.items() if status != 'away')
        failed = told['500']
        with tap.case('calls of a breaker by outcome'):
            calls = 'agentshim_breaker_calls_total'
            equal(of(sums, calls, peer=web.name, outcome='success'), answered - failed, 'success')
            equal(of(sums, calls, peer=web.name, outcome='failure'), failed, 'failure')
            equal(of(sums, calls, peer=away.name, outcome='failure'), told['away'], 'away')
            equal(of(sums, calls, outcome='excluded'), 0, 'excluded')
        with tap.case('calls by the state that admitted them'):
            asked = 'agentshim_breaker_requests_total'
            equal(of(sums, asked, state='closed'), answered + told['away'], 'closed')
            equal(of(sums, asked, state='half_open'), 0, 'half open')
            equal(of(sums, asked, state='refused'), 0, 'refused')
        with tap.case('spans, errors, traces'):
            equal(of(sums, 'agentshim_spans_total', kind='client'), answered, 'client spans')
            equal(of(sums, 'agentshim_spans_total', kind='server'), 0, 'server spans')
            errors = told['404'] + told['500']
            equal(of(sums, 'agentshim_spans_errors_total'), errors, 'spans with an error')
            equal(of(sums, 'agentshim_traces_started_total'), answered, 'traces started')
            equal(of(sums, 'agentshim_traces_completed_total'), answered, 'traces completed')
            equal(of(sums, 'agentshim_traces_errors_total'), errors, 'traces with an error')
            equal(of(sums, 'agentshim_spans_dropped_total'), 0, 'spans dropped')
        with tap.case('durations'):
            name = 'agentshim_span_duration_seconds'
            equal(of(sums, f'{name}_count', kind='client'), answered, 'count')
            equal(of(sums, f'{name}_bucket', kind='client', le='+Inf'), answered, 'last bucket')
            check(0 < of(sums, f'{name}_sum', kind='client') < answered * PATIENT_S, 'sum')
        with tap.case('coverage'):
            equal(of(sums, 'agentshim_coverage_total', what='injected'), answered, 'injected')
            equal(web.count(), answered, 'requests that the server had')
            check(all([n.lower() for n, _ in r.fields].count('traceparent') == 1
                      for r in web.requests), 'each with one traceparent')


def breaker_that_opens(tap):
    with Place(CONSECUTIVE_FAILURES=2) as place, Peer('refusing') as away:
        client = ('import sys, urllib.request\n'
                  'for _ in range(7):\n'
                  '    try: urllib.request.urlopen(sys.argv[1])\n'
                  '    except OSError: pass\n')
        with tap.case('an opening and its refusals'):
            done = place.run([PYTHON, '-c', client, away.url])
            equal(done.status, 0, 'the client ends')
            sums = metrics(place)
            equal(of(sums, 'agentshim_breaker_transitions_total', **{'from': 'closed', 'to': 'open'}),
                  1, 'closed to open')
            equal(of(sums, 'agentshim_breaker_requests_total', state='refused'), 5, 'refused')
            equal(of(sums, 'agentshim_breaker_state', state='open'), 1, 'open')
            equal(of(sums, 'agentshim_breaker_state', state='closed'), 0, 'closed')


def main():
    tap = Tap()
    clients_own_count(tap)
    breaker_that_opens(tap)
    return tap.done()


if __name__ == '__main__':
    sys.exit(main())
