#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""tools/setup against a pretended apt, in a mount namespace where /usr/sbin is a scratch folder:
who installs, what is asked for, what is remembered, and that policy-rc.d is as it was (TAP)."""
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SETUP = Path(__file__).resolve().parents[2] / 'tools/setup'
MINE = '#!/bin/sh\n# the host\'s own\nexit 0\n'
DENIES = '#!/bin/sh\nexit 101\n'

# The pretended apt-get: notes its call and what policy-rc.d would answer; packages named in the
# file `broken` do not come; `slow` makes an install wait until the file `go` appears.
STUBS = {
    'apt-get': '''
        echo "$* policy=$(/usr/sbin/policy-rc.d x start >/dev/null 2>&1; echo $?)" >>$WORLD/calls
        case " $* " in *" --print-uris "*) echo "Need to get 5 kB of archives."; exit ;; esac
        case " $* " in *" install "*) ;; *) exit 0 ;; esac
        if [ -e $WORLD/slow ]; then
            touch $WORLD/waiting
            while [ ! -e $WORLD/go ]; do /bin/sleep 0.01; done
        fi
        for package; do
            case $package in -*|*=*|install) continue ;; esac
            if grep -qx "$package" $WORLD/broken; then
                echo "E: Failed to fetch http://mirror/$package"; exit 100
            fi
        done
        for package; do echo "installed $package" >>$WORLD/installed; done''',
    'apt-cache': 'shift 2; for package; do echo "Package: $package"; done',
    'dpkg-query': 'cat $WORLD/installed',
    'id': 'echo "${STUB_UID-0}"',
    'sudo': '[ -e $WORLD/sudo ] || exit 1; [ "$1" = -n ] && shift; STUB_UID=0 "$@"',
    'systemctl': 'exit 0',
}


class World:
    """A scratch tree with tools/setup in it, and the stubs."""

    def __init__(self, folder):
        self.dir = Path(folder)
        (self.dir / 'tree/tools').mkdir(parents=True)
        (self.dir / 'bin').mkdir()
        (self.dir / 'sbin').mkdir()
        shutil.copy(SETUP, self.dir / 'tree/tools/setup')
        self.put('tree/tools/fetch-libs', '#!/bin/sh\nexit 0\n', 0o755)
        for name, text in STUBS.items():
            self.put(f'bin/{name}', f'#!/bin/sh\n{text}\n', 0o755)
        for name in ('calls', 'installed', 'broken'):
            self.put(name, '')

    def put(self, name, text, mode=0o644):
        path = self.dir / name
        path.write_text(text, encoding='ascii')
        path.chmod(mode)

    def get(self, name):
        path = self.dir / name
        return path.read_text(encoding='ascii') if path.exists() else None

    def has(self, packages):
        self.put('installed', ''.join(f'installed {name}\n' for name in packages))

    def start(self, *arguments, uid=0):
        """In its own namespace: nothing that tools/setup does reaches the machine."""
        env = {'PATH': f'{self.dir}/bin:/usr/bin:/bin', 'WORLD': str(self.dir), 'STUB_UID': str(uid)}
        inside = (f'mount --bind {self.dir}/sbin /usr/sbin && mount --bind {self.dir} /var/lib/dpkg &&'
                  f' exec {self.dir}/tree/tools/setup "$@"')
        return subprocess.Popen(NAMESPACE + ['sh', '-c', inside, 'setup', *arguments], env=env,
                                text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT)

    def run(self, *arguments, uid=0):
        self.put('calls', '')
        process = self.start(*arguments, uid=uid)
        text = process.communicate(timeout=60)[0]
        return process.returncode, text

    def policies(self):
        return sorted(os.listdir(self.dir / 'sbin'))


NAMESPACE = ['unshare', '--mount'] + ([] if os.getuid() == 0 else ['--map-root-user'])


def rows(variable):
    """Package names of one list in tools/setup."""
    block = re.search(rf"^{variable}='\n(.*?)'", SETUP.read_text(encoding='ascii'), re.M | re.S)
    return [line.split()[0] for line in block[1].splitlines() if line.strip()]


def wait_for(path):
    deadline = time.monotonic() + 30
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    return path.exists()


def everything():
    return rows('build_rows') + rows('demo_rows') + rows('program_rows')


def nothing_missing(world):
    world.has(everything())
    status, text = world.run(uid=1000)
    return (status, text, world.get('calls')) == (0, 'tools/setup: ready\n', '')


def nobody_prints_the_line(world):
    world.has(set(everything()) - {'meson', 'gcc'})
    status, text = world.run('--build', uid=1000)
    return (status == 2 and text.endswith('\napt-get install --no-install-recommends meson gcc\n')
            and world.get('calls') == '')


def sudo_installs(world):
    world.has(set(everything()) - {'meson'})
    world.put('sudo', '')
    status, text = world.run('--build', uid=1000)
    return status == 0 and text.endswith('tools/setup: ready\n') and 'installed meson' in world.get('installed')


def root_installs(world):
    world.has([])
    status, text = world.run('--build')
    calls = world.get('calls').splitlines()
    installs = [call for call in calls if ' install ' in call and '--print-uris' not in call]
    return (status == 0 and 'Need to get' in text and ' update' in calls[0]
            and len(installs) == 1 and all('--no-install-recommends' in call for call in calls)
            and all(call.endswith('policy=101') for call in calls) and world.policies() == [])


def required_fails_loudly(world):
    world.has([])
    world.put('broken', 'gcc\n')
    status, text = world.run('--build')
    return status == 1 and 'required packages could not be installed: registry unreachable' in text


def optional_is_skipped(world):
    world.has(set(everything()) - {'libjemalloc2', 'php-fpm', 'php-curl'})
    world.put('broken', 'php-fpm\n')
    status, _ = world.run()
    return (status == 0 and world.get('tree/build/setup-skips') == 'php-fpm\tregistry unreachable\n'
            and 'installed libjemalloc2' in world.get('installed')
            and 'installed php-curl' in world.get('installed'))


def skipped_is_not_asked_again(world):
    optional_is_skipped(world)
    status, text = world.run()
    quiet = status == 0 and text.count('\n') == 1 and world.get('calls') == ''
    world.put('broken', '')
    status, text = world.run('--again')
    return quiet and (status, text.splitlines()[-1]) == (0, 'tools/setup: ready')


def own_policy_comes_back(world):
    world.has([])
    world.put('sbin/policy-rc.d', MINE, 0o755)
    world.run('--build')
    return (world.get('sbin/policy-rc.d') == MINE and world.policies() == ['policy-rc.d']
            and all(call.endswith('policy=101') for call in world.get('calls').splitlines()))


def denying_policy_is_left(world):
    world.has([])
    world.put('sbin/policy-rc.d', DENIES, 0o755)
    before = (world.dir / 'sbin/policy-rc.d').stat()
    world.run('--build')
    after = (world.dir / 'sbin/policy-rc.d').stat()
    return (before.st_ino, before.st_ctime_ns) == (after.st_ino, after.st_ctime_ns)


def signalled(world, number):
    """Status of a run that gets a signal while apt installs."""
    world.has([])
    world.put('sbin/policy-rc.d', MINE, 0o755)
    world.put('slow', '')
    process = world.start('--build')
    wait_for(world.dir / 'waiting')
    process.send_signal(number)
    return process


def term_puts_it_back(world):
    process = signalled(world, signal.SIGTERM)
    world.put('go', '')
    process.communicate(timeout=60)
    return process.returncode == 143 and world.get('sbin/policy-rc.d') == MINE and len(world.policies()) == 1


def kill_is_mended_by_the_next(world):
    process = signalled(world, signal.SIGKILL)
    process.wait(timeout=60)
    # The root part dies too, in the middle: what remains is ours in place of the host's.
    for folder in Path('/proc').glob('[0-9]*'):
        try:
            if f'{world.dir}/tree'.encode() in (folder / 'cmdline').read_bytes():
                os.kill(int(folder.name), signal.SIGKILL)
        except OSError:
            pass
    world.put('go', '')
    process.communicate(timeout=60)
    left = len(world.policies()) == 2
    world.has(everything())
    status, text = world.run('--build')
    return left and (status, text) == (0, 'tools/setup: ready\n') and world.get('sbin/policy-rc.d') == MINE


TESTS = [nothing_missing, nobody_prints_the_line, sudo_installs, root_installs, required_fails_loudly,
         optional_is_skipped, skipped_is_not_asked_again, own_policy_comes_back,
         denying_policy_is_left, term_puts_it_back, kill_is_mended_by_the_next]


def main():
    if subprocess.run(NAMESPACE + ['true'], check=False, capture_output=True).returncode:
        print('1..0 # SKIP capability missing: no mount namespace')
        return 0
    print(f'1..{len(TESTS)}')
    bad = 0
    for number, test in enumerate(TESTS, 1):
        with tempfile.TemporaryDirectory() as folder:
            held = test(World(folder))
        bad += not held
        print('ok' if held else 'not ok', number, '-', test.__name__, flush=True)
    return 1 if bad else 0


if __name__ == '__main__':
    sys.exit(main())
