"""Any input ends in a run or in one clear message; nothing is written outside the project's own folders."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pipeline.config.schema import flatten
from pipeline.sweep import training as training_module
from pipeline.system import cli
from pipeline.system.arguments import check_arguments
from tests.support.hostile import Ended, Terminal, watch
from tests.support.trained import config

STUDY = ("experiment=line_y2x", "gradient=backpropagation", "training.epochs=3")
ONE, MANY = (*STUDY, "hydra.mode=RUN"), ("-m", *STUDY)
HYDRAS, OURS = {"outputs", "multirun"}, {".points"}

Typed = Callable[..., Ended]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with folders above it that something could escape to."""
    return tmp_path_factory.mktemp("hostile") / "above" / "it" / "project"


@pytest.fixture
def typed(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    """Type a command in an empty project."""
    monkeypatch.setenv("HOME", str(place / "home"))
    terminal = Terminal(place, monkeypatch, capsys)

    def type_(*arguments: str) -> Ended:
        shutil.rmtree(place.parent.parent, ignore_errors=True)
        place.mkdir(parents=True)
        ended = terminal.train(*arguments)
        assert [path for path in place.parent.parent.rglob("*") if not path.is_relative_to(place)] == [place.parent]
        if not any(name in argument for argument in arguments for name in ("results", "hydra")):
            assert {path.name for path in place.iterdir()} <= HYDRAS | OURS
        return ended

    return type_


def signatures(place: Path) -> set[str]:
    return {path.name for path in (place / ".points").glob("*") if not path.name.startswith(".")}


# --- the test's own tools


def test_the_watch_sees_what_is_written(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    watch().paths.clear()
    watch().open = True
    (tmp_path / "in" / "file").write_text("")
    (tmp_path / "out").mkdir()
    (tmp_path / "in" / "file").rename(tmp_path / "renamed")
    watch().open = False
    assert watch().outside(tmp_path / "in") == [str(tmp_path / "out"), str(tmp_path / "renamed")]


def test_a_plain_command_trains(typed: Typed, place: Path) -> None:
    ended = typed(*ONE)
    assert ended.code == 0
    assert "verdict" in ended.out
    assert len(signatures(place)) == 1


def test_no_results_are_asked_for_outside_of_the_project() -> None:
    assert not [path for path in ("/X=", "'/X='", '"/X"', " /X", "'${oc.env:HOME}'") if is_quick(f"results={path}")]
    assert not is_quick("++results=/X")
    assert is_quick("results='a/b'")


# --- anything that can be typed

KEYS = [key for key, _ in flatten(config(*STUDY))]
GROUPS = ("data", "model", "optimizer", "backend", "tracking", "experiment", "profile", "hydra", "hydra/launcher",
          "training", "recording", "hydra.mode", "hydra.job.name", "hydra/job_logging", "data.inputs.0")  # fmt: skip
WORDS = (
    *("", "''", "null", "true", "nan", "inf", "-inf", "1e400", "5e-324", "-0.0", "0", "-1", "1.5", "2", "???"),
    *("9" * 400, "9" * 4400, "x" * 5000, "10000000000000", "1000000000000000000"),
    *("../..", "../../evil", "/etc/passwd", "~/x", "C:\\x", "a/b", "..", ".", "é", "\u202e\U0001f600", "'a\nb'"),
    *("'\x01'", "\x1b[31m", "\udcff", "'\udcff'", "a b", "'a\"b'", '"it\'s"', "'\nerror: '"),
    *("${oc.env:HOME}", "${oc.env:NO_SUCH}", "${study}", "${seed}", "${nope}", "${", "}", "${now:%Y}"),
    *("[]", "{}", "[[]]", "[1,2]", "[[1],[2],[3],[4]]", "{a: 1}", "{name: sgd}", "[" * 200, "(" * 300),
    *("1,2", "0.1,0.1", "choice(1,2)", "choice()", "range(1,3)", "range(1,1000000000)", "range(0,1,1e-40)"),
    *("range(0,inf)", "range(0,nan)", "range(3,1)", "range(1,3,0)", "shuffle(range(1,1000000000))", "interval(0,1)"),
    *("glob(*)", "tag(a,1)", "int(x)", "float(1)", "sgd", "mlp", "linear", "float64", "@x", "x@y", "=", "a=b"),
    *("!!python/object/apply:os.system", "'!!python/object/apply:os.system [id]'"),
)
LETTERS = st.characters(exclude_characters="\0", exclude_categories=["Cs"])  # what a shell can hand over
TEXT = st.text(LETTERS, max_size=12)


def quoted(text: str) -> str:
    """Text as Hydra takes it between quotes."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def is_quick(override: str) -> bool:
    """Whether it asks for nothing that a test cannot have, though one may wish for it.

    That is hours of training, gigabytes, TensorFlow, or a results folder outside of the project.
    """
    key, _, value = override.lstrip("+~").partition("=")
    if key == "results" and (value.lstrip(" \t'\"\\").startswith("/") or "${" in value):
        return False
    number = value.strip("'").lstrip("+-").replace("_", "")
    size = int(number[:4000]) if number.isdecimal() else 0
    if (key == "training.epochs" and size > 64) or (key == "model.hidden_size" and 64 < size < 10**11):
        return False
    return "keras" not in override and "cfg" not in override


NAME = st.one_of(
    st.sampled_from(KEYS),
    st.sampled_from(GROUPS),
    st.sampled_from(KEYS).flatmap(
        lambda key: st.integers(0, len(key) - 1).map(lambda place: key[:place] + key[place + 1 :])
    ),
    st.text(LETTERS, max_size=6),
)
VALUE = st.one_of(
    st.sampled_from(WORDS), st.integers(-(10**20), 10**20).map(str), st.floats().map(repr), TEXT, TEXT.map(quoted)
)
ANYTHING = st.builds(
    "{}{}{}{}".format, st.sampled_from(["", "", "", "+", "++", "~"]), NAME, st.sampled_from(["=", "=", "=", ":", ""]),
    VALUE,
).filter(is_quick)  # fmt: skip

NUMBERS = [key for key in KEYS if key.rpartition(".")[2] in (
    "seed", "learning_rate", "finite_difference_step", "epochs", "batch_size", "snapshots", "metrics_every",
    "table_epochs", "initial_weight", "initial_bias", "hidden_size", "bias",
)]  # fmt: skip
NUMBER = st.one_of(
    st.floats().map(repr), st.floats(0, 2).map(repr), st.integers(1, 5).map(str),
    st.sampled_from(["1e400", "5e-324", "1e308", "-0.0", "1_0", "007", "+1", "'1'", "true", "10000000000000"]),
)  # fmt: skip
PATHS = st.lists(
    st.sampled_from(["..", ".", "a", "é", " b ", "a\nb", "'", "$", "~", "\\", "x" * 120, "-", "\u202e", ",", "="]),
    min_size=1, max_size=4,
).map("/".join)  # fmt: skip
ROWS = st.lists(st.floats(-1e3, 1e3), min_size=4, max_size=4).map(lambda numbers: str([[n] for n in numbers]))
SENSIBLE = st.one_of(
    st.builds("{}={}".format, st.sampled_from(NUMBERS), NUMBER),
    st.builds(
        lambda key, text: f"{key}={quoted(text)}",
        st.sampled_from(["results", "study", "data.name", "tracking.uri"]),
        st.one_of(PATHS, TEXT),
    ),
    st.builds("{}={}".format, st.sampled_from(["data.inputs", "data.targets"]), ROWS),
    st.sampled_from(["dry_run=true", "force=true", "optimizer=adam", "dtype=float64", "model=mlp", "profile=small",
                     "recording.direction_changes=true", "model.initializer=glorot_uniform", "experiment=two_bits",
                     "data=three_bits", "model.hidden_size=3", "gradient=finite_difference"]),
).filter(is_quick)  # fmt: skip
FEW = settings(
    max_examples=15, phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
)  # fmt: skip


@FEW
@given(st.sampled_from([ONE, ONE, (*MANY, "optimizer.learning_rate=0.1")]), st.lists(ANYTHING, min_size=1, max_size=3))
def test_any_override_of_any_key_ends_in_a_run_or_one_message(
    typed: Typed, base: Sequence[str], overrides: list[str]
) -> None:
    typed(*base, *overrides)


@FEW
@given(st.sampled_from([ONE, ONE, (*MANY, "optimizer.learning_rate=0.1")]), st.lists(SENSIBLE, min_size=1, max_size=2))
def test_any_value_where_it_may_make_sense_ends_in_a_run_or_one_message(
    typed: Typed, base: Sequence[str], overrides: list[str]
) -> None:
    typed(*base, *overrides)


REFUSED = {
    "an interpolation to nothing": (("study=${nope}",), "nope"),
    "an interpolation to itself": (("study=${study}",), "ecursive"),
    "a group that is not there": (("model=nope",), "Unknown option: model=nope"),
    "a group that leads elsewhere": (("experiment=../../x",), "experiment"),
    "a launcher that is a number": ((*MANY, "hydra.launcher=3"), "The command is invalid"),
    "a job whose name is a path": (("hydra.job.name='a/b'", "hydra/job_logging=default"), "The command is invalid"),
    "a table without numbers": (("data.inputs=[[]]", "data.targets=[[]]"), "rows without numbers"),
    "a number that float64 has not": (("data.inputs=[[1e400]]", "data.targets=[[1]]"), "finite"),
    "more digits than Python reads": (("seed=" + "9" * 5000,), "digits"),
    "a network of terabytes": (("model.hidden_size=1000000000000",), "does not fit in memory"),
    "more records than can be kept": (
        ("training.epochs=1000000000000", "recording.metrics_every=1"),
        "recording.metrics_every",
    ),
    "a method that Keras has not": (("optimizer=bfgs", "backend=keras"), "needs backend=numpy; received keras"),
    "an annealing of a large network": (
        ("optimizer=annealing", "model.hidden_size=1000"),
        "at most 1000 weights and biases; received one of 3,001",
    ),
    "more rows than can be counted": (("training.batch_size=1000000000000000000",), "training.batch_size"),
    "brackets that never close": (("seed=" + "[" * 3000,), "The command is invalid"),
    "a grid of a glob that finds nothing": ((*MANY, "optimizer.learning_rate=glob(*)"), "no points"),
    "an empty choice": ((*MANY, "optimizer.learning_rate=choice()"), "choice()"),
    "a choice that breaks off": ((*MANY, "optimizer.learning_rate=0.1,"), "The command is invalid"),
    "an empty list in a grid": ((*MANY, "optimizer.learning_rate=[],0.1"), "learning_rate"),
    "a range without steps": ((*MANY, "optimizer.learning_rate=range(1,5,0)"), "range() arg 3"),
    "an empty range": ((*MANY, "optimizer.learning_rate=range(5,1)"), "no points"),
    "a grid by range": ((*MANY, "seed=range(0,1000000000)"), "1e+09 points"),
    "a grid by range, shuffled": ((*MANY, "seed=shuffle(range(0,1000000000))"), "1e+09 points"),
    "a grid by range that never ends": ((*MANY, "optimizer.learning_rate=range(1,2,1e-40)"), "1e+40 points"),
    "a grid by range without an end": ((*MANY, "optimizer.learning_rate=range(0,inf)"), "inf points"),
    "a grid by many choices": (
        (*MANY, *(f"{key}={','.join(map(str, range(1, 101)))}" for key in ("seed", "model.hidden_size", "+x"))),
        "1000000 points",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_done_is_one_message(typed: Typed, place: Path, name: str) -> None:
    arguments, words = REFUSED[name]
    ended = typed(*(ONE if arguments[0] != "-m" else ()), *arguments)
    assert ended.code == 1
    assert words in ended.err
    assert signatures(place) == set()


@pytest.mark.parametrize(
    "overrides",
    [
        ("bfgs", "optimizer.learning_rate=1e308"),
        ("lbfgs", "optimizer.learning_rate=5e-324"),
        ("lbfgs", "optimizer.gradient_tolerance=1e308", "optimizer.memory=1000"),
        ("annealing", "optimizer.bound=1e100", "optimizer.learning_rate=1e308"),
        ("annealing", "optimizer.visit=1.0000000001", "optimizer.restart_temp_ratio=5e-324"),
        ("aw_sgd", "training.batch_size=3", "optimizer.sampling_learning_rate=1e308"),
        ("aw_sgd", "training.batch_size=3", "optimizer.uniform_share=5e-324", "optimizer.learning_rate=1e38"),
    ],
)
def test_methods_at_the_end_of_the_range_of_their_knobs_do_no_harm(
    typed: Typed, place: Path, overrides: tuple[str, ...]
) -> None:
    assert typed(*ONE, f"optimizer={overrides[0]}", *overrides[1:]).code == 0
    assert len(signatures(place)) == 1


@pytest.mark.parametrize(
    "override",
    ["training.batch_size=1000000000000", "recording.snapshots=1" + "0" * 30, "recording.metrics_every=1" + "0" * 12,
     "recording.table_epochs=1" + "0" * 20, "optimizer.learning_rate=1e-45", "optimizer.learning_rate=3e38"],
)  # fmt: skip
def test_what_is_larger_than_needed_does_no_harm(typed: Typed, place: Path, override: str) -> None:
    assert typed(*ONE, override).code == 0
    assert len(signatures(place)) == 1


def test_numbers_at_the_end_of_the_range_can_be_drawn(
    typed: Typed, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.studies.kinds import point_figures

    monkeypatch.setattr(training_module, "point_figures", point_figures)
    assert typed(*ONE, "dtype=float64", "model.initial_bias=1e308").code == 0
    assert list(place.glob(".points/*/plots/*.png"))


# --- names


STUDIES = ("../../evil", "../../../evil", "/tmp/evil", "a/b", "..", "${oc.env:HOME}", "null", "[1]", "'é'", "x" * 200)


# Hydra makes another folder for many points than for one, whatever the name; which names are refused does not differ.
@pytest.mark.parametrize(("base", "study"), [*((ONE, study) for study in STUDIES), (MANY, STUDIES[0]), (MANY, "[1]")])
def test_a_study_that_is_no_plain_name_leads_nowhere(
    typed: Typed, place: Path, base: Sequence[str], study: str
) -> None:
    ended = typed(*base, f"study={study}")
    assert ended.code == 1
    assert "  study: " in ended.err
    (day,) = next(path for path in place.iterdir() if path.name in HYDRAS).iterdir()  # outputs/NAME
    assert day.resolve().parent.parent == place.resolve()


@pytest.mark.parametrize("results", ["", ".", "..", "../x", "a/../../x", "a/..", "./."])
def test_results_that_lead_out_of_the_project_are_refused(typed: Typed, place: Path, results: str) -> None:
    ended = typed(*ONE, f"results='{results}'")
    assert ended.code == 1
    assert f"results: expected a folder below the project, or an absolute path, received {results!r}" in ended.err
    assert signatures(place) == set()


@pytest.mark.parametrize("results", ["r", "'r/s t/é'", "'\x01'", "'a\nb'", "$HOME", "'${oc.env:HOME}x'"])
def test_any_other_results_are_a_folder_of_that_name(typed: Typed, place: Path, results: str) -> None:
    typed(*ONE, f"results={results}" if "HOME}" not in results else "results='x${oc.env:HOME}'")
    wanted = Path("x" + os.environ["HOME"]) if "HOME}" in results else Path(results.strip("'"))
    assert (place / wanted / "sweep.json").exists()
    assert {path.name for path in place.iterdir()} == HYDRAS - {"multirun"} | OURS | {wanted.parts[0]}


@pytest.mark.parametrize("results", ["conf", ".points", "results"])
def test_a_folder_with_other_things_is_not_taken_for_results(
    typed: Typed, place: Path, monkeypatch: pytest.MonkeyPatch, results: str
) -> None:
    real = check_arguments
    other = place / results / "other"

    def put_there(arguments: Sequence[str]) -> None:
        other.parent.mkdir(exist_ok=True)
        other.write_text("mine")
        real(arguments)

    monkeypatch.setattr(cli, "check_arguments", put_there)
    ended = typed(*ONE, f"results={results}")
    assert ended.code == 1
    assert f"{results} cannot be a results folder" in ended.err or "results is not a results folder" in ended.err
    assert signatures(place) <= {"other"}
    assert other.read_text() == "mine"


def test_an_absolute_path_is_where_it_says(typed: Typed, place: Path) -> None:
    assert typed(*ONE, f"results={place / 'elsewhere'}").code == 0
    assert (place / "elsewhere" / "sweep.json").exists()


# --- grids


def test_what_is_asked_for_twice_trains_once(typed: Typed, place: Path) -> None:
    ended = typed(*MANY, "optimizer.learning_rate=0.1,0.10,1e-1,choice(0.1)")
    assert ended.code in (0, 1)
    ended = typed(*MANY, "optimizer.learning_rate=0.1,0.10,1e-1,0.2")
    assert "2 points (2 duplicates skipped): 2 to run" in ended.err
    assert len(signatures(place)) == 2


def test_points_of_one_name_both_have_a_folder_in_the_results(typed: Typed, place: Path) -> None:
    # The name of a point does not contain its profile, which sets the number of rows.
    common = ("experiment=line_y2x", "training.epochs=3", "optimizer.learning_rate=0.1", "results=r")
    ended = typed("-m", *common, "profile=full,small")
    assert ended.code == 0
    assert len(list((place / "r").glob("*/weights.npz"))) == 2


def test_a_large_grid_can_be_looked_at_first(typed: Typed, place: Path) -> None:
    ended = typed(*MANY, "dry_run=true", "optimizer.learning_rate=range(1,13)")
    assert ended.code == 0
    assert "12 points: 12 to run" in ended.err
    assert len(ended.out.splitlines()) == 14
    assert signatures(place) == set()
