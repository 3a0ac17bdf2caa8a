"""Field tables: every line of every file is a field whose type exists."""

import pytest

from orchestrator.wire.raw import WireError
from orchestrator.wire.scalars import SCALARS
from orchestrator.wire.tables import ROOT, Tables

FILES = sorted(ROOT.glob("*/*.txt"))


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_every_field_has_a_type_that_exists(path: object) -> None:
    assert hasattr(path, "stem")
    tables = Tables(path.parent.name)
    names = [block.split("\n")[0].split(" ")[0] for block in path.read_text().rstrip("\n").split("\n\n")]
    assert len(names) == len(set(names))
    for name in names:
        message = tables.message(f"{path.stem}.{name}")
        fields = list(message.by_number.values())
        assert len(fields) == len(message.by_name) + len(message.inlined), (
            f"{name} has a name or number twice"
        )
        for field in fields:
            assert tables.message(field.message) if field.message else field.type in SCALARS


def test_marks_say_what_a_zero_means() -> None:
    spec = Tables("kubernetes").message("apps_v1.DeploymentSpec").by_name
    assert spec["replicas"].keeps_zero
    assert not spec["paused"].keeps_zero
    assert Tables("kubernetes").message("core_v1.Volume").inlined[0].message == "core_v1.VolumeSource"


def test_an_unknown_message_and_a_path_out_of_the_folder_are_refused() -> None:
    tables = Tables("kubernetes")
    for name in ("core_v1.Nothing", "nothing_v1.Pod", "../kubernetes/core_v1.Pod"):
        with pytest.raises(WireError, match="no message"):
            tables.message(name)
