#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Whole programs beside other libraries, and programs that we must not touch (TAP).

test_hosts.py SHIM
Its programs are compiled here. The shim refuses with EHOSTUNREACH, which no peer of these
tests answers with: a caller that prints ECONNREFUSED twice and EHOSTUNREACH met a breaker.
"""
import errno
import glob
import http.server
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading

SHIM = os.path.abspath(sys.argv[1])
HOSTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'hosts')
PLAIN = [errno.ECONNREFUSED] * 4
GUARDED = [errno.ECONNREFUSED] * 2 + [errno.EHOSTUNREACH] * 2
LIMIT_S = 60
NOBODY = 65534

work = tempfile.mkdtemp(prefix='agentshim-hosts-')


class Skip(Exception):
    """Raised with the reason."""


def built(source, *options):
    """The path of a program or library made of hosts/SOURCE."""
    out = os.path.join(work, source + '.' + str(abs(hash(options))))
    compiler = shutil.which('g++' if source.endswith('.cc') else 'gcc') or shutil.which('cc')
    if compiler is None or (source.endswith('.cc') and 'g++' not in compiler):
        raise Skip('g++ is not installed')
    if not os.path.exists(out):
        done = subprocess.run([compiler, '-D_GNU_SOURCE', '-O1', '-pthread', '-o', out,
                               os.path.join(HOSTS, source), *options], capture_output=True,
                              text=True, check=False)
        if done.returncode != 0 and '-static' in options:
            raise Skip('capability missing: static libc')
        assert done.returncode == 0, done.stderr
    return out


class Host:
    """What a program printed, and the state files it left."""

    def __init__(self, *command, preload=(SHIM,), user=None, **settings):
        self.dir = tempfile.mkdtemp(dir=work)
        os.chmod(self.dir, 0o700)
        env = {'PATH': os.environ['PATH'], 'LC_ALL': 'C', 'AGENTSHIM_DIR': self.dir,
               'AGENTSHIM_CONSECUTIVE_FAILURES': '2', 'AGENTSHIM_TIMEOUT': '1h',
               'AGENTSHIM_ERRNO': 'EHOSTUNREACH', 'LD_PRELOAD': ':'.join(preload)} | settings
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=LIMIT_S,
                              user=user, stdin=subprocess.DEVNULL, check=False)
        self.status, self.out, self.err = done.returncode, done.stdout, done.stderr

    def files(self):
        return os.listdir(self.dir)

    def __str__(self):
        return f'exit {self.status}, printed {self.out!r} and {self.err!r}'


def refusing():
    """A bound socket that does not listen; nobody else gets its port."""
    s = socket.socket()
    s.bind(('127.0.0.1', 0))
    return s


def calls(*options, program=None, **how):
    """A caller's Host, and the errno of each of its four connects."""
    program = program or built('caller.c', *options)
    with refusing() as peer:
        host = Host(program, str(peer.getsockname()[1]), '4', **how)
    assert host.status == 0, str(host)
    return host, [int(line) for line in host.out.split()]


def expect(found, expected, host):
    assert found == expected, f'{found}, expected {expected}: {host}'


def a_caller_meets_a_breaker():
    host, seen = calls()
    expect(seen, GUARDED, host)
    assert host.err == '' and len(host.files()) == 3, f'{host} {host.files()}'


def without_us_it_meets_none():
    host, seen = calls(preload=())
    expect(seen, PLAIN, host)


def disabled_we_are_inert():
    host, seen = calls(AGENTSHIM_DISABLE='1')
    expect(seen, PLAIN, host)
    assert host.files() == [], host.files()


def a_setuid_program_is_left_alone():
    """Linked to the shim, since ld.so preloads nothing by path there (AT_SECURE)."""
    if os.geteuid() != 0:
        raise Skip('capability missing: root, for a setuid program')
    if os.statvfs(work).f_flag & os.ST_NOSUID:
        raise Skip('capability missing: a file system with setuid')
    os.chmod(work, 0o755)
    shim = os.path.join(work, 'linked.so')
    shutil.copy(SHIM, shim)
    program = built('caller.c', '-Wl,--no-as-needed', shim)
    host, seen = calls(program=program, preload=())
    expect(seen, GUARDED, host)         # linked, it is a host like any other
    setuid = program + '.setuid'
    shutil.copy(program, setuid)
    os.chmod(setuid, 0o755 | stat.S_ISUID)
    host, seen = calls(program=setuid, preload=(), user=NOBODY)
    expect(seen, PLAIN, host)
    assert host.err == '' and host.files() == [], f'{host} {host.files()}'
    # Armed after all, with no setting that it may read, it would have gone here.
    left = glob.glob(f'/dev/shm/agentshim-*/{os.path.basename(setuid)}*')
    for path in left:
        os.remove(path)
    assert left == [], left


def a_static_program_is_untouched():
    host, seen = calls('-static')
    expect(seen, PLAIN, host)
    assert host.err == '' and host.files() == [], f'{host} {host.files()}'


def two_copies_are_one():
    """ld.so.preload and LD_PRELOAD: counted twice, one failure would open the breaker (T40)."""
    copy = os.path.join(work, 'copy.so')
    shutil.copy(SHIM, copy)
    for order in (SHIM, copy), (copy, SHIM):
        host, seen = calls(preload=order)
        expect(seen, GUARDED, host)
        assert host.err == '', host.err


def a_library_that_re_exports_our_names():
    """On either side of us each call passes both, once (T10)."""
    layer = built('layer.c', '-shared', '-fPIC')
    for order in (SHIM, layer), (layer, SHIM):
        host, seen = calls(preload=order)
        expect(seen, GUARDED, host)
        assert 'layer saw' in host.err, str(host)


def a_library_that_calls_our_other_names():
    """Its connect calls __connect, which is ours too: no circle (T10)."""
    layer = built('underlayer.c', '-shared', '-fPIC')
    for order in (SHIM, layer), (layer, SHIM):
        host, seen = calls(preload=order)
        expect(seen, GUARDED, host)


def a_library_that_starts_before_us():
    """The last preloaded library is initialised first, and calls our hooks (T11)."""
    early = built('early.c', '-shared', '-fPIC')
    for order in (SHIM, early), (early, SHIM):
        host, seen = calls(preload=order)
        expect(seen, GUARDED, host)
        assert host.err == '', host.err


def jemalloc_beside_us():
    """It reads and closes by syscall(2) in its own start (T11)."""
    found = glob.glob('/usr/lib/*/libjemalloc.so.2')
    if not found:
        raise Skip('libjemalloc2 is not installed')
    for order in (SHIM, found[0]), (found[0], SHIM):
        host, seen = calls(preload=order)
        expect(seen, GUARDED, host)
        assert host.err == '', host.err


def exceptions_and_cancellation_pass():
    """Through libstdc++'s and libgcc's unwinder, not ours (T6)."""
    with refusing() as peer:
        host = Host(built('thrower.cc'), str(peer.getsockname()[1]))
    expect(host.out, 'no connection\n' * 5 + 'cancelled, 6 ended\n', host)
    assert host.status == 0 and host.err == '', str(host)


class Web:
    """Answers GET with 200 and keeps the lines of each head."""

    def __init__(self):
        web = self
        self.heads = []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = 'HTTP/1.1'

            def do_GET(self):       # pylint: disable=invalid-name
                web.heads.append([name.lower() for name, _ in self.headers.items()])
                self.send_response(200)
                self.send_header('Content-Length', '0')
                self.end_headers()

            def log_message(self, *_):      # pylint: disable=arguments-differ
                pass

        self.server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self.url = f'http://127.0.0.1:{self.server.server_port}/'

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def curl_plugin(soname):
    """A plugin that is linked to the libcurl of that name, or None where there is none."""
    found = glob.glob('/usr/lib/*/' + soname) + glob.glob('/usr/lib64/' + soname)
    return found and built('curl_plugin.c', '-shared', '-fPIC', '-Wl,-soname,by-' + soname,
                           f'-l:{soname}')


def each_plugin_reaches_its_own_libcurl():
    """Loaded with RTLD_LOCAL, side by side, and again after they went (T2)."""
    openssl, gnutls = 'libcurl.so.4', 'libcurl-gnutls.so.4'
    plugins = {soname: curl_plugin(soname) for soname in (openssl, gnutls)}
    if not plugins[gnutls]:
        raise Skip('libcurl3-gnutls is not installed')
    rounds = 4
    for order in (openssl, gnutls), (gnutls, openssl):
        with Web() as web:
            host = Host(built('curl_host.c'), web.url, str(rounds),
                        *[plugins[soname] for soname in order])
        assert host.status == 0 and host.err == '', str(host)
        expect(host.out.splitlines(),
               [f'{soname} 0' for soname in order for _ in range(2)] * rounds, host)
        assert len(web.heads) == 4 * rounds, web.heads
        for head in web.heads:
            assert head.count('traceparent') == 1 and head.count('x-one') == 1, head


def a_caller_keeps_its_runpath():
    """dlopen looks at who called it: a hook that returns to us would lose that (T4)."""
    inner = built('opener.c', '-shared', '-fPIC', '-DINNER')
    outer = built('opener.c', '-shared', '-fPIC', '-DOUTER', '-Wl,--enable-new-dtags',
                  '-Wl,-rpath,$ORIGIN')
    host = Host(built('opener.c'), outer, os.path.basename(inner))
    assert (host.out, host.err) == ('found\n', ''), str(host)


def python_spawns_programs_by_vfork():
    """Children that close everything leave the parent's calls followed (T5)."""
    host = Host('/usr/bin/python3', os.path.join(HOSTS, 'spawner.py'))
    expect(host.out.split(), [str(errno.EHOSTUNREACH)], host)


def valgrind_finds_nothing_of_ours():
    valgrind = shutil.which('valgrind')
    if valgrind is None:
        raise Skip('valgrind is not installed')
    # Debian's valgrind cannot read what clang writes for debuggers.
    shim = os.path.join(work, 'symbols-only.so')
    subprocess.run(['strip', '--strip-debug', '-o', shim, SHIM], check=True)
    with refusing() as peer:
        host = Host(valgrind, '--error-exitcode=9', '--leak-check=full', '--show-leak-kinds=all',
                    '--errors-for-leak-kinds=all',
                    '--suppressions=' + os.path.join(HOSTS, 'valgrind.supp'), built('caller.c'),
                    str(peer.getsockname()[1]), '4', preload=(shim,))
    expect((host.status, [int(line) for line in host.out.split()]), (0, GUARDED), host)
    assert 'ERROR SUMMARY: 0 errors' in host.err, host.err


TESTS = [
    a_caller_meets_a_breaker,
    without_us_it_meets_none,
    disabled_we_are_inert,
    a_setuid_program_is_left_alone,
    a_static_program_is_untouched,
    two_copies_are_one,
    a_library_that_re_exports_our_names,
    a_library_that_calls_our_other_names,
    a_library_that_starts_before_us,
    jemalloc_beside_us,
    exceptions_and_cancellation_pass,
    python_spawns_programs_by_vfork,
    each_plugin_reaches_its_own_libcurl,
    a_caller_keeps_its_runpath,
    valgrind_finds_nothing_of_ours,
]


def main():
    bad = 0
    print(f'1..{len(TESTS)}', flush=True)
    for number, test in enumerate(TESTS, 1):
        try:
            test()
            print(f'ok {number} - {test.__name__}', flush=True)
        except Skip as reason:
            print(f'ok {number} - {test.__name__} # SKIP {reason}', flush=True)
        except (AssertionError, OSError, ValueError, subprocess.SubprocessError) as error:
            bad += 1
            print('\n'.join('# ' + line for line in str(error).splitlines()))
            print(f'not ok {number} - {test.__name__}', flush=True)
    return 1 if bad else 0


try:
    sys.exit(main())
finally:
    shutil.rmtree(work, ignore_errors=True)
