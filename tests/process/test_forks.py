"""What a forked child of a process of ours is without."""

import signal
import sys

# Each program prints what it found; a child says it through a file, as it
# has what stdout was, and no more.
BEGIN = '''
import os, signal, socket, sys, threading
from taskmaster import forks


def fork():
    """In a child True; in the parent False, once that has ended."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
    return not child


def say(*words):
    with open('said', 'a') as file:
        print(*words, file=file)
'''


def said(work, text):
    work.write('program.py', BEGIN + text)
    program = work.program(sys.executable, '-W', 'ignore', 'program.py')
    assert program.code() == 0
    return work.lines('said')


def test_a_child_has_not_what_is_ours_and_all_else(work):
    assert said(work, '''
here, there = socket.socketpair()
mine, _ = socket.socketpair()
forks.close_in_child(here)
if fork():
    say(os.path.samestat(os.fstat(here.fileno()), os.stat(os.devnull)),
        os.get_inheritable(here.fileno()), len(mine.getsockname()))
    here.close()            # as a finalizer may: nobody else has the number
    os._exit(0)
here.send(b'x')
say(there.recv(1))
here.close()
say(there.recv(1))
''') == ['True False 0', "b'x'", "b''"]


def test_the_other_side_sees_our_end_while_a_child_lives(work):
    assert said(work, '''
here, there = socket.socketpair()
ready, go = os.pipe()
forks.close_in_child(here)
child = os.fork()
if child == 0:
    os.close(go)
    os.read(ready, 1)       # until the parent has seen what it wants
    os._exit(0)
here.close()
say(there.recv(1))
os.close(go)
os.waitpid(child, 0)
''') == ["b''"]


def test_what_is_closed_already_is_no_hindrance(work):
    assert said(work, '''
one, two = socket.socketpair()
three = open('three', 'w')
for holder in one, three:
    forks.close_in_child(holder)
    holder.close()
forks.close_in_child(two)
del two, three
other = os.open('other', os.O_RDWR | os.O_CREAT)
if fork() and forks.is_child():
    say(os.path.samestat(os.fstat(other), os.stat('other')))
    os._exit(0)
say(forks.is_child())
''') == ['True', 'False']


def test_without_a_descriptor_to_spare_they_are_closed(work):
    assert said(work, '''
import resource
here, there = socket.socketpair()
forks.close_in_child(here)
resource.setrlimit(resource.RLIMIT_NOFILE, (there.fileno() + 1,) * 2)
if fork():
    try:
        os.fstat(here.fileno())
    except OSError:
        os.write(1, b'closed')
    os._exit(0)
''') == []
    assert work.programs[-1].out == 'closed'


def test_calls_are_made_in_each_child_and_methods_die_with_their_object(work):
    assert said(work, '''
class Object:
    def __init__(self, name):
        self.name = name

    def tell(self):
        say(self.name)

one, two = Object('one'), Object('two')
forks.call_in_child(one.tell)
forks.call_in_child(two.tell)
forks.call_in_child(lambda: say('function'))
del two
if fork():
    fork()
    os._exit(0)
''') == ['one', 'function', 'one', 'function']


def test_a_signal_at_once_meets_the_handlers_of_the_child(work):
    """A thousand forks, each child ended before it could do anything."""
    assert said(work, '''
ours = []
signal.signal(signal.SIGTERM, lambda number, frame: ours.append(number))
forks.call_in_child(lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))
ends = set()
for _ in range(1000):
    child = os.fork()
    if child == 0:
        signal.pause()
    os.kill(child, signal.SIGTERM)
    ends.add(os.waitpid(child, 0)[1])
say(ends, ours)
''') == ['{15} []']


def test_no_thread_forks_while_a_child_is_started(work):
    assert said(work, '''
begun, ended = threading.Event(), threading.Event()


def other():
    begun.set()
    if fork():
        os._exit(0)
    ended.set()


with forks.none_now():
    thread = threading.Thread(target=other)
    thread.start()
    begun.wait()
    say(ended.wait(0.2))
    if fork():          # this thread itself may
        os._exit(0)
say(ended.wait(30))
thread.join()
''') == ['False', 'True']


def test_a_child_can_start_children_whoever_held_the_lock(work):
    assert said(work, '''
thread = threading.Thread(target=fork)
if fork():
    with forks.none_now():
        say('child')
    fork()
    say('forked')
    os._exit(0)
''') == ['child', 'forked', 'forked']


def test_the_end_of_a_child(work):
    assert said(work, '''
class Odd(Exception):
    pass


print('not written twice')
for error in (None, SystemExit(), SystemExit(3), SystemExit('why'),
              SystemExit(257), Odd('raised')):
    child = os.fork()
    if child == 0:
        forks.end_child(error)
    say(os.waitpid(child, 0)[1] >> 8)
''') == ['0', '0', '3', '1', '1', '1']
    program = work.programs[-1]
    assert program.err.split('\n') == ['why', 'Odd: raised', '']
    assert program.out == 'not written twice\n'


def test_signals_are_those_of_before_in_parent_and_child(work):
    """What a fork holds back is let through again."""
    assert said(work, '''
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
if fork():
    say(signal.pthread_sigmask(signal.SIG_BLOCK, []))
    os._exit(0)
say(signal.pthread_sigmask(signal.SIG_BLOCK, []))
''') == [f'{{{signal.SIGUSR1!r}}}'] * 2
