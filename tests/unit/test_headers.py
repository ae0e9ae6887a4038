#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Each header compiles alone, twice over, with the flags of its directory's sources, and no
file reaches for a layer above its own (TAP). usage: test_headers.py SOURCE_ROOT BUILD_ROOT"""
import json
import os
import re
import shlex
import subprocess
import sys

# Who may include whom: core nobody, shim and tools core alone.
LAYERS = {'core': ('core',), 'shim': ('core', 'shim'), 'tools': ('core', 'tools')}

# Options of a compile command that name its files; the bool says whether a word follows.
FILES = {'-o': True, '-c': False, '-MF': True, '-MQ': True, '-MT': True, '-MD': False,
         '-MMD': False}


def flags_by_directory(source_root, build_root):
    """The compiler with its flags for some source of each directory."""
    with open(os.path.join(build_root, 'compile_commands.json'), encoding='utf-8') as f:
        entries = json.load(f)
    flags = {}
    for entry in entries:
        path = os.path.relpath(os.path.join(entry['directory'], entry['file']), source_root)
        words = iter(shlex.split(entry['command']))
        kept = []
        for word in words:
            if word in FILES:
                if FILES[word]:
                    next(words)
            elif word != entry['file']:
                kept.append(word)
        flags.setdefault(os.path.dirname(path), kept)
    return flags


def files_in(source_root, directory, suffixes):
    root = os.path.join(source_root, directory)
    if not os.path.isdir(root):
        return []
    return sorted(os.path.join(directory, name) for name in os.listdir(root)
                  if name.endswith(suffixes))


def compile_alone(header, flags, build_root):
    text = f'#include "{header}"\n#include "{header}"\n'
    done = subprocess.run(flags + ['-fsyntax-only', '-x', 'c', '-'], input=text, text=True,
                          cwd=build_root, stderr=subprocess.PIPE, check=False)
    return done.returncode == 0, done.stderr


def layering(source_root, path, allowed):
    with open(os.path.join(source_root, path), encoding='utf-8') as f:
        included = re.findall(r'^\s*#\s*include\s+"([^"]+)"', f.read(), re.MULTILINE)
    wrong = [name for name in included if name.split('/')[0] not in allowed]
    return not wrong, ''.join(f'includes "{name}"\n' for name in wrong)


def main():
    source_root, build_root = sys.argv[1:]
    flags = flags_by_directory(source_root, build_root)
    cases = []
    for directory, allowed in LAYERS.items():
        for header in files_in(source_root, directory, '.h'):
            cases.append((f'{header} compiles alone', compile_alone,
                          (header, flags[directory], build_root)))
        for path in files_in(source_root, directory, ('.c', '.h')):
            cases.append((f'{path} stays in its layer', layering,
                          (source_root, path, allowed)))

    print(f'1..{len(cases)}')
    failed = 0
    for number, (name, check, arguments) in enumerate(cases, 1):
        good, why = check(*arguments)
        failed += not good
        print(f'{"ok" if good else "not ok"} {number} - {name}')
        for line in why.splitlines() if not good else []:
            print(f'# {line}')
    return failed != 0 or not cases


if __name__ == '__main__':
    sys.exit(main())
