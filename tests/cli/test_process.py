"""The command as a process: start-up, pipes, signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from annotated import write_voc

Process = Callable[..., Any]
Picture = Callable[..., Path]

_LOADED = "import sys\ntry:\n    {}\nfinally:\n    print(sorted(m for m in sys.modules if m in {}), file=sys.stderr)"
_HEAVY = ("torch", "cv2", "pandas", "matplotlib", "av", "supervision")


def loaded(process: Process, code: str, unwanted: tuple[str, ...]) -> tuple[Any, str]:
    """Runs code in a process; returns it and which of the unwanted modules it imported."""
    done = process("-c", _LOADED.format(code, unwanted))
    return done, done.stderr.decode().splitlines()[-1]


@pytest.mark.parametrize(
    "arguments", [["--help"], ["predict", "--help"], ["train", "--help"], ["predict", "--nothing"], ["--version"]]
)
def test_help_imports_nothing_heavy(process: Process, arguments: list[str]) -> None:
    done, heavy = loaded(
        process, f"from leyolo.cli import main; main({arguments})", (*_HEAVY, "numpy", "PIL", "leyolo._C")
    )
    assert heavy == "[]", done.stderr.decode()


def test_import_is_light(process: Process) -> None:
    _, heavy = loaded(process, "import leyolo", (*_HEAVY, "numpy", "PIL", "leyolo._C"))
    assert heavy == "[]"
    _, heavy = loaded(process, "import leyolo; leyolo.LeYOLO", _HEAVY)
    assert heavy == "[]"


def test_predicting_does_not_import_torch(process: Process, weights_file: Path, picture: Picture) -> None:
    arguments = ["predict", str(picture()), "-m", str(weights_file), "--imgsz", "96", "--format", "jsonl", "--save"]
    done, heavy = loaded(process, f"from leyolo.cli import main; sys.exit(main({arguments}))", _HEAVY)
    assert done.returncode == 0, done.stderr.decode()
    assert heavy == "[]"
    assert json.loads(done.stdout)["width"] == 96


def test_commands_about_the_machine_do_not_import_torch(process: Process) -> None:
    for command in ("info", "doctor", "models"):
        done, heavy = loaded(process, f"from leyolo.cli import main; main(['{command}', '--json'])", _HEAVY)
        assert heavy == "[]", command
        json.loads(done.stdout)


_TYPER = """from pathlib import Path
from typing import Annotated
import typer
app = typer.Typer()
@app.callback()
def top(version: Annotated[bool, typer.Option()] = False): pass
@app.command()
def predict(number: int = 1, path: Path = Path(), flag: bool = False): pass
"""


def test_help_is_quick(process: Process) -> None:
    """Counted in modules, for seconds say more about the machine: a page of typer's own, our commands, and json."""

    def modules(code: str) -> set[str]:
        done = process("-c", f"import sys\n{code}\nfinally:\n    print(*sys.modules, file=sys.stderr)")
        return set(done.stderr.decode().splitlines()[-1].split())

    ours = modules("try:\n    from leyolo.cli import main; main(['predict', '--help'])")
    typer = modules(f"{_TYPER}try:\n    app(['predict', '--help'])")
    assert "rich" in typer
    own = {name for name in ours - typer if name.split(".")[0] in ("leyolo", "json", "_json")}
    assert ours - typer == own
    assert len(own) < 30


@pytest.mark.parametrize("arguments", [[], ["--help"], ["predict", "-h"], ["info", "--help"], ["benchmark", "--help"]])
def test_help_on_stdout(process: Process, arguments: list[str]) -> None:
    done = process("-m", "leyolo", *arguments)
    assert b"Usage: leyolo" in done.stdout + done.stderr
    assert b"Traceback" not in done.stderr
    if arguments:
        assert done.returncode == 0


def test_pictures_through_a_pipe(process: Process, weights_file: Path, picture: Picture) -> None:
    data = picture("a.png").read_bytes() + picture("b.jpg").read_bytes()
    flags = ("predict", "-", "-m", weights_file, "--imgsz", 96, "--format", "jsonl")
    done = process("-m", "leyolo", *flags, input=data)
    assert done.returncode == 0, done.stderr.decode()
    assert [json.loads(line)["path"] for line in done.stdout.splitlines()] == ["stdin0", "stdin1"]
    done = process("-m", "leyolo", *flags, "--list", input=f"{picture('a.png')}\nmissing.png\n".encode())
    assert done.returncode == 3
    assert len(done.stdout.splitlines()) == 1
    assert b"error: missing.png: no such file" in done.stderr
    done = process("-m", "leyolo", *flags, input=b"")
    assert done.returncode == 3
    assert b"error: standard input: is empty" in done.stderr


def test_plain_lines_in_a_pipe(process: Process, weights_file: Path, picture: Picture) -> None:
    path = picture()
    done = process("-m", "leyolo", "predict", path, path, "-m", weights_file, "imgsz=96", "--no-save")
    assert done.returncode == 0
    assert done.stdout == b""
    assert b"\x1b" not in done.stderr
    assert b"\r" not in done.stderr
    assert len(done.stderr.splitlines()) == 4


def on_terminal(arguments: list[object], **environment: str) -> bytes:
    """What the command says to a terminal."""
    import pty

    main_end, process_end = pty.openpty()
    command = [sys.executable, "-m", "leyolo", *map(str, arguments)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TERM": "xterm-256color", **environment}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=process_end, env=env) as running:
        os.close(process_end)
        text = b""
        while True:
            try:
                chunk = os.read(main_end, 4096)
            except OSError:  # Linux says so when the other end is closed
                break
            if not chunk:
                break
            text += chunk
        running.wait(60)
    os.close(main_end)
    return text


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
def test_a_bar_and_colour_on_a_terminal(weights_file: Path, picture: Picture) -> None:
    paths = [picture(f"{n}.png") for n in range(3)]
    arguments = ["predict", *paths, "missing.png", "-m", weights_file, "imgsz=96", "--no-save"]
    text = on_terminal(arguments)
    assert b"\x1b[" in text
    assert b"/4" in text, "the bar counts to the number of pictures"
    assert text.count(b".png: 96x64") == 3
    assert b"\x1b[1;31merror:" in on_terminal(["predict", "--nothing"])
    assert on_terminal(["predict", "--nothing"], NO_COLOR="1").startswith(b"error:")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGPIPE")
def test_a_reader_that_leaves_is_no_error(weights_file: Path, picture: Picture, tmp_path: Path) -> None:
    listing = tmp_path / "many.txt"
    listing.write_text(f"{picture()}\n" * 400)
    command = [sys.executable, "-m", "leyolo", "predict", str(listing), "-m", str(weights_file), "imgsz=32", "conf=0"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [*command, "format=jsonl", "-q"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.readline()
        running.stdout.close()
        assert running.stderr.read() == b""
        assert running.wait(60) == 0


def _interruptible() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows interrupts differently")
@pytest.mark.parametrize("waiting", [True, False])
def test_ctrl_c(weights_file: Path, picture: Picture, tmp_path: Path, waiting: bool) -> None:
    """While it waits for a pipe, and while it works."""
    listing = tmp_path / "many.txt"
    listing.write_text(f"{picture()}\n" * 20000)
    source = "-" if waiting else str(listing)
    command = [
        sys.executable,
        "-m",
        "leyolo",
        "predict",
        source,
        "-m",
        str(weights_file),
        "imgsz=96",
        "format=jsonl",
        "-q",
    ]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    # Where the tests run in the background, SIGINT is ignored, and what they start would inherit that.
    with subprocess.Popen(command, env=env, preexec_fn=_interruptible, **pipes) as running:
        if waiting:
            running.stdin.write(picture().read_bytes())
            running.stdin.flush()
        running.stdout.readline()  # it is under way
        time.sleep(0.2)
        running.send_signal(signal.SIGINT)
        if not waiting:
            running.stdout.read()
        assert running.wait(30) == 130
        assert running.stderr.read() == b"interrupted\n"


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/stdout")
@pytest.mark.parametrize("to_file", [False, True])
def test_output_to_dev_stdout(
    process: Process, weights_file: Path, picture: Picture, tmp_path: Path, to_file: bool
) -> None:
    arguments = ["-m", "leyolo", "predict", picture(), "-m", weights_file, "--imgsz", "96", "-o", "/dev/stdout"]
    with (tmp_path / "out").open("wb") as stream:
        options = {"capture_output": False, "stdout": stream, "stderr": subprocess.PIPE} if to_file else {}
        done = process(*arguments, **options)
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads((tmp_path / "out").read_bytes() if to_file else done.stdout)["width"] == 96


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/stdout")
def test_json_to_dev_stdout_is_alone_there(process: Process, tmp_path: Path) -> None:
    data = write_voc(tmp_path / "v", {"a": [("cat", (1, 2, 30, 40))]})
    with (tmp_path / "out").open("wb") as stream:
        arguments = ["-m", "leyolo", "data", "stats", "--data", data, "--json", "/dev/stdout"]
        done = process(*arguments, capture_output=False, stdout=stream, stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads((tmp_path / "out").read_bytes())["all"]["objects"] == 1
