"""What ends a test that hangs. pytest-timeout does where it can: here is what that needs, and what it leaves.

A plugin for pytest, and the loops that tests run on.
"""

import asyncio
import faulthandler
import functools
import inspect
import os

import pytest
import uvloop

_STDERR = pytest.StashKey()


def new_uvloop():
    """Return a loop that hands on what it would swallow: that the time of a test is over."""
    loop = uvloop.new_event_loop()
    loop.set_exception_handler(_take)
    return loop


def _take(loop, context):
    """pytest-timeout raises in a signal handler, which uvloop runs as a callback: what that raises ends nothing."""
    loop.default_exception_handler(context)
    if isinstance(over := context.get("exception"), pytest.fail.Exception):
        for task in asyncio.all_tasks(loop):
            task.cancel(str(over))


LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": new_uvloop}


def both_loops(test):
    """Run a test on asyncio's own loop and on uvloop."""

    def run(new_loop, **fixtures):
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(test(**fixtures))

    functools.update_wrapper(run, test)
    of_test = inspect.signature(test)
    one_more = inspect.Parameter("new_loop", inspect.Parameter.KEYWORD_ONLY)
    run.__signature__ = of_test.replace(parameters=[*of_test.parameters.values(), one_more])
    return pytest.mark.parametrize("new_loop", LOOPS.values(), ids=LOOPS)(run)


def pytest_configure(config):
    config.stash[_STDERR] = os.dup(2)  # it is captured later


@pytest.hookimpl(trylast=True)
def pytest_exception_interact(node):
    """Watch on. At an exception pytest and pytest-timeout end their watches, but what the test leaves may hang too."""
    limit = float(node.config.getini("faulthandler_timeout") or 0)
    if isinstance(node, pytest.Item) and limit:
        faulthandler.dump_traceback_later(limit, exit=True, file=node.config.stash[_STDERR])
