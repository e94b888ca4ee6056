"""What a training takes: counted right, added up over stops and over ranks, and modelled energy says that it is."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import pytest
import torch
from training import GROWING, train_run, write_set

from device.errors import DarkrackError
from device.machine import Meter
from train import cost
from train.cost import Cost
from train.ranks import ALONE, Ranks


def test_macs_of_a_step_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dense layer of 3 to 5 over 7 notes is 105; its way back to the weights is as many, and none to the input."""
    monkeypatch.setattr(cost, "meter", lambda: None)
    layer, counted = torch.nn.Linear(3, 5, bias=False), Cost(tmp_path, ALONE)
    for _ in range(3):
        with counted.step("any", 7):
            layer(torch.ones(7, 3)).sum().backward()
    found = counted.so_far()
    assert (found["steps"], found["notes"], found["macs"]) == (3, 21, 3 * 210)
    assert found["joules"] == pytest.approx(cost.CORE_W * found["core_seconds"])
    assert found["joules_from"] == [cost.MODELLED]
    assert "modelled" in cost.said(found)


def test_the_penalty_of_a_convolution_is_counted_with_its_second_derivative(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forward, and the gradient by the input; then each of them back to the weights and to what it was made of."""
    monkeypatch.setattr(cost, "meter", lambda: None)
    layer, counted = torch.nn.Conv2d(2, 3, 3, padding=1), Cost(tmp_path, ALONE)
    once = 2 * 3 * 9 * 4 * 4
    planes = torch.ones(1, 2, 4, 4, requires_grad=True)
    with counted.step("penalty", 1):
        (gradient,) = torch.autograd.grad(layer(planes).square().sum(), planes, create_graph=True)
        gradient.square().sum().backward()
    assert counted.so_far()["macs"] == 6 * once


def test_a_meter_is_read_by_one_rank_of_a_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spent = [100.0]
    monkeypatch.setattr(cost, "meter", lambda: Meter("RAPL", joules=lambda: spent[0]))
    first = Cost(tmp_path, ALONE)
    second = Cost(tmp_path, Ranks(torch.device("cpu"), local=1))
    spent[0] += 42
    assert (first.so_far()["joules"], first.so_far()["joules_from"]) == (42, ["RAPL"])
    assert second.so_far()["joules"] == 0


def test_a_sensor_of_watts_alone_is_not_added_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "meter", lambda: Meter("battery", watts=lambda: 5.0))
    assert Cost(tmp_path, ALONE).so_far()["joules_from"] == [cost.MODELLED]


def test_a_gpu_has_a_counter_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NVML's, in mJ, through NVIDIA's package; without that the file says what is missing."""
    monkeypatch.setattr(cost, "meter", lambda: None)
    gpu = Ranks(torch.device("cuda", 0))
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert cost.UNKNOWN_GPU in Cost(tmp_path, gpu).so_far()["joules_from"]
    spent = [5000]
    fake = types.SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
        nvmlDeviceGetTotalEnergyConsumption=lambda gpu: spent[0] if gpu == "GPU-12ab" else None,
        NVMLError=RuntimeError,
    )
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda _: types.SimpleNamespace(uuid="12ab"), raising=False
    )
    counted = Cost(tmp_path, gpu)
    spent[0] += 7000
    found = counted.so_far()
    assert found["joules"] == pytest.approx(7 + cost.CORE_W * found["core_seconds"], rel=0.01)
    assert found["joules_from"] == ["NVML", cost.MODELLED]


def test_it_goes_on_where_it_was(tmp_path: Path) -> None:
    data = write_set(tmp_path / "set")
    run = train_run(tmp_path, data, GROWING)
    first = json.loads((run / cost.FILE).read_text())
    assert (first["steps"], first["notes"]) == (12, 4 * 8 + 4 * 6 + 4 * 4)
    assert first["macs"] > 0
    assert first["computed_on"] == ["1 x cpu"]
    again = json.loads((train_run(tmp_path, data, GROWING) / cost.FILE).read_text())  # nothing left to do
    assert (again["steps"], again["macs"]) == (12, first["macs"])
    assert again["seconds"] > first["seconds"]
    for damaged in ("{", "[]", '{"steps": 1}'):
        (run / cost.FILE).write_text(damaged)
        with pytest.raises(DarkrackError, match="what a run took"):
            train_run(tmp_path, data, GROWING)
