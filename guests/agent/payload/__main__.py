"""The agent as a program: requests on standard input, replies on standard output."""

from __future__ import annotations

import os
import sys

from guests.agent.payload.loop import Agent
from guests.agent.payload.machine import own_architecture
from guests.agent.payload.platforms import LINUX, platform_of

if __name__ == "__main__":
    agent = Agent(os.dup(0), os.dup(1))
    try:
        if platform_of(sys.platform) is LINUX:  # other systems make calls by name only
            own_architecture()
    except ValueError as refusal:
        agent.say({"refused": str(refusal)})
        while os.read(0, 1 << 16):  # the caller may still be sending
            pass
    else:
        agent.run()
    os._exit(0)
