"""make, run in a checkout as a user has it (the fixture `tree` of conftest.py)."""
import os

SOURCES = ('shim.cpp', 'attach.cpp', 'record.cpp')
# make test runs these tests: what it has put into the environment is not for the makes below.
ENVIRONMENT = {key: value for key, value in os.environ.items()
               if key not in ('MAKEFLAGS', 'MAKELEVEL', 'MFLAGS', 'SANITIZE', 'PORTABLE', 'STATIC', 'TESTS', 'SOCK',
                              'PREFIX', 'DESTDIR')}


def make(tree, *arguments, **options):
    return tree.run('make', *arguments, **{'env': ENVIRONMENT, 'timeout': 120, **options})
