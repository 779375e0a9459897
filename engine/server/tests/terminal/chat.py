"""`kakeya chat` in a terminal, as a person uses it: `python3 chat.py KAKEYA CHECK`. Needs the default model."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time

KAKEYA = sys.argv[1]
PATIENCE = 100
REPEATABLE = ["--seed", "7", "--max-tokens", "24"]
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b[>=]|\r")


class Terminal:
    """The command in a terminal of so many columns."""

    def __init__(self, *flags: str, columns: int = 80) -> None:
        self.child, self.screen = pty.fork()
        if self.child == 0:
            os.environ["TERM"] = "xterm"
            os.environ.pop("COLUMNS", None)
            os.execv(KAKEYA, [KAKEYA, "chat", *flags])
        fcntl.ioctl(self.screen, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        #: What has come and was not read yet.
        self.unread = ""

    def until(self, part: str) -> str:
        """Reads until a text has come, and answers all that came, with it."""
        end = time.monotonic() + PATIENCE
        while part not in (seen := ESCAPES.sub("", self.unread)):
            ready, _, _ = select.select([self.screen], [], [], max(0, end - time.monotonic()))
            assert ready, f"no {part!r} within {PATIENCE} seconds; there was {self.unread!r}"
            try:
                data = os.read(self.screen, 65536)
            except OSError:
                data = b""
            assert data, f"it ended before {part!r}; there was {self.unread!r}"
            self.unread += data.decode(errors="replace")
        at = seen.index(part) + len(part)
        self.unread = seen[at:]
        return seen[:at]

    def type(self, keys: bytes) -> None:
        os.write(self.screen, keys)

    def ask(self, line: str) -> str:
        """Types a line, and answers what stands between it and the next prompt."""
        self.type(line.encode() + b"\r")
        return self.answer()

    def answer(self) -> str:
        """What stands between the line that was typed and the next prompt."""
        self.until("\n")
        # An answer of nothing is followed by the prompt at once.
        self.unread = "\n" + self.unread
        return self.until("\n> ").removesuffix("\n> ").strip()

    def leave(self) -> int:
        """Ctrl-D, and the exit code."""
        self.type(b"\x04")
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                os.read(self.screen, 65536)
            except OSError:
                break
        return os.waitstatus_to_exitcode(os.waitpid(self.child, 0)[1])


def turns_copies_and_files() -> None:
    chat = Terminal(*REPEATABLE)
    first = chat.until("> ")
    assert "/help lists commands" in first and "Ctrl-C stops a reply" in first, first
    assert chat.ask("/info").count("tokens: 0") == 1
    answer = chat.ask("What is the capital of France?")
    assert answer, "no reply"
    told = chat.ask("/info")
    tokens = int(re.search(r"tokens: (\d+)", told).group(1))
    assert tokens > 30 and "conversation: 1 of 1" in told and "the model sees all of it" in told, told
    assert "KV cache: " in told and "iB" in told, told
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "chat.kk")
        assert "Saved to" in chat.ask(f"/save {file}")
        assert os.stat(file).st_mode & 0o077 == 0
        assert "is there already" in chat.ask(f"/save {file}")
        assert "Conversation 2" in chat.ask("/fork")
        of_fork = chat.ask("And of Italy?")
        assert "Conversation 1." in chat.ask("/switch 1")
        assert chat.ask("And of Italy?") == of_fork
        assert f"with {tokens} tokens" in chat.ask(f"/load {file}")
        assert chat.ask("And of Italy?") == of_fork
        assert "conversation: 3 of 3" in chat.ask("/info")
        with open(file, "r+b") as damaged:
            damaged.seek(-1, os.SEEK_END)
            damaged.write(b"?")
        assert "error: " in chat.ask(f"/load {file}")
    assert "error: " in chat.ask("/load /no/such/file")
    assert "there is no conversation 9: they are numbered from 1 to 3" in chat.ask("/switch 9")
    assert "there is no /nonsense: /help lists" in chat.ask("/nonsense")
    assert "/save FILE" in chat.ask("/help")
    assert "A new conversation." in chat.ask("/reset")
    assert "tokens: 0" in chat.ask("/info")
    # After a reset the same question has the same reply.
    assert chat.ask("What is the capital of France?") == answer
    assert chat.leave() == 0


def ctrl_c_stops_a_reply_and_not_the_program() -> None:
    chat = Terminal("--seed", "7", "--max-tokens", "100000", "--temperature", "1.5", "--top-p", "1")
    chat.until("> ")
    chat.type(b"Count from one to a thousand.\r")
    chat.until("\n")
    time.sleep(3)
    os.kill(chat.child, 0)
    chat.type(b"\x03")
    chat.until("(stopped)")
    chat.until("\n> ")
    # At the prompt it is a hint, and no more.
    chat.type(b"\x03")
    chat.until("Ctrl-D or /quit leaves.")
    chat.until("\n> ")
    assert "conversation: 1 of 1" in chat.ask("/info")
    assert chat.leave() == 0


def lines_can_be_edited_and_called_back() -> None:
    chat = Terminal(*REPEATABLE)
    chat.until("> ")
    # Typed wrongly, and mended in the middle.
    assert "conversation: 1 of 1" in chat.ask("/infX\x7fo")
    chat.type(b"\x1b[A")
    chat.until("/info")
    assert "conversation: 1 of 1" in chat.ask("")
    assert chat.leave() == 0


def twenty_columns_and_bytes_that_are_no_text() -> None:
    chat = Terminal(*REPEATABLE, columns=20)
    first = chat.until("> ")
    lines = [line for line in first.split("\n") if not line.startswith(">")]
    notes = [line for line in lines if "WARN" not in line and "INFO" not in line]
    assert all(len(line) <= 20 for line in notes), notes
    chat.type(b"/in\xff\xfefo\r")
    chat.answer()
    assert "tokens: 0" in chat.ask("/info")
    for line in chat.ask("/help").split("\n"):
        assert len(line) <= 20, line
    assert chat.ask("Say a sentence that is longer than this terminal is wide, please.")
    assert chat.leave() == 0


def a_program_is_read_line_by_line() -> None:
    lines = b"What is the capital of France?\n\xff\xfe\n\n/nonsense\n/info\n"
    ran = subprocess.run([KAKEYA, "chat", *REPEATABLE], input=lines, capture_output=True, timeout=PATIENCE)
    told = ran.stderr.decode()
    assert ran.returncode == 0, told
    assert ran.stdout.strip() and b">" not in ran.stdout and b"tokens:" not in ran.stdout, ran.stdout
    assert "not UTF-8" in told and "there is no /nonsense" in told and "tokens: " in told, told
    # One that is told to stop stops, though its input stays open.
    waits = subprocess.Popen([KAKEYA, "chat", *REPEATABLE], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    waits.stdin.write(b"What is the capital of France?\n")
    waits.stdin.flush()
    assert waits.stdout.readline()
    waits.send_signal(signal.SIGTERM)
    assert waits.wait(PATIENCE) == 0


CHECKS = [
    turns_copies_and_files,
    ctrl_c_stops_a_reply_and_not_the_program,
    lines_can_be_edited_and_called_back,
    twenty_columns_and_bytes_that_are_no_text,
    a_program_is_read_line_by_line,
]

if __name__ == "__main__":
    {check.__name__: check for check in CHECKS}[sys.argv[2]]()
