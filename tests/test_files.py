"""Files are written whole or not at all: under an exception, a full disk, a kill, and without permission."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from device.errors import DarkrackError
from device.files import atomic_path, read_bytes, read_toml, sha256_of, write_audio, write_json


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_file_appears_when_the_block_ends_in_folders_made_for_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "note.wav"
    with atomic_path(path) as temporary:
        assert temporary.suffix == ".wav"
        assert temporary.parent == path.parent
        temporary.write_bytes(b"whole")
        assert not path.exists()
    assert path.read_bytes() == b"whole"
    assert _names(path.parent) == ["note.wav"]


@pytest.mark.parametrize("error", [ValueError("halfway"), KeyboardInterrupt()], ids=["error", "Ctrl-C"])
def test_what_the_block_raises_leaves_the_old_file_and_no_other(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "song.wav"
    path.write_bytes(b"old")

    def write_half(error: BaseException) -> None:
        with atomic_path(path) as temporary:
            temporary.write_bytes(b"half of the n")
            raise error

    with pytest.raises(type(error)):
        write_half(error)
    assert path.read_bytes() == b"old"
    assert _names(tmp_path) == ["song.wav"]


def test_a_full_disk_is_our_error_with_its_reason(tmp_path: Path) -> None:
    path = tmp_path / "song.wav"
    path.write_bytes(b"old")
    with (
        pytest.raises(DarkrackError) as caught,
        atomic_path(path),
        open("/dev/full", "wb", buffering=0) as full,
    ):
        full.write(b"x")  # the kernel's own ENOSPC
    assert str(path) in caught.value.where
    assert "No space left on device" in caught.value.got
    assert "free space" in caught.value.hint
    assert path.read_bytes() == b"old"
    assert _names(tmp_path) == ["song.wav"]


def test_a_write_that_the_system_cuts_short_leaves_the_old_file(tmp_path: Path) -> None:
    """A limit on the size of files stops the temporary itself, as a full disk does."""
    path = tmp_path / "big.json"
    path.write_bytes(b"old")
    script = (
        "import resource, sys; from pathlib import Path\n"
        "from device.errors import DarkrackError; from device.files import write_json\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try: write_json(Path(sys.argv[1]), ['x' * 100] * 1000)\n"
        "except DarkrackError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.startswith(f"error: {path}: expected a file that can be written, got File too large")
    assert path.read_bytes() == b"old"
    assert _names(tmp_path) == ["big.json"]


def test_audio_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    write_audio(path, np.zeros((10, 2), np.float32), 48_000, "PCM_16")
    assert soundfile.info(path).subtype == "PCM_16"
    with pytest.raises(ValueError, match="inhomogeneous"):
        write_audio(path, [[0.0], [0.0, 1.0]], 48_000, "PCM_16")  # type: ignore[arg-type]
    write_audio(tmp_path / "a.flac", np.zeros(10, np.float32), 48_000, "PCM_24")
    assert soundfile.info(tmp_path / "a.flac").format == "FLAC"
    assert soundfile.info(path).frames == 10
    assert _names(tmp_path) == ["a.flac", "a.wav"]


def test_audio_on_a_full_disk_is_our_error(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    script = (
        "import resource, signal, sys; from pathlib import Path; import numpy as np\n"
        "from device.errors import DarkrackError; from device.files import write_audio\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try: write_audio(Path(sys.argv[1]), np.zeros(48000, np.float32), 48000, 'PCM_16')\n"
        "except DarkrackError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.startswith(f"error: {path}: expected a file that can be written, got ")
    assert _names(tmp_path) == []


def test_a_kill_in_the_middle_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(b"old")
    script = (
        "import sys, time; from pathlib import Path; from device.files import atomic_path\n"
        "with atomic_path(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_bytes(b'half of the new')\n"
        "    print('written', flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "written\n"
        writer.send_signal(signal.SIGKILL)
    assert writer.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"


def test_others_may_read_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "first.rack"
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"")
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_folder_without_permission_is_our_error(tmp_path: Path) -> None:
    """In a process of its own that gives up root's right to write anywhere, where it has it."""
    script = (
        "import os, sys; from pathlib import Path\n"
        "from device.errors import DarkrackError; from device.files import write_json\n"
        "os.chmod(sys.argv[1], 0o555)\n"
        "if os.getuid() == 0: os.setgid(65534); os.setuid(65534)\n"
        "try: write_json(Path(sys.argv[1]) / 'x.json', 1)\n"
        "except DarkrackError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True, timeout=60
    )
    assert "expected a file that can be written, got Permission denied" in done.stdout
    assert _names(tmp_path) == []


@pytest.mark.parametrize("blocked", ["a folder in its place", "a file where its folder should be"])
def test_a_path_that_cannot_be_a_file_is_our_error(tmp_path: Path, blocked: str) -> None:
    path = tmp_path / "taken" / "x.json"
    if blocked == "a folder in its place":
        path.mkdir(parents=True)
    else:
        path.parent.write_bytes(b"")
    with pytest.raises(DarkrackError, match="expected a file that can be written"):
        write_json(path, 1)


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    )
)
def test_json_comes_back_as_it_went(tmp_path_factory: pytest.TempPathFactory, content: object) -> None:
    path = tmp_path_factory.getbasetemp() / "content.json"
    write_json(path, content)
    assert json.loads(path.read_text(encoding="utf-8")) == content


def test_nan_is_no_json_and_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "measured.json"
    write_json(path, {"fad": 1.0})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"fad": float("nan")})
    assert json.loads(path.read_text(encoding="utf-8")) == {"fad": 1.0}


def test_the_hash_of_a_file_longer_than_a_piece(tmp_path: Path) -> None:
    content = os.urandom((1 << 20) + 17)
    (tmp_path / "audio.flac").write_bytes(content)
    assert sha256_of(tmp_path / "audio.flac") == hashlib.sha256(content).hexdigest()


def test_a_missing_file_is_named_with_what_it_should_have_been(tmp_path: Path) -> None:
    with pytest.raises(DarkrackError) as caught:
        read_bytes(tmp_path / "gone.rack", "a bundle", "darkrack export makes one")
    assert str(caught.value) == (
        f"error: {tmp_path / 'gone.rack'}: expected a bundle, got No such file or directory\n"
        "hint: darkrack export makes one"
    )


def test_a_syntax_error_in_toml_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text("seed = 1\nsteps = = 2\n")
    with pytest.raises(DarkrackError, match=r"recipe\.toml: expected a recipe in TOML, got .*line 2"):
        read_toml(path, "a recipe")


def test_toml_in_another_encoding_is_our_error(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_bytes("name = 'Flügelhorn'".encode("latin-1"))
    with pytest.raises(DarkrackError, match="expected a recipe in TOML"):
        read_toml(path, "a recipe")


def test_toml_is_read(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text("[train]\nsteps = 2\nname = 'Flügelhorn'\n", encoding="utf-8")
    assert read_toml(path, "a recipe") == {"train": {"steps": 2, "name": "Flügelhorn"}}
