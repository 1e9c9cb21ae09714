"""What vLLM is asked for; the engine itself is tested in test_host."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flywheel.errors import ModelError, RecipeError
from flywheel.policy import vllm
from flywheel.recipe import ModelSection, VllmOptions


def arguments(cpu: bool, **options) -> dict:
    return vllm.engine_arguments(
        Path("m"), ModelSection(), VllmOptions(**options), cpu=cpu, seed=2**40 + 3, max_model_len=300
    )


def test_a_cpu_gets_the_measured_settings() -> None:
    found = arguments(cpu=True)
    assert found["distributed_executor_backend"] == "uni"
    assert found["block_size"] == vllm.CPU_BLOCK
    assert found["max_num_seqs"] == vllm.CPU_SEQUENCES
    assert found["kv_cache_memory_bytes"] == 2 * 2**30
    assert found["enforce_eager"] is True
    assert found["max_model_len"] == 300
    assert found["seed"] == 3


def test_a_gpu_is_left_to_vllm() -> None:
    found = arguments(cpu=False, tensor_parallel=2, memory_share=0.5)
    assert found["tensor_parallel_size"] == 2
    assert found["gpu_memory_utilization"] == 0.5
    assert found["enforce_eager"] is False
    assert not {"block_size", "max_num_seqs", "distributed_executor_backend", "kv_cache_memory_bytes"} & set(found)


def test_where_tokens_are_not_drawn_by_us_vllm_tells_what_they_were_drawn_from() -> None:
    assert "logprobs_mode" not in arguments(cpu=True)
    for found in (arguments(cpu=False), arguments(cpu=True, tensor_parallel=2)):
        assert found["logprobs_mode"] == "processed_logprobs"
    assert arguments(cpu=False, extra={"logprobs_mode": "raw_logprobs"})["logprobs_mode"] == "raw_logprobs"


def test_options_win() -> None:
    found = arguments(cpu=True, max_sequences=8, eager=False, max_model_len=99, extra={"block_size": 64, "swap": 1})
    assert (found["max_num_seqs"], found["enforce_eager"], found["max_model_len"]) == (8, False, 99)
    assert (found["block_size"], found["swap"]) == (64, 1)


def test_one_engine_takes_all_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm, "on_cpu", lambda: True)
    (environment,) = vllm.environments(VllmOptions())
    assert environment["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"
    assert environment["HF_HUB_OFFLINE"] == "1"
    assert "VLLM_CPU_OMP_THREADS_BIND" not in environment


def test_engines_share_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm, "on_cpu", lambda: True)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3, 7})
    bound = [e["VLLM_CPU_OMP_THREADS_BIND"] for e in vllm.environments(VllmOptions(data_parallel=2))]
    assert bound == ["0,1", "2,3"]
    with pytest.raises(RecipeError, match=r"data_parallel = 9 .* asks for 9 cores, and there are 5 \(0,1,2,3,7\)"):
        vllm.environments(VllmOptions(data_parallel=9))


def test_engines_share_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm, "on_cpu", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    options = VllmOptions(data_parallel=2, tensor_parallel=2)
    assert [e["CUDA_VISIBLE_DEVICES"] for e in vllm.environments(options)] == ["4,5", "6,7"]
    assert "VLLM_ENABLE_V1_MULTIPROCESSING" not in vllm.environments(options)[0]
    with pytest.raises(RecipeError, match=r"asks for 8 GPUs, and there are 4"):
        vllm.environments(VllmOptions(data_parallel=4, tensor_parallel=2))


def test_no_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm, "_version", lambda name: None)
    with pytest.raises(ModelError, match="vllm is not installed"):
        vllm.on_cpu()


@pytest.mark.parametrize(
    ("installed", "cpu"), [({"vllm-cpu": "0.32.0"}, True), ({"vllm": "0.32.0+cpu"}, True), ({"vllm": "0.32.0"}, False)]
)
def test_which_build(installed: dict[str, str], cpu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm, "_version", installed.get)
    assert vllm.on_cpu() is cpu


@pytest.mark.slow
def test_an_unknown_argument_is_refused(tiny_model: Path) -> None:
    pytest.importorskip("vllm")
    options = VllmOptions(extra={"no_such_thing": 1}).model_dump()
    with pytest.raises(RecipeError, match=r"policy.vllm.extra = .*'no_such_thing'"):
        vllm.VllmEngine(tiny_model, ModelSection(), options, seed=7, max_model_len=200)
