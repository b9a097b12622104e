"""Become a program of PostgreSQL: drop privileges, ask the kernel to stop us when our parent dies, and exec.

A program of its own because Python code between fork and exec is unsafe in a process with threads.
Arguments: parent's pid, uid and gid (or `-` to stay who we are), then the command.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Never returns: either this process is that program now, or it has ended."""
    parent, uid, gid, *command = sys.argv[1:]
    if uid != "-":
        os.setgroups([])
        os.setgid(int(gid))
        os.setuid(int(uid))
    # After the change of user, which clears it. SIGQUIT is an immediate shutdown: the data is thrown away anyway.
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGQUIT, 0, 0, 0)
    if os.getppid() != int(parent):
        sys.exit("the parent is gone already")
    os.execv(command[0], command)  # noqa: S606 - the command is ours


if __name__ == "__main__":
    main()
