# SPDX-License-Identifier: Apache-2.0
"""Spans that programs and scripts name by themselves, and children that go on in a trace.

    test_own.py BUILD

Parents are seen by what outbound calls carry to a server that is not shimmed, and by
`agentshim trace`.
"""

import itertools
import json
import os
import subprocess
import sys
import threading

from harness import (CLIENTS, HERE, PATIENT_S, TOOL, Place, Skip, Tap, check, equal, need,
                     own_network, wait_until, which)
from web import PYTHON, Link, Recorder, Service, java_class, reply

BUILD = sys.argv[1]
DEMO = os.path.join(os.path.dirname(os.path.dirname(HERE)), 'demo')
NAMES = os.path.join(CLIENTS, 'names_spans.py')
SAID = '8 Its own. inner\nas it should\n3\n'
CURL = ['curl', '-s', '-o', '/dev/null']
PARALLEL = 12

numbers = itertools.count(1)


def caller():
    """A traceparent of a caller of its own, and its parts."""
    trace, span = f'{next(numbers):032x}', f'{next(numbers):016x}'
    return f'00-{trace}-{span}-01', trace, span


def carried(recorder, path):
    """(trace id, parent id) of the one request for a path."""
    found = recorder.take(recorder.url + path)
    equal(len(found), 1, f'requests for {path}')
    values = [value for name, value in found[0].fields if name.lower() == 'traceparent']
    equal(len(values), 1, f'traceparents of {path}')
    return values[0].split('-')[1:3]


def tree(place, trace, count):
    """The spans of a trace by id, once they are all there."""
    spans = {}

    def told():
        nonlocal spans
        done = subprocess.run([TOOL, 'trace', '--json', trace], capture_output=True, text=True,
                              env=place.env(False) | {'AGENTSHIM_DIR': place.state},
                              timeout=PATIENT_S, check=False)
        if done.returncode != 0:
            return False
        spans = {span['span_id']: span for span in json.loads(done.stdout)['spans']}
        return len(spans) >= count

    wait_until(told, f'{count} spans of {trace}: {spans}')
    equal(len(spans), count, f'spans of {trace}: {spans}')
    return spans


def ancestry(spans, span_id):
    """Operations from a span up to the one whose parent is not there."""
    names = []
    while span_id in spans:
        names.append(spans[span_id]['operation'])
        span_id = spans[span_id].get('parent_span_id')
    return names


# ---- programs that name spans ----

def python_without_the_shim():
    with Place() as place, Recorder() as recorder:
        done = place.run([PYTHON, NAMES, DEMO, recorder.url], shim=False)
        equal((done.status, done.out, done.err), (0, SAID, ''), 'bare')
        equal(recorder.count(), 5, 'calls')


def python_under_the_shim():
    with Place() as place, Recorder() as recorder:
        header, trace, span = caller()
        done = place.run([PYTHON, NAMES, DEMO, recorder.url], env={'TRACEPARENT': header})
        equal((done.status, done.out, done.err), (0, SAID, ''), 'shimmed')
        spans = tree(place, trace, 9)
        for path, expected in (('/before', ['outer']), ('/inner', ['inner', 'outer']),
                               ('/after', ['outer']), ('/block', ['block']), ('/outside', [])):
            got = carried(recorder, path)
            equal(got[0], trace, f'trace of {path}')
            equal(ancestry(spans, got[1]), [f'GET {path}', *expected], path)
        by_name = {s['operation']: s for s in spans.values()}
        equal(by_name['inner']['attempt'], '2', 'tag')
        equal(by_name['fails']['exception.type'], 'ValueError', 'tag of the failure')
        for name in 'outer', 'block', 'fails', 'GET /outside':
            equal(by_name[name]['parent_span_id'], span, f'parent of {name}')
        check('coroutine' not in by_name, 'a coroutine has no span')


def python_switched_off():
    with Place(TRACE='off') as place, Recorder() as recorder:
        done = place.run([PYTHON, NAMES, DEMO, recorder.url])
        equal((done.status, done.out, done.err), (0, SAID, ''), 'off')


def installed(place):
    """Flags as pkg-config tells them of an installation."""
    root = os.path.join(place.path, 'root')
    need('pkg-config')
    subprocess.run(['meson', 'install', '-C', BUILD, '--no-rebuild', '--quiet', '--destdir', root],
                   check=True, stdout=subprocess.DEVNULL)
    found = [where for where, _, files in os.walk(root) if 'agentshim.pc' in files]
    equal(len(found), 1, 'agentshim.pc')
    env = {**os.environ, 'PKG_CONFIG_PATH': found[0], 'PKG_CONFIG_SYSROOT_DIR': root}
    done = subprocess.run(['pkg-config', '--cflags', '--libs', 'agentshim'], env=env, check=True,
                          stdout=subprocess.PIPE, text=True)
    check('-l' not in done.stdout, f'there is nothing to link: {done.stdout}')
    return done.stdout.split()


STRICT = ['-Wall', '-Wextra', '-Wpedantic', '-Werror']
BUILDS = [  # compiler, options, whether the loader may bind it
    ('gcc', ['-std=c99', '-O0', '-fPIE', '-pie'], True),
    ('gcc', ['-std=gnu17', '-O2', '-fPIE', '-pie'], True),
    ('gcc', ['-O0', '-fno-pie', '-no-pie'], True),
    ('gcc', ['-O2', '-fno-pie', '-no-pie'], True),
    ('gcc', ['-O2', '-flto', '-fno-pie', '-no-pie'], True),
    ('gcc', ['-O2', '-fPIE', '-pie', '-Wl,-z,now'], True),
    ('gcc', ['-O2', '-static'], False),
    ('g++', ['-std=c++11', '-x', 'c++', '-O0', '-fPIE', '-pie'], True),
    ('g++', ['-std=c++20', '-x', 'c++', '-O2', '-fno-pie', '-no-pie'], True),
    ('clang', ['-O0', '-fPIE', '-pie'], True),
    ('clang', ['-O2', '-fno-pie', '-no-pie'], True),
    ('clang++', ['-x', 'c++', '-O2', '-fPIE', '-pie'], True),
]


def compiled(place, flags, compiler, options, name='own', source='own.c'):
    out = os.path.join(place.path, name)
    done = subprocess.run([compiler, *STRICT, *flags, *options, '-o', out,
                           os.path.join(CLIENTS, source)], capture_output=True, text=True,
                          check=False)
    if done.returncode != 0 and '-static' in options and 'cannot find' in done.stderr:
        raise Skip('capability missing: static libc')
    check(done.returncode == 0, f'{compiler} {options}: {done.stderr}')
    return out


def asks(place, program, bound):
    done = place.run([program], shim=False)
    equal((done.status, done.out, done.err), (0, '0  0\n', ''), f'{program} bare')
    done = place.run([program])
    if not bound:
        equal((done.status, done.out), (0, '0  0\n'), f'{program} cannot be reached')
        return
    words = done.out.split()
    check(done.status == 0 and len(words) == 3 and words[0] == '1' and words[2] == '0', f'{done}')
    _, trace, span, _ = words[1].split('-')
    equal(tree(place, trace, 1)[span]['language'], 'c', 'tag')


def c_programs_link_nothing():
    with Place() as place:
        flags = installed(place)
        for compiler, options, bound in BUILDS:
            if which(compiler):
                Tap.note(f'{compiler} {" ".join(options)}')
                asks(place, compiled(place, flags, compiler, options), bound)


def libraries_link_nothing():
    with Place() as place:
        flags = installed(place)
        for pie in ['-fPIE', '-pie'], ['-fno-pie', '-no-pie']:
            compiled(place, flags, need('gcc'), ['-DLIBRARY', '-O2', '-fPIC', '-shared'],
                     'libown.so')
            asks(place, compiled(place, flags, 'gcc',
                                 ['-DMAIN', *pie, f'-L{place.path}', '-lown',
                                  f'-Wl,--no-as-needed,-rpath,{place.path}', '-lown']), True)


# ---- scripts ----

def a_script_of_spans():
    with Place() as place, Recorder() as recorder:
        need('curl', 'bash')
        script = place.file('nightly.sh', f'''
{TOOL} span fetch -- curl -s {recorder.url}/fetch
{TOOL} span load -- bash -c 'curl -s {recorder.url}/load; exit 3'
curl -s {recorder.url}/plain
exit 0
''')
        header, trace, span = caller()
        env = place.env(False) | {'AGENTSHIM_DIR': place.state, 'TRACEPARENT': header}
        done = subprocess.run([TOOL, 'span', 'nightly', '--', TOOL, 'run', '--', 'bash', script],
                              env=env, capture_output=True, text=True, timeout=PATIENT_S,
                              check=False)
        equal((done.returncode, done.stderr), (0, ''), 'the script')
        spans = tree(place, trace, 6)
        for path, expected in (('/fetch', ['fetch', 'nightly']), ('/load', ['load', 'nightly']),
                               ('/plain', ['nightly'])):
            got = carried(recorder, path)
            equal(got[0], trace, f'trace of {path}')
            equal(ancestry(spans, got[1]), [f'GET {path}', *expected], path)
        by_name = {s['operation']: s for s in spans.values()}
        equal(by_name['nightly']['parent_span_id'], span, 'parent of the script')
        equal((by_name['load']['status'], by_name['load']['process.exit.code']), ('error', '3'),
              'a step that failed')


# ---- children ----

def asked(service, path):
    header, trace, span = caller()
    link = Link(service.port)
    status, _, body = link.ask('GET', path, [('traceparent', header)])
    link.close()
    equal(status, 200, f'{path}: {body}')
    return trace, span


def asked_at_once(service, count):
    """Ids by path of so many requests in parallel."""
    found = {}

    def one(path):
        found[path] = asked(service, path)

    threads = [threading.Thread(target=one, args=(f'/{n}',)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    equal(len(found), count, 'requests that were answered')
    return found


def of_the_request(place, recorder, path, trace, span, calls=1):
    """The call that came for @path is a child of the request that started it."""
    got = carried(recorder, path)
    equal(got[0], trace, f'trace of {path}')
    spans = tree(place, trace, 1 + calls)
    equal(ancestry(spans, got[1]), [f'GET {path}', f'GET {path.split("?")[0]}'], path)
    server = spans[spans[got[1]]['parent_span_id']]
    equal((server['kind'], server['parent_span_id']), ('server', span), 'the request')


def children_of(make):
    need('curl')
    with Place() as place, Recorder() as recorder:
        # Started in a trace itself: that is none of its requests'.
        service = Service(place, make(place, recorder), env={'TRACEPARENT': caller()[0]})
        for path in '/first', '/second':
            of_the_request(place, recorder, path, *asked(service, path))
        for path, ids in asked_at_once(service, PARALLEL).items():
            of_the_request(place, recorder, path, *ids)
        service.close()


def starts_py(recorder, *command):
    return [PYTHON, os.path.join(CLIENTS, 'starts.py'), recorder.url, *command]


def children_of_python():
    children_of(lambda place, recorder: starts_py(recorder, *CURL))


def children_of_bash():
    need('bash')
    children_of(lambda place, recorder: starts_py(
        recorder, 'bash', '-c', 'curl -s -o /dev/null "$0" || exit 1; :'))


def children_of_perl():
    need('perl')
    children_of(lambda place, recorder: ['perl', os.path.join(CLIENTS, 'starts.pl'),
                                         recorder.url])


def children_of_java():
    need('java', 'javac')

    def make(place, recorder):
        java_class(place, 'Starts')
        return ['java', '-XX:TieredStopAtLevel=1', '-XX:+UseSerialGC', '-cp', place.path,
                'Starts', recorder.url]

    children_of(make)


def a_child_with_an_environment_of_its_own():
    """What the program chose stays: env's TRACEPARENT is none of ours."""
    need('curl')
    with Place() as place, Recorder() as recorder:
        header, chosen, _ = caller()
        service = Service(place, starts_py(recorder, 'env', f'TRACEPARENT={header}', *CURL))
        asked(service, '/chosen')
        equal(carried(recorder, '/chosen')[0], chosen, 'trace')
        service.close()


# ---- threads ----

def traces_of(recorder, path):
    return [value.split('-')[1] for request in recorder.take(recorder.url + path)
            for name, value in request.fields if name.lower() == 'traceparent']


def a_shared_pool_of_threads_crosses_nothing():
    """Its threads inherit the request that they are created for, and are then handed others'."""
    go_on = threading.Event()

    def answer(request):
        if request.target == '/held':
            go_on.wait(PATIENT_S)
        return reply()

    with Place() as place, Recorder(answer) as recorder:
        service = Service(place, [PYTHON, os.path.join(CLIENTS, 'pooled.py'), recorder.url])
        first = []
        thread = threading.Thread(target=lambda: first.append(asked(service, '/first')[0]))
        thread.start()
        wait_until(lambda: [r for r in list(recorder.requests) if r.target == '/held'],
                   'the first request is under way')
        found = asked_at_once(service, 60)
        go_on.set()
        thread.join()
        equal(set(traces_of(recorder, '/first')), set(first), 'of the first request')
        given = {trace for trace, _ in found.values()} | set(first)
        kinds = {'correct': 0, 'orphan': 0, 'crossed': 0}
        for path, (trace, _) in found.items():
            for got in traces_of(recorder, path):
                kinds['correct' if got == trace else 'crossed' if got in given
                      else 'orphan'] += 1
        Tap.note(kinds)
        equal(sum(kinds.values()), 240, 'calls')
        equal(kinds['crossed'], 0, f'crossed of {kinds}')
        service.close()


CASES = [python_without_the_shim, python_under_the_shim, python_switched_off,
         c_programs_link_nothing, libraries_link_nothing, a_script_of_spans, children_of_python,
         children_of_bash, children_of_perl, children_of_java,
         a_child_with_an_environment_of_its_own, a_shared_pool_of_threads_crosses_nothing]


def main():
    own_network()
    tap = Tap()
    for case in CASES:
        if len(sys.argv) > 2 and case.__name__ not in sys.argv[2:]:
            continue
        with tap.case(case.__name__.replace('_', ' ')):
            case()
    return tap.done()


if __name__ == '__main__':
    sys.exit(main())
