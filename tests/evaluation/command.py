"""Helpers that run the command on the folder of the fixture ``files``."""

from __future__ import annotations

import json

from sor_ppa.evaluation.__main__ import main

IDS = ("c000", "c009", "c016", "c046", "c066", "c067", "c083")


def write(path, content):
    path.write_text(json.dumps(content))


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    write(path, content)


def run(files, source, *options, truth="truth.json"):
    where = str(files / truth) if truth.endswith(".json") else truth
    return main([str(files / source), where, "--quiet", "--json", str(files / "out.json"), *options])


def result(files):
    return json.loads((files / "out.json").read_text())
