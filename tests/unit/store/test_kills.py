"""`kill -9` under 64 writers, on one directory, in rotation, snapshot and compaction too.

`STORE_TEST_KILLS` and `STORE_TEST_SEED` make it longer or different; tests/nightly.sh does.
"""

import os
from pathlib import Path

from tests.store.kills import campaign

SEED = int(os.environ.get("STORE_TEST_SEED", "1"))
KILLS = int(os.environ.get("STORE_TEST_KILLS", "4"))


async def test_kill_loses_no_acknowledged_write(tmp_path: Path) -> None:
    done = await campaign(tmp_path / "store", SEED, KILLS, seconds=1e9)
    assert done.kills == KILLS and done.acknowledged > 0
