# SPDX-License-Identifier: Apache-2.0
"""Contexts that come to a service, and what must leave with the calls that it makes.

Written from the specifications: W3C Trace Context levels 1 and 2 (TC), W3C Baggage (BG), B3
(B3), Jaeger's propagation format (JG), OpenTelemetry's environment variables (OT), and what
docs/configuration.md says of x-trace-id, egress and forwarded headers (AS).

What arrives is told as templates, in which these stand for ids that differ from all that came:

    {trace}  a trace id, the same in all fields of a request
    {span}   a span id, the same in all fields of a request, another one in each request
    {uuid}   {trace} in the form of a UUID

A field of ours that a row does not name must not arrive.
"""

from collections import namedtuple

# env: of ENVIRONMENTS; calls: how many the service makes for the one request
Row = namedtuple('Row', 'name sent arrives env calls', defaults=('default', 1))

# The fields that are ours to write: where a row does not name one, it must be absent.
FIELDS = ('traceparent', 'tracestate', 'baggage', 'x-trace-id', 'b3', 'x-b3-traceid',
          'x-b3-spanid', 'x-b3-parentspanid', 'x-b3-sampled', 'x-b3-flags', 'uber-trace-id',
          'x-request-id', 'x-tenant')

ENVIRONMENTS = {
    'default': {},
    'tracecontext': {'OTEL_PROPAGATORS': 'tracecontext'},
    'any case': {'OTEL_PROPAGATORS': ' TraceContext , BAGGAGE,tracecontext,'},
    'empty': {'OTEL_PROPAGATORS': ' '},
    'no propagators': {'OTEL_PROPAGATORS': 'none'},
    'xray beside': {'OTEL_PROPAGATORS': 'xray,tracecontext'},
    'baggage alone': {'OTEL_PROPAGATORS': 'baggage'},
    'xtraceid': {'OTEL_PROPAGATORS': 'xtraceid'},
    'b3': {'OTEL_PROPAGATORS': 'b3'},
    'b3multi': {'OTEL_PROPAGATORS': 'b3multi'},
    'b3 first': {'OTEL_PROPAGATORS': 'b3,tracecontext'},
    'b3 second': {'OTEL_PROPAGATORS': 'tracecontext,b3'},
    'jaeger': {'OTEL_PROPAGATORS': 'jaeger'},
    'all': {'OTEL_PROPAGATORS': 'tracecontext,baggage,b3,b3multi,jaeger,xtraceid'},
    'always_on': {'OTEL_TRACES_SAMPLER': 'always_on'},
    'always_off': {'OTEL_TRACES_SAMPLER': 'ALWAYS_OFF'},
    'parentbased_always_off': {'OTEL_TRACES_SAMPLER': 'parentbased_always_off'},
    'half': {'OTEL_TRACES_SAMPLER': 'traceidratio', 'OTEL_TRACES_SAMPLER_ARG': '0.5'},
    'none of them': {'OTEL_TRACES_SAMPLER': 'parentbased_traceidratio',
                     'OTEL_TRACES_SAMPLER_ARG': '0'},
    'bad ratio': {'OTEL_TRACES_SAMPLER': 'traceidratio', 'OTEL_TRACES_SAMPLER_ARG': 'many'},
    'bad sampler': {'OTEL_TRACES_SAMPLER': 'sometimes'},
    'disabled': {'OTEL_SDK_DISABLED': 'TRUE'},
    'not disabled': {'OTEL_SDK_DISABLED': '1'},
    'untraced': {'AGENTSHIM_TRACE': 'off'},
    'forward': {'AGENTSHIM_FORWARD_HEADERS': 'X-Request-ID,x-tenant'},
    'forward only': {'AGENTSHIM_FORWARD_HEADERS': 'x-request-id', 'OTEL_PROPAGATORS': 'none'},
    'withheld': {'AGENTSHIM_EGRESS': '*.example.com,!127.0.0.1',
                 'AGENTSHIM_FORWARD_HEADERS': 'x-request-id'},
    'private': {'AGENTSHIM_EGRESS': 'private'},
    # Of a batch job's parent: no parent of what a server is asked.
    'environment': {'TRACEPARENT': '00-11111111111111111111111111111111-2222222222222222-01',
                    'TRACESTATE': 'job=1'},
}

T = '0af7651916cd43dd8448eb211c80319c'          # its random part is in the lower half
T_UUID = '0af76519-16cd-43dd-8448-eb211c80319c'
HIGH = '0af7651916cd43dd84f8eb211c80319c'       # and this one's in the upper
P = 'b7ad6b7169203331'
SHORT = 'a3ce929d0e0e4736'
ROWS = []


def add(name, sent, arrives, env='default', calls=1):
    ROWS.append(Row(name, sent, arrives, env, calls))


def parent(flags='01', trace=T, version='00', more=''):
    return ('traceparent', f'{version}-{trace}-{P}-{flags}{more}')


def kept(flags='01', trace=T, **also):
    """What leaves when a context is continued, with the default formats."""
    return {'traceparent': f'00-{trace}-{{span}}-{flags}', 'x-trace-id': trace, **also}


def fresh(flags='03', **also):
    """What leaves with a trace of its own: sampled, and its id is random."""
    return {'traceparent': f'00-{{trace}}-{{span}}-{flags}', 'x-trace-id': '{trace}', **also}


# ---- traceparent ---------------------------------------------------------------------------

add('nothing comes', [], fresh())
add('a context is continued', [parent()], kept())
add('three calls have one trace and three parents', [parent()], kept(), calls=3)
add('three calls of a new trace have one trace, too', [], fresh(), calls=3)

# TC 3.2.2.5: bits, not values; those that we do not know are 0 when they leave.
for came, leaves in (('00', '00'), ('02', '02'), ('03', '03'), ('04', '00'), ('05', '01'),
                     ('08', '00'), ('09', '01'), ('0a', '02'), ('0b', '03'), ('80', '00'),
                     ('fe', '02'), ('ff', '03')):
    add(f'flags {came} leave as {leaves}', [parent(came)], kept(leaves))

for name in ('TraceParent', 'TRACEPARENT', 'TrAcEpArEnT'):
    add(f'{name} is the same field', [(name, parent()[1])], kept())
for name in ('trace-parent', 'trace.parent', 'trace_parent', 'xtraceparent', 'traceparents',
             'x-traceparent', 'traceparen'):
    add(f'{name} is another field', [(name, parent()[1])], fresh())

for told, before, after in (('a blank before', ' ', ''), ('a tab before', '\t', ''),
                            ('a blank after', '', ' '), ('a tab after', '', '\t'),
                            ('blanks and tabs around', '\t  \t', ' \t ')):
    add(f'traceparent with {told}', [('traceparent', before + parent()[1] + after)], kept())

# TC 3.2.4 and level 2's 4.3: versions to come are read as far as they are known.
add('version 01', [parent(version='01')], kept())
add('version cc', [parent(version='cc')], kept())
add('version fe', [parent(version='fe')], kept())
add('version cc with more behind a dash', [parent(version='cc', more='-what-will-be')], kept())
add('version cc with a dash alone behind', [parent(version='cc', more='-')], kept())
add('version cc with unknown flags', [parent('fd', version='cc')], kept('01'))
BAD = {
    'version ff': f'ff-{T}-{P}-01',
    'version cc with more behind a dot': f'cc-{T}-{P}-01.what-will-be',
    'version cc with a third digit of flags': f'cc-{T}-{P}-011',
    'version cc that is too short': f'cc-{T}-{P}-0',
    'version in capitals': f'CC-{T}-{P}-01',
    'version with a dot before': f'.0-{T}-{P}-01',
    'version with a dot behind': f'0.-{T}-{P}-01',
    'version of one digit': f'0-{T}-{P}-01',
    'version of three digits': f'000-{T}-{P}-01',
    'version of four digits': f'0000-{T}-{P}-01',
    'no version': f'{T}-{P}-01',
    'version 00 with a dot behind': f'00-{T}-{P}-01.',
    'version 00 with a dash behind': f'00-{T}-{P}-01-',
    'version 00 with more': f'00-{T}-{P}-01-what-will-be',
    'trace id of zeros': f'00-{"0" * 32}-{P}-01',
    'trace id in capitals': f'00-{T.upper()}-{P}-01',
    'trace id with one capital': f'00-0Af7651916cd43dd8448eb211c80319c-{P}-01',
    'trace id that begins with a dot': f'00-.{T[1:]}-{P}-01',
    'trace id that ends with a dot': f'00-{T[:-1]}.-{P}-01',
    'trace id with a g': f'00-{T[:-1]}g-{P}-01',
    'trace id of 31 digits': f'00-{T[1:]}-{P}-01',
    'trace id of 33 digits': f'00-{T}1-{P}-01',
    'trace id in the form of a UUID': f'00-{T_UUID}-{P}-01',
    'parent id of zeros': f'00-{T}-{"0" * 16}-01',
    'parent id in capitals': f'00-{T}-{P.upper()}-01',
    'parent id that begins with a dot': f'00-{T}-.{P[1:]}-01',
    'parent id that ends with a dot': f'00-{T}-{P[:-1]}.-01',
    'parent id of 15 digits': f'00-{T}-{P[1:]}-01',
    'parent id of 17 digits': f'00-{T}-{P}1-01',
    'flags with a dot before': f'00-{T}-{P}-.1',
    'flags with a dot behind': f'00-{T}-{P}-0.',
    'flags of one digit': f'00-{T}-{P}-1',
    'flags of three digits': f'00-{T}-{P}-001',
    'flags in capitals': f'00-{T}-{P}-0A',
    'no flags': f'00-{T}-{P}',
    'empty flags': f'00-{T}-{P}-',
    'underscores for dashes': f'00_{T}_{P}_01',
    'blanks for dashes': f'00 {T} {P} 01',
    'a dash too many': f'00--{T}-{P}-01',
    'quotes around': f'"00-{T}-{P}-01"',
    'two with a comma': f'00-{T}-{P}-01,00-{T}-{P}-01',
    'the same and a comma': f'00-{T}-{P}-01,',
    'text': 'now is the time',
    'an empty value': '',
}
for told, value in BAD.items():
    add(f'traceparent with {told} begins anew', [('traceparent', value)], fresh())
add('two different traceparents begin anew', [parent(), parent(trace=HIGH)], fresh())
add('two equal traceparents begin anew', [parent(), parent()], fresh())
add('two traceparents in other cases begin anew', [parent(), ('TraceParent', parent()[1])],
    fresh())
add('a valid and an invalid traceparent begin anew', [parent(), ('traceparent', 'x')], fresh())
add('an empty and a valid traceparent begin anew', [('traceparent', ''), parent()], fresh())

# ---- tracestate ----------------------------------------------------------------------------

KEY = 'abcdefghijklmnopqrstuvwxyz0123456789_-*/'
VALUE = ''.join(chr(c) for c in range(0x21, 0x7f) if chr(c) not in ',=')


def state(name, lines, leaves, flags='01'):
    """A tracestate of these lines beside a valid traceparent."""
    lines = [lines] if isinstance(lines, str) else lines
    arrives = kept(flags) if leaves is None else kept(flags, tracestate=leaves)
    add(f'tracestate {name}', [parent(flags)] + [('tracestate', line) for line in lines], arrives)


state('of one member', 'foo=1', 'foo=1')
state('of two members keeps its order', 'foo=1,bar=2', 'foo=1,bar=2')
state('of an unsampled trace', 'foo=1,bar=2', 'foo=1,bar=2', flags='00')
state('in three lines is joined in order', ['foo=1,bar=2', 'rojo=1', 'congo=2,baz=3'],
      'foo=1,bar=2,rojo=1,congo=2,baz=3')
state('with an empty line behind', ['foo=1', ''], 'foo=1')
state('with an empty line before', ['', 'foo=1'], 'foo=1')
state('that is empty', '', None)
state('of commas alone', ',,', None)
state('with empty members', ',foo=1,,bar=2,', 'foo=1,bar=2')
state('with blanks around members', 'foo=1 \t , \t bar=2, \t baz=3', 'foo=1,bar=2,baz=3')
state('with tabs around members', 'foo=1\t \t,\t \tbar=2,\t \tbaz=3', 'foo=1,bar=2,baz=3')
state('with blanks around all', '\t foo=1 \t', 'foo=1')
state('whose value begins with blanks', 'foo=  1', 'foo=  1')
state('with a blank within a value', 'foo=a b', 'foo=a b')
state('with all that a key may hold', f'{KEY}=1', f'{KEY}=1')
state('with all that a value may hold', f'foo={VALUE}', f'foo={VALUE}')
state('with a tenant', 'fw529a3039@dt=FfffffCH', 'fw529a3039@dt=FfffffCH')
state('whose tenant has 241 characters', f'{"t" * 241}@{"v" * 14}=1', f'{"t" * 241}@{"v" * 14}=1')
state('whose key begins with a digit', '1foo=1', '1foo=1')
state('whose key ends with @ (level 2)', 'foo@=1,bar=2', 'foo@=1,bar=2')
state('whose key has two @ (level 2)', 'foo@bar@baz=1,bar=2', 'foo@bar@baz=1,bar=2')
state('whose key has @@ (level 2)', 'foo@@bar=1,bar=2', 'foo@@bar=1,bar=2')
state('with a key of 256', f'{"k" * 256}=1', f'{"k" * 256}=1')
state('with a value of 256', f'foo={"v" * 256}', f'foo={"v" * 256}')
state('of 512 characters', f'a={"v" * 253},b={"w" * 254}', f'a={"v" * 253},b={"w" * 254}')
state('of 32 members', ','.join(f'k{i}=1' for i in range(32)),
      ','.join(f'k{i}=1' for i in range(32)))
state('of 32 members in two lines', [','.join(f'k{i}=1' for i in range(16)),
                                     ','.join(f'k{i}=1' for i in range(16, 32))],
      ','.join(f'k{i}=1' for i in range(32)))
state('of 3,000 characters', ','.join(f'k{i}={"v" * 240}' for i in range(12)),
      ','.join(f'k{i}={"v" * 240}' for i in range(12)))
state('with OpenTelemetry\'s member', 'ot=th:8;rv:0123456789abcd,foo=1',
      'ot=th:8;rv:0123456789abcd,foo=1')
state('that repeats a key', 'foo=1,foo=2', 'foo=1,foo=2')
state('that repeats a key in two lines', ['foo=1', 'foo=2'], 'foo=1,foo=2')
# One bad member and none of them leaves.
state('of 33 members', ','.join(f'k{i}=1' for i in range(33)), None)
state('of 33 members in two lines', [','.join(f'k{i}=1' for i in range(32)), 'one=more'], None)
state('with a key of 257', f'foo=1,{"k" * 257}=1', None)
state('with a value of 257', f'foo=1,bar={"v" * 257}', None)
state('whose key begins with @', '@foo=1,bar=2', None)
state('whose key begins with _', '_foo=1,bar=2', None)
state('with a key in capitals', 'FOO=1,bar=2', None)
state('with a dot in a key', 'foo.bar=1,bar=2', None)
state('with a blank behind a key', 'foo =1,bar=2', None)
state('with a blank in a key', 'f oo=1,bar=2', None)
state('with a key alone', 'foo,bar=2', None)
state('without a key', '=1,bar=2', None)
state('without a value', 'foo=,bar=2', None)
state('with a second =', 'foo=1=2,bar=2', None)
state('with a semicolon for a comma', 'foo=1;bar=2', None)
state('with letters that are not ASCII', 'foo=caf\xe9,bar=2', None)
state('with a bad member in its second line', ['foo=1', 'BAR=2'], None)
for name in ('TraceState', 'TRACESTATE', 'TrAcEsTaTe'):
    add(f'{name} is the same field', [parent(), (name, 'foo=1')], kept(tracestate='foo=1'))
for name in ('trace-state', 'trace.state', 'tracestates'):
    add(f'{name} is another field', [parent(), (name, 'foo=1')], kept())
add('tracestate before traceparent', [('tracestate', 'foo=1'), parent()],
    kept(tracestate='foo=1'))
add('tracestate alone is discarded', [('tracestate', 'foo=1')], fresh())
add('tracestate beside an invalid traceparent is discarded',
    [('traceparent', f'00-{T}-{P}-1'), ('tracestate', 'foo=1')], fresh())
add('tracestate beside two traceparents is discarded',
    [parent(), parent(), ('tracestate', 'foo=1')], fresh())
add('tracestate of a version to come', [parent(version='cc'), ('tracestate', 'foo=1')],
    kept(tracestate='foo=1'))
add('tracestate in each of three calls', [parent(), ('tracestate', 'foo=1')],
    kept(tracestate='foo=1'), calls=3)

# ---- baggage -------------------------------------------------------------------------------

for told, value in {
        'of one member': 'user=alice',
        'of two members': 'user=alice,region=eu',
        'with properties': 'user=alice;ttl=60;private,region=eu',
        'with blanks as they came': 'user = alice , region=eu',
        'with percent codes': 'name=%C3%A9%20%22',
        'of 64 members': ','.join(f'k{i}={i}' for i in range(64)),
        'of 8,192 bytes': 'k=' + 'v' * 8190,
}.items():
    add(f'baggage {told}', [parent(), ('baggage', value)], kept(baggage=value))
add('baggage without a trace', [('baggage', 'user=alice')], fresh(baggage='user=alice'))
add('baggage beside an invalid traceparent', [('traceparent', 'x'), ('baggage', 'user=alice')],
    fresh(baggage='user=alice'))
add('baggage in two lines is joined', [parent(), ('baggage', 'a=1'), ('Baggage', 'b=2')],
    kept(baggage='a=1,b=2'))
add('baggage that is empty', [parent(), ('baggage', '')], kept())
add('baggage of 8,193 bytes is dropped', [parent(), ('baggage', 'k=' + 'v' * 8191)], kept())
add('baggage and tracestate', [parent(), ('baggage', 'a=1'), ('tracestate', 'foo=1')],
    kept(baggage='a=1', tracestate='foo=1'))

# ---- x-trace-id (AS) -----------------------------------------------------------------------

X = {'traceparent': f'00-{T}-{{span}}-01'}
add('x-trace-id of 32 digits', [('x-trace-id', T)], kept())
add('x-trace-id in capitals', [('X-Trace-ID', T.upper())], kept())
add('x-trace-id with blanks around', [('x-trace-id', f' {T}\t')], kept())
add('x-trace-id as a UUID leaves as one', [('x-trace-id', T_UUID)], {**X, 'x-trace-id': T_UUID})
add('x-trace-id as a UUID in capitals', [('x-trace-id', T_UUID.upper())],
    {**X, 'x-trace-id': T_UUID})
add('x-trace-id with a dash out of place is foreign', [('x-trace-id', f'{T[:4]}-{T[4:]}')],
    fresh(**{'x-trace-id': f'{T[:4]}-{T[4:]}'}))
add('x-trace-id of another kind is passed on', [('x-trace-id', 'order-4711/retry:2')],
    fresh(**{'x-trace-id': 'order-4711/retry:2'}))
add('x-trace-id of 31 digits is foreign', [('x-trace-id', T[1:])], fresh(**{'x-trace-id': T[1:]}))
add('x-trace-id of zeros is foreign', [('x-trace-id', '0' * 32)], fresh(**{'x-trace-id': '0' * 32}))
add('x-trace-id of 128 characters', [('x-trace-id', 'y' * 128)], fresh(**{'x-trace-id': 'y' * 128}))
add('x-trace-id of 129 characters is dropped', [('x-trace-id', 'y' * 129)], fresh())
add('x-trace-id with a blank within is dropped', [('x-trace-id', 'a b')], fresh())
add('x-trace-id that is empty', [('x-trace-id', '')], fresh())
add('x-trace-id twice: the first counts', [('x-trace-id', T), ('x-trace-id', HIGH)], kept())
add('x-trace-id beside a traceparent of the same trace', [parent('03'), ('x-trace-id', T)],
    kept('03'))
add('x-trace-id as a UUID beside a traceparent of that trace', [parent(), ('x-trace-id', T_UUID)],
    {**X, 'x-trace-id': T_UUID})
add('traceparent wins over another x-trace-id', [parent(), ('x-trace-id', HIGH)], kept())
add('x-trace-id where traceparent is invalid', [('traceparent', 'x'), ('x-trace-id', T)], kept())
add('foreign x-trace-id beside a traceparent', [parent(), ('x-trace-id', 'order-4711')],
    {**X, 'x-trace-id': 'order-4711'})
add('x-trace-id and no other format', [('x-trace-id', T), parent(trace=HIGH)],
    {'x-trace-id': T}, env='xtraceid')
add('a new x-trace-id and no other format', [parent()], {'x-trace-id': '{trace}'}, env='xtraceid')
add('x-trace-id where it is not wanted', [('x-trace-id', T)],
    {'traceparent': '00-{trace}-{span}-03'}, env='tracecontext')

# ---- b3 ------------------------------------------------------------------------------------


def b3(name, sent, leaves, env='b3'):
    if env == 'b3' and leaves:
        leaves = {'b3': leaves}
    add(f'{env}: {name}', sent, leaves or {}, env=env)


NEW_B3 = '{trace}-{span}-1'
for told, value, leaves in (
        ('sampled', f'{T}-{P}-1', f'{T}-{{span}}-1'),
        ('denied', f'{T}-{P}-0', f'{T}-{{span}}-0'),
        ('debug', f'{T}-{P}-d', f'{T}-{{span}}-d'),
        ('without a decision', f'{T}-{P}', f'{T}-{{span}}-1'),
        ('with its parent', f'{T}-{P}-1-05e3ac9a4f6e3b90', f'{T}-{{span}}-1'),
        ('of 64 bits', f'{SHORT}-{P}-1', f'{"0" * 16}{SHORT}-{{span}}-1'),
        ('of 64 bits, denied', f'{SHORT}-{P}-0', f'{"0" * 16}{SHORT}-{{span}}-0'),
        ('with blanks around', f' \t{T}-{P}-1 ', f'{T}-{{span}}-1'),
        ('of a denial alone', '0', '{trace}-{span}-0'),
        ('of a decision alone', '1', NEW_B3),
        ('of debug alone', 'd', '{trace}-{span}-d'),
        ('in capitals', f'{T.upper()}-{P}-1', NEW_B3),
        ('with an unknown decision', f'{T}-{P}-2', NEW_B3),
        ('with a span of 15 digits', f'{T}-{P[1:]}-1', NEW_B3),
        ('with a trace of 31 digits', f'{T[1:]}-{P}-1', NEW_B3),
        ('with a trace of zeros', f'{"0" * 32}-{P}-1', NEW_B3),
        ('with a span of zeros', f'{T}-{"0" * 16}-1', NEW_B3),
        ('with a bad parent', f'{T}-{P}-1-xyz', NEW_B3),
        ('with a dash behind', f'{T}-{P}-1-', NEW_B3),
        ('with a dash alone', '-', NEW_B3),
        ('that is empty', '', NEW_B3)):
    b3(f'single {told}', [('b3', value)], leaves)
b3('nothing comes', [], NEW_B3)
b3('B3 is the same field', [('B3', f'{T}-{P}-1')], f'{T}-{{span}}-1')
b3('traceparent is not read', [parent()], NEW_B3)


def multi(trace=T, span=P, **also):
    also = {f'X-B3-{k}': v for k, v in also.items()}
    return [('X-B3-TraceId', trace), ('X-B3-SpanId', span), *also.items()]


for told, sent, leaves in (
        ('sampled', multi(Sampled='1'), f'{T}-{{span}}-1'),
        ('denied', multi(Sampled='0'), f'{T}-{{span}}-0'),
        ('debug', multi(Flags='1'), f'{T}-{{span}}-d'),
        ('with its parent', multi(ParentSpanId='05e3ac9a4f6e3b90', Sampled='1'),
         f'{T}-{{span}}-1')):
    b3(f'several fields, {told}', sent, leaves)
b3('the single field wins', [('b3', f'{T}-{P}-0')] + multi(trace=HIGH, Sampled='1'),
   f'{T}-{{span}}-0')
b3('several fields where the single one is invalid', [('b3', 'x')] + multi(Sampled='1'),
   f'{T}-{{span}}-1')


def fields(trace, **also):
    also = {f'x-b3-{k}': v for k, v in also.items()}
    return {'x-b3-traceid': trace, 'x-b3-spanid': '{span}', **also}


NEW_MULTI = fields('{trace}', sampled='1')
for told, sent, leaves in (
        ('nothing comes', [], NEW_MULTI),
        ('sampled', multi(Sampled='1'), fields(T, sampled='1')),
        ('denied', multi(Sampled='0'), fields(T, sampled='0')),
        ('sampled, as older tracers say it', multi(Sampled='true'), fields(T, sampled='1')),
        ('denied, as older tracers say it', multi(Sampled='False'), fields(T, sampled='0')),
        ('debug', multi(Flags='1'), fields(T, flags='1')),
        ('debug beside a decision', multi(Flags='1', Sampled='0'), fields(T, flags='1')),
        ('flags of 0 are no debug', multi(Flags='0', Sampled='1'), fields(T, sampled='1')),
        ('without a decision', multi(), fields(T, sampled='1')),
        ('with its parent, which does not leave', multi(ParentSpanId='05e3ac9a4f6e3b90'),
         fields(T, sampled='1')),
        ('of 64 bits', multi(trace=SHORT, Sampled='1'), fields('0' * 16 + SHORT, sampled='1')),
        ('a denial alone', [('X-B3-Sampled', '0')], fields('{trace}', sampled='0')),
        ('debug alone', [('X-B3-Flags', '1')], fields('{trace}', flags='1')),
        ('a trace without a span', multi()[:1], NEW_MULTI),
        ('a span without a trace', multi()[1:], NEW_MULTI),
        ('names in any case', [('x-b3-TRACEID', T), ('X-b3-spanid', P), ('X-B3-SAMPLED', '0')],
         fields(T, sampled='0')),
        ('a trace in capitals', multi(trace=T.upper(), Sampled='1'), NEW_MULTI),
        ('a trace of zeros', multi(trace='0' * 32, Sampled='1'), NEW_MULTI),
        ('repeated fields: the first counts', multi(Sampled='1') + multi(trace=HIGH, Sampled='0'),
         fields(T, sampled='1')),
        ('the single field is read, too', [('b3', f'{T}-{P}-0')], fields(T, sampled='0'))):
    b3(told, sent, leaves, env='b3multi')

# ---- jaeger --------------------------------------------------------------------------------

NEW_JAEGER = '{trace}:{span}:0:1'
for told, value, leaves in (
        ('sampled', f'{T}:{P}:0:1', f'{T}:{{span}}:0:1'),
        ('denied', f'{T}:{P}:0:0', f'{T}:{{span}}:0:0'),
        ('debug', f'{T}:{P}:0:3', f'{T}:{{span}}:0:3'),
        ('debug without its sampled bit is none', f'{T}:{P}:0:2', f'{T}:{{span}}:0:0'),
        ('firehose', f'{T}:{P}:0:9', f'{T}:{{span}}:0:1'),
        ('flags of two digits', f'{T}:{P}:0:01', f'{T}:{{span}}:0:1'),
        ('with its parent', f'{T}:{P}:{SHORT}:1', f'{T}:{{span}}:0:1'),
        ('of 64 bits', f'{SHORT}:{P}:0:1', f'{"0" * 16}{SHORT}:{{span}}:0:1'),
        ('without leading zeros', '5b2b:c3:0:1', f'{"0" * 28}5b2b:{{span}}:0:1'),
        ('with coded colons', f'{T}%3A{P}%3a0%3A1', f'{T}:{{span}}:0:1'),
        ('with blanks around', f' {T}:{P}:0:1\t', f'{T}:{{span}}:0:1'),
        ('a trace of zeros', f'0:{P}:0:1', NEW_JAEGER),
        ('a span of zeros', f'{T}:0:0:1', NEW_JAEGER),
        ('a trace of 33 digits', f'{T}1:{P}:0:1', NEW_JAEGER),
        ('a span of 17 digits', f'{T}:{P}1:0:1', NEW_JAEGER),
        ('a part too few', f'{T}:{P}:1', NEW_JAEGER),
        ('a part too many', f'{T}:{P}:0:1:1', NEW_JAEGER),
        ('flags of three digits', f'{T}:{P}:0:001', NEW_JAEGER),
        ('text', 'now', NEW_JAEGER),
        ('an empty value', '', NEW_JAEGER)):
    add(f'jaeger: {told}', [('uber-trace-id', value)], {'uber-trace-id': leaves}, env='jaeger')
add('jaeger: nothing comes', [], {'uber-trace-id': NEW_JAEGER}, env='jaeger')
add('jaeger: twice begins anew', [('uber-trace-id', f'{T}:{P}:0:1')] * 2,
    {'uber-trace-id': NEW_JAEGER}, env='jaeger')
add('jaeger: the name in any case', [('Uber-Trace-Id', f'{T}:{P}:0:1')],
    {'uber-trace-id': f'{T}:{{span}}:0:1'}, env='jaeger')

# ---- several formats (OT) ------------------------------------------------------------------


def both(trace, flags, decision):
    return {'traceparent': f'00-{trace}-{{span}}-{flags}', 'b3': f'{trace}-{{span}}-{decision}'}


OTHER_B3 = ('b3', f'{HIGH}-{P}-1')
add('b3, then tracecontext: b3 counts', [parent(), OTHER_B3], both(HIGH, '01', '1'),
    env='b3 first')
add('b3, then tracecontext: the second where b3 is invalid', [parent('03'), ('b3', 'x')],
    both(T, '03', '1'), env='b3 first')
add('tracecontext, then b3: traceparent counts', [parent(), OTHER_B3], both(T, '01', '1'),
    env='b3 second')
add('tracecontext, then b3: b3 where there is no traceparent', [OTHER_B3],
    both(HIGH, '01', '1'), env='b3 second')
add('tracecontext, then b3: b3 where traceparent is invalid', [('traceparent', 'x'), OTHER_B3],
    both(HIGH, '01', '1'), env='b3 second')
add('tracecontext, then b3: a denial leaves in both', [parent('00')], both(T, '00', '0'),
    env='b3 second')
add('debug leaves as sampled in traceparent', [('b3', f'{T}-{P}-d')], both(T, '01', 'd'),
    env='b3 second')
add('tracestate does not leave with another format\'s trace', [OTHER_B3, ('tracestate', 'foo=1')],
    both(HIGH, '01', '1'), env='b3 second')
ALL_NEW = {'traceparent': '00-{trace}-{span}-03', 'b3': '{trace}-{span}-1',
           **fields('{trace}', sampled='1'), 'uber-trace-id': '{trace}:{span}:0:1',
           'x-trace-id': '{trace}'}
ALL_KEPT = {'traceparent': f'00-{T}-{{span}}-01', 'b3': f'{T}-{{span}}-1',
            **fields(T, sampled='1'), 'uber-trace-id': f'{T}:{{span}}:0:1', 'x-trace-id': T}
add('all formats of a new trace say the same', [], ALL_NEW, env='all')
add('all formats of a traceparent\'s trace', [parent()], ALL_KEPT, env='all')
add('all formats of a b3 trace', [('b3', f'{T}-{P}-1')], ALL_KEPT, env='all')
add('all formats of several b3 fields', multi(Sampled='1'), ALL_KEPT, env='all')
add('all formats of a Jaeger trace', [('uber-trace-id', f'{T}:{P}:0:1')], ALL_KEPT, env='all')
add('all formats of an x-trace-id', [('x-trace-id', T)], ALL_KEPT, env='all')
add('all formats in each of three calls', [parent(), ('baggage', 'a=1')],
    {**ALL_KEPT, 'baggage': 'a=1'}, env='all', calls=3)
add('OTEL_PROPAGATORS is the whole list', [parent(), ('baggage', 'a=1')],
    {'traceparent': f'00-{T}-{{span}}-01'}, env='tracecontext')
add('OTEL_PROPAGATORS in any case, with repeats', [parent(), ('baggage', 'a=1')],
    {'traceparent': f'00-{T}-{{span}}-01', 'baggage': 'a=1'}, env='any case')
add('an empty OTEL_PROPAGATORS is none', [parent()], kept(), env='empty')
add('OTEL_PROPAGATORS=none', [parent(), ('baggage', 'a=1'), ('x-trace-id', T)], {},
    env='no propagators')
add('an unknown propagator is left out', [parent()], {'traceparent': f'00-{T}-{{span}}-01'},
    env='xray beside')
add('baggage alone', [parent(), ('baggage', 'a=1')], {'baggage': 'a=1'}, env='baggage alone')

# ---- samplers, and off (OT) ----------------------------------------------------------------

add('always_on samples what came unsampled', [parent('00')], kept('01'), env='always_on')
add('always_on of a new trace', [], fresh(), env='always_on')
add('always_off drops what came sampled', [parent('01')], kept('00'), env='always_off')
add('always_off of a new trace', [], fresh('02'), env='always_off')
add('always_off keeps tracestate', [parent('03'), ('tracestate', 'foo=1')],
    kept('02', tracestate='foo=1'), env='always_off')
add('parentbased_always_off follows a sampled parent', [parent('01')], kept('01'),
    env='parentbased_always_off')
add('parentbased_always_off follows an unsampled parent', [parent('00')], kept('00'),
    env='parentbased_always_off')
add('parentbased_always_off of a new trace', [], fresh('02'), env='parentbased_always_off')
add('a ratio keeps a trace in the upper half', [parent('00', trace=HIGH)], kept('01', trace=HIGH),
    env='half')
add('a ratio drops a trace in the lower half', [parent('01')], kept('00'), env='half')
add('parentbased_traceidratio of 0 follows its parent', [parent('01')], kept('01'),
    env='none of them')
add('parentbased_traceidratio of 0 of a new trace', [], fresh('02'), env='none of them')
add('a ratio that is none is 1', [], fresh(), env='bad ratio')
add('an unknown sampler is the default', [parent('00')], kept('00'), env='bad sampler')
add('OTEL_SDK_DISABLED=TRUE adds nothing', [parent(), ('baggage', 'a=1')], {}, env='disabled')
add('OTEL_SDK_DISABLED=1 is not true', [parent()], kept(), env='not disabled')
add('AGENTSHIM_TRACE=off adds nothing', [parent(), ('x-trace-id', T)], {}, env='untraced')

# ---- forwarded headers and egress (AS) -----------------------------------------------------

add('forwarded headers', [parent(), ('X-Request-Id', 'r-1'), ('X-Tenant', 'blue')],
    kept(**{'x-request-id': 'r-1', 'x-tenant': 'blue'}), env='forward')
add('one of the forwarded headers', [('x-tenant', 'blue')], fresh(**{'x-tenant': 'blue'}),
    env='forward')
add('forwarded headers do not stay', [], fresh(), env='forward')
add('headers are not forwarded unasked', [parent(), ('X-Request-Id', 'r-1')], kept())
add('forwarded headers without a format', [parent(), ('X-Request-Id', 'r-1')],
    {'x-request-id': 'r-1'}, env='forward only')
add('forwarded headers in each of three calls', [('x-tenant', 'blue')],
    fresh(**{'x-tenant': 'blue'}), env='forward', calls=3)
add('an egress rule keeps all to ourselves', [parent(), ('baggage', 'a=1'),
                                              ('x-request-id', 'r-1')], {}, env='withheld')
add('private peers are private', [parent(), ('baggage', 'a=1')], kept(baggage='a=1'),
    env='private')
add('TRACEPARENT in the environment is no parent of served requests', [], fresh(),
    env='environment')
add('TRACEPARENT in the environment gives way', [parent()], kept(), env='environment')
