# SPDX-License-Identifier: Apache-2.0
"""The table of contexts (contexts.py), driven through a service that holds no tracing code.

    test_contexts.py SERVICE [ROW...]     SERVICE: urllib http.client requests session c java

One connection to the service carries all rows of an environment, one after the other, so that
each row also shows that nothing of the one before it is left.
"""

import re
import sys
import threading

import contexts
import web
from harness import Place, Skip, Tap, check, equal, own_network

HELD = contexts.Row('', [contexts.parent(), ('tracestate', 'foo=1'), ('baggage', 'a=1')],
                    contexts.kept(tracestate='foo=1', baggage='a=1'))
NOTHING = contexts.Row('', [], contexts.fresh())
CONNECTIONS, REQUESTS = 20, 8

# What the templates of contexts.py stand for.
FORMS = {'trace': '[0-9a-f]{32}', 'span': '[0-9a-f]{16}'}


def matches(template, value, ids):
    """Does a value have this form, with the ids that were met before in the same request?"""
    pattern = re.escape(template)
    for name, form in FORMS.items():
        pattern = pattern.replace(re.escape('{' + name + '}'), f'(?P<{name}>{form})', 1)
    found = re.fullmatch(pattern, value)
    if not found:
        return False
    return all(ids.setdefault(name, got) == got for name, got in found.groupdict().items())


def judged(row, requests):
    """Checks what arrived for a row."""
    equal(len(requests), row.calls, 'calls that arrived')
    came = ' '.join(value for _, value in row.sent).lower().replace('-', ' ')
    trace, spans = None, set()
    for request in requests:
        ids = {'trace': trace} if trace else {}
        found = {}
        for name, value in request.fields:
            if name.lower() in contexts.FIELDS:
                found.setdefault(name.lower(), []).append(value)
        wanted = {name: [value] for name, value in row.arrives.items()}
        equal(sorted(found), sorted(wanted), f'fields of ours in {found}')
        for name, values in found.items():
            equal(len(values), 1, f'fields {name}')
            check(matches(row.arrives[name], values[0], ids),
                  f'{name}: {values[0]!r}, expected {row.arrives[name]!r} in {found}')
        for kind, value in ids.items():
            check(int(value, 16) != 0 and value not in came, f'{kind} id {value} of {found}')
        trace = ids.get('trace')
        if 'span' in ids:
            check(ids['span'] not in spans, f'span id {ids["span"]} twice')
            spans.add(ids['span'])


class Run:
    """The rows of one environment through one process of a service."""

    def __init__(self, kind, place, env):
        self.callee = web.Recorder()
        self.service = web.service(kind, place, env=env)
        self.link = web.Link(self.service.port)

    def row(self, number, row, link=None):
        urls = [f'{self.callee.url}/{number}/{i}' for i in range(row.calls)]
        (link or self.link).post(urls, row.sent)
        judged(row, [r for url in urls for r in self.callee.take(url)])

    def nothing_stays(self):
        """A request without a context, right after one with a context, on its connection."""
        for i in range(50):
            self.row(f'with-{i}', HELD)
            self.row(f'without-{i}', NOTHING)

    def through_itself(self):
        """The service calls itself, which calls us: one trace, and spans that differ."""
        url = f'{self.callee.url}/nested'
        inner = [{'url': url, 'arguments': []}] * 2
        outer = [{'url': self.service.url + '/', 'arguments': inner}, {'url': url}]
        self.link.post_json(outer, HELD.sent)
        judged(HELD._replace(calls=3), self.callee.take(url))

    def many_at_once(self):
        """Connections side by side, each with traces of its own, three calls in each request."""
        wrong = []

        def work(i):
            link = web.Link(self.service.port)
            try:
                for j in range(REQUESTS):
                    trace = f'{i + 1:016x}{j + 1:016x}'
                    row = contexts.Row('', [contexts.parent(trace=trace)] if j % 4 else [],
                                       contexts.kept(trace=trace) if j % 4 else contexts.fresh(),
                                       calls=3)
                    self.row(f'many-{i}-{j}', row, link)
            except Exception as e:      # of a thread: told by the case
                wrong.append(f'connection {i}: {e}')
            finally:
                link.close()

        threads = [threading.Thread(target=work, args=(i,)) for i in range(CONNECTIONS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        check(not wrong, '\n'.join(wrong))

    def close(self):
        self.link.close()
        self.service.close()
        self.callee.close()


STORIES = {
    'nothing_stays': 'nothing of a context stays on a kept connection',
    'through_itself': 'a service that calls itself stays in the trace',
    'many_at_once': 'connections side by side keep their traces',
}


def main():
    kind, wanted = sys.argv[1], sys.argv[2:]
    tap = Tap()
    own_network()
    with Place() as place:
        try:
            web.prepare(kind, place)
        except Skip as skip:
            tap.result(True, kind, f' # SKIP {skip}')
            return tap.done()
        for name, env in contexts.ENVIRONMENTS.items():
            rows = [r for r in contexts.ROWS if r.env == name and (not wanted or r.name in wanted)]
            if not rows:
                continue
            run = Run(kind, place, env)
            try:
                for row in rows:
                    with tap.case(f'{kind}: {row.name}'):
                        run.row(tap.count, row)
                for story in STORIES if name == 'default' and not wanted else ():
                    with tap.case(f'{kind}: {STORIES[story]}'):
                        getattr(run, story)()
            finally:
                run.close()
    return tap.done()


if __name__ == '__main__':
    sys.exit(main())
