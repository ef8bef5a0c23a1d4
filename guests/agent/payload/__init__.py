"""The agent: performs system calls by name, inside a guest or outside on a host. One API for all vantages.

The modules use only the standard library of Python 3.8 and later; `guests.agent.packing` joins them to the one file
that is pushed, which starts with `__main__`. Joining needs these rules, which `tests/guests/test_agent_packing.py`
checks: modules import each other's names, never each other; a name has one meaning in all of them; types are only for
the checker. The agent speaks JSON lines on standard input and output. A request is {"id", "proc", "op", "args", "kw",
"timeout"}; its reply {"id", "v": value}, {"id", "errno", "text"}, {"id", "hung": true}, {"id", "stopped": pid}, {"id",
"died": wait status}, or {"id", "bug": traceback}. Bytes travel as {"b64": ...}, path names as strings with surrogate
escapes.

Calls of "main" are made in the agent's own process; "proc" may name further processes, which it forks: this gives a
case a second process, another user or another umask. A call that never returns does not block the agent: after its
timeout the caller gets a reply, and a successor takes over (see `loop.Agent`).

For a request of "main" with "look" (marked in the trace or not) the reply's "seen" holds [name below the root, lstat or
errno] of each path that the call changed and of its parents. "s" is the time of the call, including the decoding of its
request; "o" the time that the agent spent on other work since the last call of "main": looking, writing replies. Both
are in seconds.
"""
