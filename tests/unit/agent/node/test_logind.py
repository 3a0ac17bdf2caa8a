"""logind as its own tools speak to it: stand-ins of them on the path, real children and pipes."""

import os

import pytest

from orchestrator.agent.node import logind
from orchestrator.agent.node.logind import Logind, LogindFailure
from orchestrator.base.clock import SystemClock

INHIBIT = """#!/bin/sh
while [ "${1#--}" != "$1" ]; do echo "$1" >> %(directory)s/asked; shift; done
echo $$ > %(directory)s/lock
"$@"
rm %(directory)s/lock
"""
BUSCTL = """#!/bin/sh
for last; do :; done
case "$last" in
InhibitDelayMaxUSec) cat %(directory)s/delay ;;
*) echo 'noise'
   echo '{"type":"signal","member":"PrepareForSleep","payload":{"type":"b","data":[true]}}'
   echo '{"type":"signal","member":"PrepareForShutdown","payload":{"type":"b","data":[true]}}'
   echo '{"type":"signal","member":"PrepareForShutdown","payload":{"type":"b","data":[false]}}' ;;
esac
"""
SYSTEMCTL = "#!/bin/sh\necho 't 30000000' > %(directory)s/delay\n"


@pytest.fixture
def tools(tmp_path, monkeypatch):
    for name, text in (("systemd-inhibit", INHIBIT), ("busctl", BUSCTL), ("systemctl", SYSTEMCTL)):
        tool = tmp_path / name
        tool.write_text(text % {"directory": tmp_path})
        tool.chmod(0o755)
    (tmp_path / "delay").write_text("t 5000000\n")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(logind, "OVERRIDES", tmp_path / "conf")
    return tmp_path


async def test_the_lock_is_held_until_it_is_released(tools):
    holder = Logind("abc123", SystemClock())
    await holder.hold()
    await holder.hold()
    assert (tools / "lock").exists()
    assert (tools / "asked").read_text().split("\n")[:2] == ["--what=shutdown", "--mode=delay"]
    await holder.release()
    await holder.release()
    assert not (tools / "lock").exists()
    (tools / "systemd-inhibit").write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(LogindFailure, match="not given"):
        await holder.hold()


async def test_a_longer_delay_is_asked_for_and_taken_back(tools):
    holder = Logind("abc123", SystemClock())
    assert await holder.allow(4) == 5.0
    assert not (tools / "conf").exists()
    assert await holder.allow(30) == 30.0
    setting = tools / "conf" / "99-orchestrator-abc123.conf"
    assert setting.read_text() == "[Login]\nInhibitDelayMaxSec=30\n"
    await holder.close()
    assert not setting.exists()
    (tools / "delay").write_text("nonsense")
    with pytest.raises(LogindFailure, match="unexpected answer"):
        await holder.allow(1)


async def test_what_is_announced(tools):
    found = []
    with pytest.raises(LogindFailure, match="has ended"):
        async for going in Logind("abc123", SystemClock()).announcements():
            found.append(going)
    assert found == [True, False]
