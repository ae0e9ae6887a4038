#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""`agentshim doctor` over files and processes made for it, and over real programs (TAP).

usage: test_doctor.py TOOL SHIM made|installed
"""
import json
import os
import random
import re
import shutil
import struct
import subprocess
import sys

from cases import Skip, needs_a_plain_shim, run

TOOL, SHIM = (os.path.abspath(p) for p in sys.argv[1:3])
ROOT = os.geteuid() == 0
PATIENT_S = 60  # only ends a run that is broken
CONTROLS = re.compile(rb'[\x00-\x09\x0b-\x1f\x7f]|\xc2[\x80-\x9f]')
WAYS = ['connect', 'http1', 'http2', 'tls', 'context']
USUAL = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
MUTATIONS = 300  # a second; tests/fuzz/fuzz_binary has millions
GLIBC = b'/lib64/ld-linux-x86-64.so.2\0'


def environment(**more):
    env = {k: v for k, v in os.environ.items()
           if not k.startswith(('AGENTSHIM_', 'OTEL_', 'TRACE', 'LD_'))}
    return {**env, 'PATH': USUAL, 'GO111MODULE': 'off', 'GOTOOLCHAIN': 'local',
            'ASAN_OPTIONS': 'verify_asan_link_order=0:detect_leaks=0', **more}


def doctor(*args, env=None, tool=TOOL, **more):
    return subprocess.run([tool, 'doctor', *map(str, args)], env=env or environment(),
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENT_S,
                          check=False, **more)


class Told:
    """What was said of one program, as JSON and as text, which must agree."""

    def __init__(self, asked, status, **more):
        done, page = doctor('--json', asked, **more), doctor(asked, **more)
        assert done.returncode == status and page.returncode == status, (asked, done, page.stdout)
        assert not done.stderr and not page.stderr and not CONTROLS.search(page.stdout), done
        assert done.stdout.count(b'\n') == 1 and not CONTROLS.search(done.stdout)
        for line in page.stdout.decode().splitlines():
            assert len(line) <= 80, line
        self.all = json.loads(done.stdout)
        assert self.all['status'] == status and list(self.all['verdicts']) == WAYS
        words = page.stdout.decode().split('\n\n')[-1]
        for way in WAYS:
            shown = {'http1': 'HTTP/1', 'http2': 'HTTP/2 gRPC', 'tls': 'TLS bodies'}.get(way, way)
            assert re.search(rf'^{shown} +{self.verdict(way)} ', words, re.M), (way, words)

    def verdict(self, way):
        return self.all['verdicts'][way]['verdict']

    def reason(self, way='connect'):
        return self.all['verdicts'][way]['reason']

    def says(self, what, text=''):
        return any(f['what'] == what and text in f['finding'] + ' -> ' + f['means']
                   for f in self.all['findings'])


def hooks(name):
    """Whether the shim of this build hooks a call: the doctor is to say so, and no more."""
    out = subprocess.run(['nm', '-D', '--defined-only', SHIM], capture_output=True, text=True,
                         check=True).stdout
    return re.search(rf' [TWi] {name}$', out, re.M) is not None


def write(path, name, data, mode=0o755):
    path = os.path.join(path, name)
    with open(path, 'wb') as f:
        f.write(data)
    os.chmod(path, mode)
    return path


def compiled(path, name, code, *flags, compiler='gcc'):
    out = os.path.join(path, name)
    source = write(path, name + '.c', code.encode(), 0o644)
    subprocess.run([compiler, '-o', out, source, *flags], check=True, capture_output=True,
                   env=environment(), timeout=PATIENT_S)
    return out


def machine():
    with open(SHIM, 'rb') as f:
        return struct.unpack('<H', f.read(20)[18:])[0]


def elf(of=None, interpreter=GLIBC, bits=2, data=1, kind=3):
    order = '<' if data == 1 else '>'
    head = b'\x7fELF' + bytes([bits, data, 1]) + bytes(9)
    head += struct.pack(order + 'HHIQQQIHHHHHH', kind, machine() if of is None else of, 1, 0, 64, 0,
                        0, 64, 56, 1 if interpreter else 0, 64, 0, 0)
    return head + struct.pack(order + 'IIQQQQQQ', 3, 4, 120, 120, 120, len(interpreter),
                              len(interpreter), 1) + interpreter


# ---- made here: files ----

def a_plain_program_is_reached(_):
    told = Told('true', 0)
    assert told.all['path'] == os.path.realpath(shutil.which('true', path=USUAL))
    assert told.all['shim'] == os.path.realpath(SHIM)
    assert told.says('type', 'dynamic') and told.says('libc', 'glibc')
    assert told.says('dlopen', 'not visible in a file')
    assert [told.verdict(way) for way in WAYS] == ['yes', 'yes', 'yes', 'none', 'yes']


def a_static_program_is_not(p):
    told = Told(compiled(p, 'static', 'int main(void) { return 0; }', '-static'), 2)
    assert told.says('type', 'static') and 'statically' in told.reason()
    pie = compiled(p, 'static-pie', 'int main(void) { return 0; }', '-static-pie')
    assert 'statically' in Told(pie, 2).reason()


def scripts_are_followed_to_what_runs(p):
    program = compiled(p, 'prog', 'int main(void) { return 0; }', '-static')
    direct = write(p, 'direct', b'#!' + program.encode() + b' -x\n')
    env = write(p, 'by-env', b'#!/usr/bin/env -S A=b prog\n')
    twice = write(p, 'twice', b'#!' + direct.encode() + b'\n')
    bare = write(p, 'bare', b'exit 0\n')
    path = environment(PATH=f'{p}:{USUAL}')
    for script in (direct, env, twice):
        told = Told(script, 2, env=path)
        assert told.all['path'] == program and told.says('script', script), told.all
    assert Told(bare, 0).all['path'] == os.path.realpath('/bin/sh')
    loop = write(p, 'loop', b'#!' + os.path.join(p, 'loop').encode() + b'\n')
    assert b'scripts within scripts' in doctor(loop).stderr


def foreign_programs_are_named(p):
    for data, word in ((elf(of=243), 'riscv'), (elf(of=3, bits=1), '32 bits'),
                       (elf(of=22, data=2), 's390'),
                       (elf(interpreter=b'/lib/ld-musl-x86_64.so.1\0'), 'musl'),
                       (elf(interpreter=b'/ld-musl\x1b[2J\0'), 'musl'),
                       (elf(interpreter=b'/system/bin/linker64\0'), 'Android')):
        assert word in Told(write(p, 'x', data), 2).reason(), word


def what_is_no_answer_ends_with_3(p):
    plain = write(p, 'plain', b'', 0o644)
    for args in ((), ('--what', 'true'), ('true', 'true'), ('/no/such',), ('no-such-command',),
                 ('',), (plain,), ('999999999',), ('99999999999999999999',), ('0',),
                 (write(p, 'object', elf(kind=1)),), (write(p, 'core', elf(kind=4)),)):
        done = doctor(*args)
        assert done.returncode == 3 and not done.stdout, (args, done)
        assert done.stderr.count(b'\n') == 1 and done.stderr.startswith(b'agentshim: ')
    with open('/dev/full', 'wb') as full:
        done = subprocess.run([TOOL, 'doctor', 'true'], env=environment(), stdout=full,
                              stderr=subprocess.PIPE, check=False, timeout=PATIENT_S)
    assert done.returncode == 3, done


def mutated_files_are_harmless(p):
    rng = random.Random(7)
    with open(shutil.which('true', path=USUAL), 'rb') as f:
        good = f.read()
    program = int.from_bytes(good[32:40], 'little')
    for _ in range(MUTATIONS):
        bad = bytearray(good)
        for _ in range(rng.randrange(1, 9)):
            at = rng.choice((rng.randrange(64), program + rng.randrange(13 * 56),
                             rng.randrange(len(bad))))
            bad[at] = rng.choice((0, 255, 127, 128, rng.randrange(256)))
        if rng.random() < 0.3:
            del bad[rng.randrange(len(bad)):]
        done = doctor(write(p, 'bad', bytes(bad)))
        assert done.returncode in (0, 1, 2, 3) and not CONTROLS.search(done.stdout), done
        assert b'Sanitizer' not in done.stderr and b'runtime error' not in done.stderr, done.stderr


def libraries_are_found_as_the_loader_does(p):
    os.makedirs(os.path.join(p, 'a b', 'lib'))
    library = os.path.join(p, 'a b', 'lib', 'libssl.so.3')
    code = 'int SSL_read(void) { return 0; } int SSL_write(void) { return 0; }'
    made = compiled(p, 'libx', code, '-shared', '-fPIC', '-Wl,-soname,libssl.so.3')
    shutil.move(made, library)
    use = 'int SSL_read(void); int main(void) { return SSL_read(); }'
    for tags in ('--enable-new-dtags', '--disable-new-dtags'):
        told = Told(compiled(os.path.join(p, 'a b'), 'prog', use, library,
                             f'-Wl,{tags},-rpath,$ORIGIN/lib'), 0 if hooks('SSL_write') else 1)
        assert told.says('TLS', 'OpenSSL (libssl.so.3)') and not told.says('library'), told.all
    os.unlink(library)
    elsewhere = compiled(p, 'libssl.so.3', code, '-shared', '-fPIC', '-Wl,-soname,libgone.so.9')
    told = Told(compiled(p, 'lost', use, elsewhere), 0)
    assert told.says('library', 'libgone.so.9 is not found')


def tls_that_is_built_in_is_out_of_reach(p):
    main = 'int main(int n, char **v) { return v[n & 1][0]; }'
    text = 'const char *const text __attribute__((used)) = "%s";'
    for name, code, flags in (
            ('OpenSSL', 'int SSL_read(void) { return 0; }', ['-rdynamic']),
            ('OpenSSL', text % '../ssl/statem/statem_clnt.c', ['-s']),
            ('BoringSSL', text % 'third_party/boringssl/src/ssl/handshake_client.cc', ['-s']),
            ('rustls', text % '/src/rustls-0.23.5/src/conn.rs', ['-s'])):
        told = Told(compiled(p, 'prog', code + main, *flags), 1)
        assert told.verdict('tls') == 'no' and name in told.reason('tls'), (name, told.all)
        assert told.verdict('connect') == 'yes' and told.says('TLS', 'built into prog')
    Told(compiled(p, 'prog', text % '/src/rustls-webpki-0.1/src/x.rs' + main), 0)


def privileged_programs_drop_preloads(p):
    if not ROOT:
        raise Skip('capability missing: not root, cannot make setuid files of others')
    os.chmod(p, 0o755)
    with open(shutil.which('true', path=USUAL), 'rb') as f:
        path = write(p, 'prog', f.read())
    if os.statvfs(path).f_flag & os.ST_NOSUID:
        raise Skip('capability missing: the file system ignores setuid bits')
    for mode, ids, word in ((0o4755, (65534, 0), 'setuid'), (0o2755, (0, 65534), 'setgid')):
        os.chown(path, *ids)
        os.chmod(path, mode)
        told = Told(path, 2)
        assert told.says('privileges', word) and 'AT_SECURE' in told.reason()
    os.chown(path, 0, 0)
    os.chmod(path, 0o4755)
    assert Told(path, 0).says('privileges', 'for other users')
    os.chmod(path, 0o755)
    os.setxattr(path, 'security.capability', struct.pack('<IIIII', 0x02000001, 1 << 10, 0, 0, 0))
    assert Told(path, 0).says('privileges', 'file capabilities')
    tool = shutil.copy(TOOL, p)
    other = {'user': 65534, 'group': 65534, 'extra_groups': [], 'tool': tool}
    assert doctor(path, **other).returncode == 2
    done = doctor(os.getpid(), **other)
    assert done.returncode == 3 and b'no permission' in done.stderr and b'root' in done.stderr


# ---- made here: processes ----

class Child:
    """A process that waits on its standard input, once it has begun."""

    def __init__(self, *command, user=None, **env):
        self.process = subprocess.Popen(command or ['sh', '-c', 'echo; read x'],
                                        env=environment(**env), user=user,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout.readline() == b'\n'
        self.pid = self.process.pid

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(PATIENT_S)
        self.process.stdout.close()


def a_process_in_secure_mode_is_told(p):
    if not ROOT:
        raise Skip('capability missing: not root, cannot make setuid files of others')
    os.chmod(p, 0o755)
    shell = shutil.copy(os.path.realpath('/bin/sh'), os.path.join(p, 'sh'))
    os.chmod(shell, 0o4755)
    if os.statvfs(shell).f_flag & os.ST_NOSUID:
        raise Skip('capability missing: the file system ignores setuid bits')
    with Child(shell, '-c', 'echo; read x', user=65534) as child:
        told = Told(child.pid, 2)
    assert told.says('privileges', 'AT_SECURE') and 'AT_SECURE' in told.reason()


def unshared(*command):
    """In namespaces of its own, where nothing that it mounts or calls reaches the machine."""
    if not ROOT or subprocess.run(['unshare', '-mn', 'true'], check=False,
                                  capture_output=True).returncode != 0:
        raise Skip('capability missing: namespaces')
    return ['unshare', '-mn', *command]


def other_namespaces_are_named(_):
    with Child(*unshared('sh', '-c', 'echo; read x')) as child:
        told = Told(child.pid, 2)
    assert told.says('namespace', 'network') and told.says('namespace', 'mounts')
    assert not told.says('namespace', 'user')


def the_preload_file_of_all_programs_is_read(p):
    needs_a_plain_shim(SHIM)
    tame = compiled(p, 'tame.so', 'int tame(void) { return -1; }', '-shared', '-fPIC')
    etc = os.path.join(p, 'etc')
    os.mkdir(etc)
    shutil.copy('/etc/ld.so.cache', etc)
    write(etc, 'ld.so.preload', tame.encode() + b'\n', 0o644)
    inside = f'mount --bind {etc} /etc && echo && read x; {TOOL} doctor --json true >{p}/said'
    with Child(*unshared('sh', '-c', inside)) as child:
        assert Told(child.pid, 2).says('preload', tame)
    with open(os.path.join(p, 'said'), encoding='utf-8') as f:
        found = [line['finding'] for line in json.load(f)['findings'] if line['what'] == 'preload']
    assert found == [tame], found


def a_process_says_whether_the_shim_is_in_it(_):
    needs_a_plain_shim(SHIM)
    with Child() as child:
        told = Told(child.pid, 2)
        assert told.says('shim', 'not loaded') and 'not loaded' in told.reason()
        assert told.all['pid'] == child.pid
    with Child(LD_PRELOAD=SHIM) as child:
        assert Told(child.pid, 0).says('shim', 'it acts')
    with Child(LD_PRELOAD=SHIM, AGENTSHIM_DISABLE='1') as child:
        told = Told(child.pid, 2)
        assert told.says('shim', 'AGENTSHIM_DISABLE') and 'AGENTSHIM_DISABLE' in told.reason()
    with Child(LD_PRELOAD='/no/libagentshim.so') as child:
        assert Told(child.pid, 2).says('shim', 'LD_PRELOAD names it: /no/libagentshim.so')


def other_preloads_are_shown(p):
    needs_a_plain_shim(SHIM)
    other = compiled(p, 'other.so', 'int connect(void) { return -1; }', '-shared', '-fPIC')
    tame = compiled(p, 'tame.so', 'int tame(void) { return -1; }', '-shared', '-fPIC')
    copy = shutil.copy(SHIM, os.path.join(p, 'copy.so'))
    preload = f'{other}:{tame}:{SHIM}:{copy}'
    with Child(LD_PRELOAD=preload) as child:
        told = Told(child.pid, 0)
    assert told.says('preload', f'{other} -> hooks connect') and told.says('shim', '2 copies')
    assert told.says('preload', f'{tame} -> does not hook connect')
    done = doctor('--json', 'true', env=environment(LD_PRELOAD=f'{tame}:{SHIM}'))
    found = [f['finding'] for f in json.loads(done.stdout)['findings'] if f['what'] == 'preload']
    assert found == [tame], found


def a_filter_of_the_process_is_doubt(p):
    needs_a_plain_shim(SHIM)
    code = r'''
        #include <linux/filter.h>
        #include <linux/seccomp.h>
        #include <stdio.h>
        #include <sys/prctl.h>
        int main(void)
        {
            struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
            struct sock_fprog all = { 1, &allow };
            if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, 2, &all))
                return 1;
            puts("");
            fflush(stdout);
            return getchar() != EOF;
        }'''
    with Child(compiled(p, 'filtered', code), LD_PRELOAD=SHIM) as child:
        told = Told(child.pid, 1)
    assert told.says('seccomp', 'under a filter') and told.verdict('connect') == 'partly'


def mapped_libraries_are_seen_in_a_process(p):
    needs_a_plain_shim(SHIM)
    bundled = compiled(p, 'cygrpc.so', 'const char *const t __attribute__((used)) = '
                       '"boringssl/ssl/handshake_client.cc";', '-shared', '-fPIC')
    code = (f'import ctypes, sys; ctypes.CDLL("{bundled}"); import ssl; print(flush=True); '
            'sys.stdin.read()')
    with Child('/usr/bin/python3', '-c', code, LD_PRELOAD=SHIM) as child:
        told = Told(child.pid, 1)
    assert told.says('TLS', 'BoringSSL, built into cygrpc.so') and told.says('runtime', 'python')
    assert told.says('TLS', 'OpenSSL (libssl.so.')
    assert told.verdict('tls') == ('partly' if hooks('SSL_write') else 'no')


MADE = [
    a_plain_program_is_reached,
    a_static_program_is_not,
    scripts_are_followed_to_what_runs,
    foreign_programs_are_named,
    what_is_no_answer_ends_with_3,
    mutated_files_are_harmless,
    libraries_are_found_as_the_loader_does,
    tls_that_is_built_in_is_out_of_reach,
    privileged_programs_drop_preloads,
    a_process_says_whether_the_shim_is_in_it,
    other_preloads_are_shown,
    a_filter_of_the_process_is_doubt,
    a_process_in_secure_mode_is_told,
    other_namespaces_are_named,
    the_preload_file_of_all_programs_is_read,
    mapped_libraries_are_seen_in_a_process,
]


# ---- installed ----

def installed(command, package):
    path = shutil.which(command, path=USUAL)
    if path is None:
        raise Skip(package)
    return path


def exit_of(whole):
    return 0 if whole else 1


def curl_is_reached(_):
    whole = hooks('SSL_write') and hooks('gnutls_record_send')
    told = Told(installed('curl', 'curl'), exit_of(whole))
    assert told.says('TLS', 'libcurl (libcurl.so.4) -> its calls are seen')


def wget_is_reached_by_gnutls(_):
    told = Told(installed('wget', 'wget'), exit_of(hooks('gnutls_record_send')))
    assert told.says('TLS', 'GnuTLS (libgnutls.so.')


def nginx_is_reached(_):
    told = Told(installed('nginx', 'nginx-light'), exit_of(hooks('SSL_write')))
    assert told.says('runtime', 'nginx') and told.verdict('context') == 'yes'


def node_keeps_its_own_loop(_):
    told = Told(installed('node', 'nodejs'), 1)
    assert told.says('runtime', 'node') and told.verdict('context') == 'partly'
    inside = told.says('TLS', 'built into node')
    assert told.verdict('tls') == ('no' if inside or not hooks('SSL_write') else 'yes')


def java_encrypts_by_itself(_):
    told = Told(installed('java', 'openjdk-17-jdk-headless'), 1)
    assert told.says('runtime', 'java')
    assert told.verdict('tls') == 'no' and 'JSSE' in told.reason('tls')


def python_opens_openssl(_):
    told = Told('/usr/bin/python3', exit_of(hooks('SSL_write')))
    assert told.says('runtime', 'python') and 'ssl module' in told.reason('tls')


def php_binds_deeply(_):
    told = Told(installed('php', 'php-cli'), exit_of(hooks('SSL_write') and hooks('dlopen')))
    assert told.says('DEEPBIND')
    assert told.verdict('connect') == ('yes' if hooks('dlopen') else 'partly')


def go_enters_the_kernel_by_itself(p):
    go = installed('go', 'golang-go')
    source = write(p, 'main.go', b'package main\nfunc main() {}\n', 0o644)
    cgo = write(p, 'cgo.go', b'package main\nimport "C"\nfunc main() {}\n', 0o644)
    stripped = ('-ldflags=-s -w -buildid=',)
    for name, what, flags in (('static', source, ()), ('stripped', source, stripped),
                              ('dynamic', cgo, ())):
        out = os.path.join(p, name)
        subprocess.run([go, 'build', *flags, '-o', out, what], check=True, capture_output=True,
                       env=environment(GOCACHE=os.path.join(p, 'cache'), GOPATH=p), timeout=300)
        told = Told(out, 2)
        assert told.says('Go'), (name, told.all)
        assert told.says('type', 'dynamic' if name == 'dynamic' else 'static'), (name, told.all)


def musl_is_another_libc(p):
    told = Told(compiled(p, 'musl', 'int main(void) { return 0; }',
                         compiler=installed('musl-gcc', 'musl-tools')), 2)
    assert told.says('libc', 'musl') and 'musl' in told.reason()


INSTALLED = [
    curl_is_reached,
    wget_is_reached_by_gnutls,
    nginx_is_reached,
    node_keeps_its_own_loop,
    java_encrypts_by_itself,
    python_opens_openssl,
    php_binds_deeply,
    go_enters_the_kernel_by_itself,
    musl_is_another_libc,
]


def main():
    cases = {'made': MADE, 'installed': INSTALLED}[sys.argv[3]]
    return run(cases, os.path.realpath, 'agentshim-doctor.')


if __name__ == '__main__':
    sys.exit(main())
