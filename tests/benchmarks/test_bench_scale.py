"""The prediction of a cluster's speed."""

import pytest

from benchmarks.bench_scale import Costs, bottleneck, predict_rates

COSTS = Costs(decode=0.009, move=0.001, model=0.02, gather=1e-4, file_bytes=2e5, pixel_bytes=2e6, gpu=True)


def test_gpus_limit_a_node_with_many_cpus():
    rates = predict_rates(COSTS, nodes=2, gpus=4, cpus=64, network=1e9)
    assert rates == pytest.approx({"decode": 12000, "model": 400, "network": 10000, "gathering": 10000})
    assert bottleneck(rates) == ("model", 400)


def test_more_nodes_move_the_limit_to_the_command():
    assert bottleneck(predict_rates(COSTS, nodes=100, gpus=4, cpus=64, network=1e9))[0] == "gathering"


def test_models_on_cpus_share_them_with_decoding():
    costs = Costs(decode=0.01, move=0, model=0.03, gather=1e-4, file_bytes=2e5, pixel_bytes=2e6)
    assert bottleneck(predict_rates(costs, nodes=1, gpus=8, cpus=4, network=1e9)) == ("CPUs", 100)
