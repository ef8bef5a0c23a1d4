"""The agent: performs system calls by name, inside a guest or outside on a host. One API for all vantages.

Modules of the standard library's Python, 3.8 and later, which `guests.agent.packing` joins to the one file that is
pushed; `__main__` begins it. Rules that joining asks for, and that `tests/guests/test_agent_packing.py` checks: modules
import each other's names, never each other; a name stands for one thing in all of them; types are for the checker
alone. It speaks JSON lines on standard input and output. A request is {"id", "proc", "op", "args", "kw", "timeout"};
its reply {"id", "v": value}, {"id", "errno", "text"}, {"id", "hung": true}, {"id", "stopped": pid}, {"id", "died": wait
status}, or {"id", "bug": traceback}. Bytes travel as {"b64": ...}, path names as strings with surrogate escapes.

Calls of "main" are made in the agent's own process; "proc" may name further processes, which it forks: that is how
a case gets a second process, another user or another umask. A call that never returns does not take the agent
with it: past its timeout the caller is answered, and a successor goes on (see `loop.Agent`).

A request with "look" (marked in the trace or not) has what its call changed looked at in the same round trip,
while the call is "main"'s: "seen" then holds [name below the root, lstat or errno] of each and of its parents. "s" is
what the call took, its request's decoding included; "o" what the agent spent on other things since the last call of
"main": looking, writing replies. Both in seconds.
"""
