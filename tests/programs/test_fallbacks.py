# SPDX-License-Identifier: Apache-2.0
"""Without shared memory the host runs as bare, breakers are private, and the reason is told.

Each case has a mount namespace with a /dev/shm of its own, made wrong in one way.
"""

import json
import os
import subprocess
import sys

import servers
from harness import (CLIENTS, PATH, PATIENT_S, TOOL, Peer, Place, Session, Skip, Tap, check, equal,
                     is_root, need, own_network, wait_until)

GIVEUP_MS = 700
TRIPS_AT = 5
PYTHON = '/usr/bin/python3'
URLLIB = os.path.join(CLIENTS, 'call_urllib.py')
HOME = '/dev/shm/agentshim-%d'


def unshare():
    """The command that gives a mount namespace, or a skip."""
    for argv in (['unshare', '-m', '--propagation', 'private'],
                 ['unshare', '-Urm', '--propagation', 'private']):
        done = subprocess.run([*argv, 'mount', '-t', 'tmpfs', 'tmpfs', '/mnt'],
                              capture_output=True, check=False)
        if done.returncode == 0:
            return argv
    raise Skip('capability missing (namespaces)')


def log_lines(path):
    if not os.path.exists(path):
        return []
    with open(path, encoding='utf-8') as f:
        return [json.loads(line) for line in f]


class Story:
    """One client kept running over a /dev/shm that `setup`, a shell text, has prepared."""

    def __init__(self, place, peer, setup):
        self.place, self.peer = place, peer
        self.log = os.path.join(place.path, 'log')
        script = f'set -e; mount -t tmpfs tmpfs /dev/shm; {setup}\nexec env ' \
                 f'LD_PRELOAD="$SHIM" "$@"'
        argv = [*unshare(), 'sh', '-c', script, 'sh', PYTHON, URLLIB, peer.name, str(GIVEUP_MS),
                'loop']
        env = {'SHIM': os.environ['AGENTSHIM_LIB'], 'AGENTSHIM_LOG': self.log}
        self.session = Session(place, argv, shim=False, env=env)

    def trips(self):
        """The breaker works, wherever its memory is."""
        for i in range(TRIPS_AT):
            done = self.session.call()
            check('refused' in done.text, f'call {i}: {done}')
        equal(self.peer.calls(), TRIPS_AT, 'calls that reached the peer')
        done = self.session.call()
        check('refused' in done.text, f'{done}')
        equal(self.peer.calls(), TRIPS_AT, 'calls that reached the peer after the trip')

    def told(self, *words):
        equal(self.session.close(), 0, 'exit status')
        reasons = [line for line in log_lines(self.log) if line['event'] == 'state_private']
        check(reasons, f'no reason in the log: {log_lines(self.log)}')
        text = json.dumps(reasons)
        check(any(word in text for word in words), f'the reason names none of {words}: {text}')
        return text


def private(tap, setup, *words):
    with Place() as place, Peer('refusing') as peer:
        story = Story(place, peer, setup)
        story.trips()
        tap.note(story.told(*words))


FILL = 'dd if=/dev/zero of=/dev/shm/filler bs=4096 2>/dev/null || true'
# A /dev of its own, without shm: the machine's is not ours to change.
NO_SHM = '''
new=$(mktemp -d); mount -t tmpfs tmpfs $new
for node in null zero urandom random; do : >$new/$node; mount --bind /dev/$node $new/$node; done
ln -s /proc/self/fd $new/fd; mount --move $new /dev; rmdir $new
'''

PRIVATE = {
    'a full /dev/shm': ('mount -o remount,size=1m /dev/shm; ' + FILL, ['space', 'ENOSPC']),
    'a read-only /dev/shm': ('mount -o remount,ro /dev/shm', ['ead-only', 'EROFS']),
    'a missing /dev/shm': (NO_SHM, ['/dev/shm', 'No such', 'ENOENT']),
    'a directory of somebody else': (
        'mkdir -m 700 %s; chown 65534 %s', ['effective user']),
    'a directory that others may enter': (
        'mkdir -m 777 %s; chmod 777 %s', ['nobody else can write']),
    'a symbolic link for a directory': (
        'mkdir -m 700 /dev/shm/elsewhere; ln -s /dev/shm/elsewhere %s', ['no link']),
    'a file for a directory': (': >%s', ['expected a directory']),
}


def small(_):
    """A tmpfs of 1 MiB: what fits is shared, what does not is told, and nobody gets SIGBUS."""
    with Place() as place, Peer('refusing') as peer:
        story = Story(place, peer, 'mount -o remount,size=1m /dev/shm')
        story.trips()
        equal(story.session.close(), 0, 'exit status')


# ---- files of before ----------------------------------------------------------------------

def one(place, peer, **settings):
    return place.run([PYTHON, URLLIB, peer.name, str(GIVEUP_MS), 'one'], **settings)


def state_file(place):
    found = [e.path for e in os.scandir(place.state) if e.name.endswith('.state')]
    equal(len(found), 1, f'state files in {os.listdir(place.state)}')
    return found[0]


def spoiled(spoil, *words):
    """A tripped breaker's file is spoiled: programs run, trip by themselves, and say why."""
    with Place(TIMEOUT='1h') as place, Peer('refusing') as peer:
        for _ in range(TRIPS_AT):
            one(place, peer)
        equal(place.state_of(peer.name), 'open', 'state')
        path = state_file(place)
        spoil(path)
        with open(path, 'rb') as f:
            before = f.read()
        log = os.path.join(place.path, 'log')
        session = Session(place, [PYTHON, URLLIB, peer.name, str(GIVEUP_MS), 'loop'], LOG=log)
        reached = peer.calls()
        for _ in range(TRIPS_AT + 1):
            check('refused' in session.call().text, 'the call fails either way')
        equal(peer.calls() - reached, TRIPS_AT, 'calls that reached the peer')
        equal(session.close(), 0, 'exit status')
        text = json.dumps([line for line in log_lines(log) if line['event'] == 'state_private'])
        check(any(word in text for word in words), f'the reason names none of {words}: {text}')
        with open(path, 'rb') as f:
            equal(f.read() == before, True, 'the doubtful file was left alone')
        # The tool looks at such a file as well.
        done = subprocess.run([TOOL, 'status', '--json'], env=place.env(False)
                              | {'AGENTSHIM_DIR': place.state}, capture_output=True, text=True,
                              timeout=PATIENT_S, check=False)
        check(done.returncode >= 0, f'agentshim status was killed: {done}')


def write_at(offset, data):
    def spoil(path):
        with open(path, 'r+b') as f:
            f.seek(offset)
            f.write(data)
    return spoil


def shorten(path):
    """A shorter file under the same name; truncating the one that others map would be SIGBUS."""
    with open(path + '.new', 'wb') as f:
        f.write(b'short')
    os.chmod(path + '.new', 0o600)
    os.rename(path + '.new', path)


def other_owner(path):
    if not is_root():
        raise Skip('capability missing (chown)')
    os.chown(path, 65534, 65534)


BOOT_ID_AT = 24         # struct segment_header: magic, layout, kind, size come first


def other_boot(_):
    """Nobody living maps a file of another boot: it is made anew, and shared."""
    with Place(TIMEOUT='1h') as place, Peer('refusing') as peer:
        for _ in range(TRIPS_AT):
            one(place, peer)
        equal(place.state_of(peer.name), 'open', 'state')
        write_at(BOOT_ID_AT, b'another machine!')(state_file(place))
        reached = peer.calls()
        equal(one(place, peer).status, 1, 'exit status')
        equal(peer.calls() - reached, 1, 'calls that reached the peer')
        found = place.breaker(peer.name)
        equal((found['state'], found['counts']['failures']), ('closed', 1), 'breaker')


def deleted(_):
    """A running process joins the file that others made after a deletion."""
    with Place(TIMEOUT='1h') as place, Peer('refusing') as peer:
        session = Session(place, [PYTHON, URLLIB, peer.name, str(GIVEUP_MS), 'loop'])
        session.call()
        for entry in os.scandir(place.state):
            os.unlink(entry.path)
        for _ in range(TRIPS_AT):
            one(place, peer)
        equal(place.state_of(peer.name), 'open', 'state of the new file')

        def refused():
            before = peer.packets()
            session.call()
            return peer.packets() == before

        wait_until(refused, 'the running process sees the new breaker')
        equal(len([n for n in os.listdir(place.state) if n.endswith('.state')]), 1, 'state files')
        equal(session.close(), 0, 'exit status')


def default_dir(tap):
    """nginx as www-data in the default place, and root's status shows it."""
    if not is_root():
        raise Skip('capability missing (root)')
    need('nginx')
    script = ('mount -t tmpfs -o mode=1777 tmpfs /dev/shm; exec "$@"')
    done = subprocess.run([*unshare(), 'sh', '-c', script, 'sh', PYTHON, __file__, '--default-dir'],
                          capture_output=True, text=True, timeout=120, check=False)
    tap.note(done.stdout + done.stderr)
    equal(done.returncode, 0, 'exit status')


def default_dir_inside():
    with Place(DIR=None, TIMEOUT='1h') as place, Peer('refusing') as peer:
        nginx = servers.Nginx(place, peer.name, GIVEUP_MS, True, extra_env=())
        try:
            for _ in range(TRIPS_AT + 3):
                equal(nginx.get().status, 502, 'HTTP status')
            equal(peer.calls(), TRIPS_AT, 'calls that reached the peer')
        finally:
            nginx.close()
        one(place, peer)
        done = subprocess.run([TOOL, 'status', '--json'], env={'PATH': PATH}, capture_output=True,
                              text=True, timeout=PATIENT_S, check=True)
        found = {s['service']: [b['state'] for b in s['breakers'] if b['peer'] == peer.name]
                 for s in json.loads(done.stdout)['services']}
        equal(found, {'nginx': ['open'], 'call_urllib.py': ['closed']}, 'services of all users')


def main():
    if sys.argv[1:] == ['--default-dir']:
        default_dir_inside()
        return 0
    tap = Tap()
    own_network()
    home = HOME % os.geteuid()
    for name, (setup, words) in PRIVATE.items():
        with tap.case(f'{name}: private breakers, and the reason'):
            if 'chown' in setup and not is_root():
                raise Skip('capability missing (chown)')
            private(tap, setup.replace('%s', home), *words)
    with tap.case('a /dev/shm of 1 MiB: the host runs, the breaker trips'):
        small(tap)
    with tap.case('a file of garbage: private breakers, and the reason'):
        spoiled(write_at(0, os.urandom(8192)), 'not a file of this version')
    with tap.case('a file that is too short: private breakers, and the reason'):
        spoiled(shorten, 'not a file of this version')
    with tap.case('a file of another layout: private breakers, and the reason'):
        spoiled(write_at(8, b'\x63\0\0\0'), 'not a file of this version')
    with tap.case('a file of another owner: private breakers, and the reason'):
        spoiled(other_owner, 'effective user')
    with tap.case('a file of another boot is made anew'):
        other_boot(tap)
    with tap.case('deleted files are joined again by running processes'):
        deleted(tap)
    with tap.case('nginx as www-data in the default directory; root sees all'):
        default_dir(tap)
    return tap.done()


if __name__ == '__main__':
    sys.exit(main())
