"""Forty wrong ways to give each command: each is refused in one line that names what is wrong, and nothing is
done. What depends on data, runs and files is in test_wrong_input.py, damaged files are in test_fuzz.py."""

import re
from pathlib import Path

import pytest

from worldjepa.cli import VERBS, main

# Every verb, with a part where it has parts.
COMMANDS = [(verb, *list(VERBS[verb].parts)[:1]) for verb in VERBS]
# YAML files that are no recipes, by name.
FILES: dict[str, bytes] = {
    "broken.yaml": b"train: {steps: 1",
    "tab.yaml": b"train:\n\tsteps: 1",
    "list.yaml": b"- train",
    "text.yaml": b"train",
    "empty.yaml": b"",
    "binary.yaml": b"\xff\xfe\x00\x80",
    "unknown.yaml": b"trian: {steps: 1}",
    "group.yaml": b"train: 3",
    "number.yaml": b"1: 2",
    "type.yaml": b"train: {steps: many}",
    "nothing.yaml": b"train: {steps: null}",
    "itself.yaml": b"train: &a {steps: *a}",
    "circle.yaml": b"name: ${run}\nrun: ${name}",
    "deep.yaml": b"a: " + b"{b: " * 200 + b"1" + b"}" * 200,
    "nul.yaml": b'name: "a\\0b"',
    "date.yaml": b"train: {seed: 2020-01-01}",
    "object.yaml": b'name: !!python/object/apply:os.system ["touch ran"]',
    "damaged/config.yaml": b"train: [",
    "folder/notes.txt": b"",
}
# What is typed after the verb, and what the one line has to name.
WAYS: list[tuple[list[str], str]] = [
    *(([name], name.partition("/")[0]) for name in FILES if name.endswith(".yaml") and "/" not in name),
    (["damaged"], "damaged/config.yaml"),
    (["folder"], "folder"),
    (["reachr"], "did you mean reacher?"),
    (["smoke", "-x"], "-x: no such flag"),
    (["smoke", "--steps=1"], "--steps=1: no such flag"),
    (["smoke", "reacher"], "'reacher' is not an option; write it as name=value"),
    (["smoke", "=1"], "unknown option"),
    (["smoke", "steps=1"], "unknown option steps"),
    (["smoke", "train.step=1"], "did you mean train.steps?"),
    (["smoke", "train=1"], "unknown option train"),
    (["smoke", "train.=1"], "unknown option train."),
    (["smoke", "trÄin.steps=1"], "unknown option trÄin.steps"),
    (["smoke", "name="], "name"),
    (["smoke", "run="], "run"),
    (["smoke", "run=${nowhere}"], "nowhere"),
    (["smoke", "train.steps="], "train.steps"),
    (["smoke", "train.steps=1.5"], "train.steps=1.5: must be a whole number"),
    (["smoke", "train.steps=many"], "train.steps=many: must be a whole number"),
    (["smoke", "train.steps=[1]"], "train.steps=list"),
    (["smoke", "train.steps={a: 1}"], "train.steps=dict"),
    (["smoke", "train.steps=true"], "train.steps=True: must be a whole number"),
    (["smoke", "train.steps=-1"], "train.steps=-1: must be 0 or more"),
    (["smoke", f"train.seed={10**30}"], "train.seed: must be a number of at most 64 bits"),
    (["smoke", f"train.threads={10**6}"], "train.threads=1000000: must be"),
    (["smoke", "train.learning_rate=nan"], "train.learning_rate=nan: must be finite"),
    (["smoke", "train.learning_rate=inf"], "train.learning_rate=inf: must be finite"),
    (["smoke", "train.learning_rate=1e400"], "train.learning_rate=inf: must be finite"),
    (["smoke", "train.learning_rate=0"], "train.learning_rate=0.0: must be more than 0"),
    (["smoke", "train.learning_rate=fast"], "train.learning_rate=fast: must be a number"),
    (["smoke", "train.recompute=perhaps"], "train.recompute=perhaps: must be true or false"),
    (["smoke", "env.image_size=7"], "env.image_size=7"),
    (["smoke", "mode=video"], "mode=video: must be world_model or images"),
    (["smoke", "model.objective=vicreg"], "model.objective=vicreg"),
    (["smoke", "plan.protocol=far"], "plan.protocol=far: must be one of"),
    (["smoke", "plan.num_elites=100000"], "plan.num_elites=100000: must be at most"),
    (["smoke", "data.context=0"], "data.context=0: must be at least 1"),
    (["smoke", "collect.behaviour=wild"], "collect.behaviour=wild"),
    (["smoke", "collect.shard=3/2"], "collect.shard=3/2: must be k/n"),
    (["smoke", "checkpoint=last"], "checkpoint=last: must be newest, best or a step"),
    (["smoke", "monitor.port=70000"], "monitor.port=70000: must be from 0 to 65535"),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_there_are_forty_of_each() -> None:
    assert len({tuple(words) for words, _ in WAYS}) == len(WAYS) >= 40
    assert {command[0] for command in COMMANDS} == set(VERBS)


@pytest.mark.parametrize("command", COMMANDS, ids="-".join)
def test_each_is_refused_in_a_line_and_nothing_is_done(
    command: tuple[str, ...], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(folder.rglob("*"))
    for words, named in WAYS:
        code = main([*command, *words])
        said = capsys.readouterr()
        assert code == 2, words
        assert re.fullmatch(r"worldjepa: [^\n]+\n", said.err), (words, said.err)
        assert named in said.err, (words, said.err)
        assert said.out == "", words
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("verb", ["colect", "", "-x", "--verbose", "trai\x00n", "é", "collect reacher"])
def test_a_verb_that_there_is_not(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb]) == 2
    assert re.fullmatch(r"worldjepa: [^\n]+\n", capsys.readouterr().err)
