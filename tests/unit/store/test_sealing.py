"""What stands on disk of values that are to be encrypted, and the file with the keys."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.base.errors import StartupError
from orchestrator.store import keyring as keys
from orchestrator.store.keyring import Keyring
from orchestrator.store.sealing import MAGIC, Sealer, SealError, key_id_of, prefixes_of

SECRET = "/registry/secrets/default/a"
OTHER = "/registry/secrets/default/b"
PLAIN = "/registry/configmaps/default/a"
VALUE = b'{"metadata":{"name":"a"},"data":{"password":"aHVudGVyMg=="}}'
NOW = "2026-01-01T00:00:00Z"


def ring(count: int = 1) -> Keyring:
    keyring = Keyring()
    for _ in range(count):
        keyring = keyring.with_new(NOW)
    return keyring


def sealer(keyring: Keyring | None = None) -> Sealer:
    return Sealer(keyring or ring(), prefixes_of(["secrets"]))


@given(st.binary(), st.sampled_from([SECRET, PLAIN]))
def test_what_was_sealed_opens(value, key):
    one = sealer()
    for given_value in (value, MAGIC + value, MAGIC + b"\0" + value, MAGIC + b"\1" + value):
        assert one.unseal(key, one.seal(key, given_value)) == given_value


def test_only_the_chosen_resources_are_encrypted():
    one = sealer()
    assert one.seal(PLAIN, VALUE) == VALUE
    stored = one.seal(SECRET, VALUE)
    assert b"password" not in stored
    assert key_id_of(stored) == one.keyring.primary.id
    assert one.seal(SECRET, VALUE) != stored, "a nonce must never come twice"


def test_a_value_moved_to_another_name_does_not_open():
    one = sealer()
    with pytest.raises(SealError, match="moved"):
        one.unseal(OTHER, one.seal(SECRET, VALUE))


def test_every_changed_bit_is_noticed():
    one = sealer()
    stored = one.seal(SECRET, VALUE)
    for bit in range(len(MAGIC) * 8, len(stored) * 8):
        changed = bytearray(stored)
        changed[bit // 8] ^= 1 << bit % 8
        try:
            assert one.unseal(SECRET, bytes(changed)) != VALUE
        except SealError:
            continue
        assert changed.startswith(MAGIC + b"\0"), "only as an escaped plain value may it open, to other bytes"


def test_a_short_sealed_value_is_refused():
    one = sealer()
    with pytest.raises(SealError):
        one.unseal(SECRET, one.seal(SECRET, b"")[:-1])


def test_an_unknown_key_is_named():
    stored = sealer().seal(SECRET, VALUE)
    with pytest.raises(SealError, match=key_id_of(stored)):
        sealer().unseal(SECRET, stored)
    with pytest.raises(SealError, match=key_id_of(stored)):
        Sealer().unseal(SECRET, stored)


def test_after_a_rotation_old_values_open_and_new_ones_have_the_new_key():
    one = sealer()
    old = one.seal(SECRET, VALUE)
    one.use(one.keyring.with_new(NOW))
    new = one.seal(SECRET, VALUE)
    assert one.unseal(SECRET, old) == one.unseal(SECRET, new) == VALUE
    assert not one.is_current(SECRET, old)
    assert one.is_current(SECRET, new)
    one.use(one.keyring.only_primary())
    assert one.unseal(SECRET, new) == VALUE


def test_the_wanted_form_follows_the_configuration():
    one, off = sealer(), Sealer(ring())
    stored = one.seal(SECRET, VALUE)
    assert not one.is_current(SECRET, VALUE)
    assert one.is_current(PLAIN, VALUE)
    assert not off.is_current(SECRET, stored)
    assert off.is_current(SECRET, VALUE)
    assert off.is_current(SECRET, off.seal(SECRET, MAGIC))


def test_resources_are_named_as_groups_and_plurals():
    assert prefixes_of(["secrets", "apps/deployments", "example.com/widgets", "secrets"]) == (
        "/registry/secrets/",
        "/registry/deployments/",
        "/registry/example.com/widgets/",
    )


@pytest.mark.parametrize("name", ["Secret", "", "apps/", "apps/deployment", "a/b/c", "/secrets/x"])
def test_a_wrong_resource_is_named(name):
    with pytest.raises(StartupError, match="no resource"):
        prefixes_of([name])


def test_the_keys_file_reads_back_and_is_for_its_owner_only(tmp_path):
    path, keyring = tmp_path / "keys.json", ring(2)
    assert keys.load(path) is None
    keys.save(path, keyring)
    keys.save(path, keyring)
    assert keys.load(path) == keyring
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["keys.json"]


def test_a_keys_file_that_others_can_read_is_refused(tmp_path):
    path = tmp_path / "keys.json"
    keys.save(path, ring())
    path.chmod(0o640)
    with pytest.raises(StartupError, match="chmod 600"):
        keys.load(path)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"format": 2}, "format 2"),
        ({"keys": []}, "no key"),
        ({"keys": [{"id": "00" * 8, "secret": "AAAA", "created": NOW}]}, "size"),
        ({"keys": [{"id": "zz", "secret": "AAAA", "created": NOW}]}, "size"),
        ({"keys": 1}, "damaged"),
    ],
)
def test_a_wrong_keys_file_is_refused(change, word):
    file = {**json.loads(keys.render(ring())), **change}
    with pytest.raises(StartupError, match=word):
        keys.parse(json.dumps(file).encode(), "keys.json")


def test_the_secret_is_not_shown():
    key = ring().primary
    assert repr(key.secret) not in repr(Sealer(Keyring((key,))).keyring)
