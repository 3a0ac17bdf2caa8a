"""Volumes, claims, and the kinds of storage.k8s.io: defaults, refusals, what may change."""

import pytest

STORAGE = "storage.k8s.io"
VOLUME = {
    "spec": {
        "capacity": {"storage": "1024Mi"},
        "accessModes": ["ReadWriteOnce"],
        "hostPath": {"path": "/data"},
    }
}
CLAIM = {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}
CSI = {"driver": "csi.example.com", "volumeHandle": "h"}
CSI_VOLUME = {"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "csi": CSI}}
IMMUTABLE_CLAIM = (
    "spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName"
    " for bound claims\n"
)


def _with(obj, **spec):
    """`obj` with fields of its spec set, or left out where None."""
    merged = {**obj["spec"], **spec}
    return {**obj, "spec": {name: value for name, value in merged.items() if value is not None}}


def test_a_volume_gets_defaults_and_starts_pending(kind):
    volume = kind("", "persistentvolumes").create(VOLUME)
    assert volume["spec"] == {
        "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteOnce"],
        "hostPath": {"path": "/data", "type": ""},
        "persistentVolumeReclaimPolicy": "Retain",
        "volumeMode": "Filesystem",
    }
    assert volume["status"]["phase"] == "Pending" and volume["status"]["lastPhaseTransitionTime"]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"capacity": None}, ["spec.capacity: Required value", 'supported values: "storage"']),
        ({"capacity": {"storage": "0"}}, ["spec.capacity[storage]: Invalid value: \"0\": must be greater than zero"]),
        ({"accessModes": None}, ["spec.accessModes: Required value"]),
        ({"accessModes": ["ReadWriteOnce", "ReadWriteOncePod"]}, ["may not use ReadWriteOncePod with other access"]),
        ({"accessModes": ["x"]}, ["Unsupported value: \"x\": supported values: \"ReadOnlyMany\""]),
        ({"hostPath": None}, ["spec: Required value: must specify a volume type"]),
        ({"nfs": {"server": "s", "path": "/"}}, ["spec.nfs: Forbidden: may not specify more than 1 volume type"]),
        ({"hostPath": None, "nfs": {"server": "s", "path": "x"}}, ["spec.nfs.path: Invalid value: \"x\": must be an"]),
        ({"hostPath": {"path": "/a/../b"}}, ["spec.hostPath.path: Invalid value: \"/a/../b\": must not contain '..'"]),
        ({"hostPath": None, "local": {"path": "/a"}}, ["spec.nodeAffinity: Required value: Local volume requires"]),
        ({"hostPath": None, "csi": {"volumeHandle": "h"}}, ["spec.csi.driver: Required value"]),
        ({"hostPath": None, "csi": {**CSI, "nodeStageSecretRef": {"name": "s"}}}, ["StageSecretRef.namespace: Req"]),
        ({"persistentVolumeReclaimPolicy": "Burn"}, ['"Delete", "Recycle", "Retain"']),
        ({"hostPath": {"path": "/"}, "persistentVolumeReclaimPolicy": "Recycle"}, ["may not be 'recycle' for a host"]),
        ({"storageClassName": "A"}, ["spec.storageClassName: Invalid value: \"A\": a lowercase RFC 1123 subdomain"]),
        ({"volumeMode": "x"}, ['spec.volumeMode: Unsupported value: "x": supported values: "Block", "Filesystem"']),
        ({"volumeAttributesClassName": "a"}, ["spec.csi: Required value: has to be specified when using volumeA"]),
        ({"nodeAffinity": {}}, ["spec.nodeAffinity.required: Required value: must specify required node constraints"]),
    ],
)  # fmt: skip
def test_volumes_are_refused(kind, spec, expected):
    found = kind("", "persistentvolumes").problems(_with(VOLUME, **spec))
    assert len(found) == len(expected)
    for text, part in zip(found, expected, strict=True):
        assert part in text


def test_a_volume_keeps_its_source(kind):
    volumes = kind("", "persistentvolumes")
    old = volumes.create(CSI_VOLUME)
    assert volumes.update_problems(_with(old, persistentVolumeReclaimPolicy="Delete"), old) == []
    secret = {**CSI, "controllerExpandSecretRef": {"name": "a", "namespace": "b"}}
    assert volumes.update_problems(_with(old, csi=secret), old) == [], "may be added once"
    (text,) = volumes.update_problems(_with(old, csi={**CSI, "volumeHandle": "other"}), old)
    assert text.startswith(
        "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after "
    )
    (text,) = volumes.update_problems(_with(old, volumeMode="Block"), old)
    assert text == 'volumeMode: Invalid value: "Block": field is immutable'


def test_a_changed_phase_is_stamped(kind):
    volumes = kind("", "persistentvolumes")
    old = volumes.create(VOLUME)
    old["status"]["lastPhaseTransitionTime"] = "2001-01-01T00:00:00Z"
    same = volumes.update({**old, "status": {**old["status"], "message": "m"}}, old, "status")
    assert same["status"]["lastPhaseTransitionTime"] == "2001-01-01T00:00:00Z"
    bound = volumes.update({**old, "status": {"phase": "Bound"}}, old, "status")
    assert bound["status"]["lastPhaseTransitionTime"] != "2001-01-01T00:00:00Z"


def test_a_claim_gets_defaults_and_both_names_of_its_source(kind):
    claims = kind("", "persistentvolumeclaims")
    snapshot = {"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "s"}
    claim = claims.create(_with(CLAIM, dataSource=snapshot))
    assert claim["spec"]["dataSourceRef"] == snapshot and claim["spec"]["volumeMode"] == "Filesystem"
    assert claim["status"] == {"phase": "Pending"}
    assert claims.create(_with(CLAIM, dataSourceRef=snapshot))["spec"]["dataSource"] == snapshot
    elsewhere = {**snapshot, "namespace": "other"}
    assert "dataSource" not in claims.create(_with(CLAIM, dataSourceRef=elsewhere))["spec"]
    unknown = {"apiGroup": "example.com", "kind": "Thing", "name": "t"}
    assert "dataSource" not in claims.create(_with(CLAIM, dataSource=unknown))["spec"]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, None),
        ({"accessModes": None}, "spec.accessModes: Required value: at least 1 access mode is required"),
        ({"resources": None}, "spec.resources[storage]: Required value"),
        ({"resources": {"requests": {"storage": "-1"}}}, "spec.resources[storage]: Invalid value"),
        ({"storageClassName": ""}, None),
        ({"volumeMode": "x"}, "spec.volumeMode: Unsupported value"),
        ({"selector": {"matchExpressions": [{"key": "a", "operator": "x"}]}}, "not a valid selector operator"),
        ({"dataSourceRef": {"kind": "X", "name": "x"}, "dataSource": {"kind": "PersistentVolumeClaim", "name": "x"}},
         "must be 'PersistentVolumeClaim' when referencing the default apiGroup"),
    ],
)  # fmt: skip
def test_claims_are_refused(kind, spec, expected):
    found = kind("", "persistentvolumeclaims").problems(_with(CLAIM, **spec))
    assert found == [] if expected is None else expected in found[0]


def _claim(kind, phase="Pending", capacity=None, **spec):
    claims = kind("", "persistentvolumeclaims")
    status = {"phase": phase, **({"capacity": {"storage": capacity}} if capacity else {})}
    return claims, {**claims.create(_with(CLAIM, **spec)), "status": status}


def _sized(claim, size):
    return _with(claim, resources={"requests": {"storage": size}})


def test_only_a_bound_claim_grows_and_it_never_shrinks_below_what_it_has(kind):
    claims, pending = _claim(kind)
    assert claims.update_problems(_sized(pending, "2Gi"), pending)[0].startswith(IMMUTABLE_CLAIM)
    claims, bound = _claim(kind, "Bound", "1Gi")
    assert claims.update_problems(_sized(bound, "2Gi"), bound) == []
    claims, failed = _claim(kind, "Bound", "1Gi", resources={"requests": {"storage": "5Gi"}})
    assert claims.update_problems(_sized(failed, "2Gi"), failed) == [], "recovers from an expansion in vain"
    assert claims.update_problems(_sized(failed, "1Gi"), failed) == [
        "spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"
    ]


def test_what_of_a_claim_may_be_set_once(kind):
    claims, old = _claim(kind)
    bound = _with(old, volumeName="v", storageClassName="fast")
    assert claims.update_problems(bound, old) == []
    held = claims.update(bound, old)
    (text,) = claims.update_problems(_with(held, volumeName="w"), held)
    assert text.startswith(IMMUTABLE_CLAIM) and text.endswith('- volumeName: "v"\n+ volumeName: "w"')
    assert len(claims.update_problems(_with(held, storageClassName="slow"), held)) == 1
    gold = claims.update(_with(held, volumeAttributesClassName="gold"), held)
    assert claims.update_problems(_with(gold, volumeAttributesClassName="silver"), gold) == []
    assert claims.update_problems(_with(gold, volumeAttributesClassName=None), gold) == [
        "spec.volumeAttributesClassName: Forbidden: update from non-nil value to nil is forbidden"
    ]


def test_a_status_of_a_claim_is_checked(kind):
    claims, old = _claim(kind)
    bad = {"phase": "Bound", "capacity": {"storage": "-1"}, "allocatedResources": {"cpu": "1"}}
    found = claims.update_problems({**old, "status": bad}, old, "status")
    assert [text.partition(":")[0] for text in found] == [
        "status.capacity[storage]",
        "status.allocatedResources",
    ]


CLASS = {"provisioner": "example.com/p"}
ATTACHMENT = {"spec": {"attacher": "csi.a", "nodeName": "n", "source": {"persistentVolumeName": "v"}}}


@pytest.mark.parametrize(
    ("plural", "obj", "expected"),
    [
        ("storageclasses", CLASS, None),
        ("storageclasses", {}, "provisioner: Required value"),
        ("storageclasses", {"provisioner": "a/b/c"}, "provisioner: Invalid value"),
        ("storageclasses", {**CLASS, "reclaimPolicy": "Recycle"}, 'supported values: "Delete", "Retain"'),
        ("storageclasses", {**CLASS, "volumeBindingMode": "x"}, "volumeBindingMode: Unsupported value"),
        ("storageclasses", {**CLASS, "parameters": {"": "x"}}, "field can not be empty."),
        ("storageclasses", {**CLASS, "allowedTopologies": [{"matchLabelExpressions": [{"key": "z"}]}]},
         "allowedTopologies[0].matchLabelExpressions[0].values: Required value"),
        ("volumeattachments", ATTACHMENT, None),
        ("volumeattachments", _with(ATTACHMENT, source={}), "must specify exactly one of inlineVolumeSpec and pers"),
        ("volumeattachments", _with(ATTACHMENT, source={"inlineVolumeSpec": {"accessModes": ["ReadWriteOnce"],
         "csi": CSI, "claimRef": {"name": "x"}}}), "may not be specified in the context of inline volumes"),
        ("csidrivers", {"spec": {"tokenRequests": [{"audience": "a"}, {"audience": "a"}]}}, "Duplicate value"),
        ("csidrivers", {"spec": {"fsGroupPolicy": "x"}}, "spec.fsGroupPolicy: Unsupported value"),
        ("csidrivers", {"spec": {"volumeLifecycleModes": ["x"]}}, "spec.volumeLifecycleModes: Unsupported value"),
        ("csinodes", {"spec": {"drivers": [{"name": "a", "nodeID": "n"}]}}, None),
        ("csinodes", {"spec": {"drivers": [{"name": "a", "nodeID": ""}]}}, "spec.drivers[0].nodeID: Required value"),
        ("csinodes", {"spec": {"drivers": [{"name": "a", "nodeID": "n"}] * 2}}, "spec.drivers[1].name: Duplicate"),
        ("csistoragecapacities", {"storageClassName": "a", "capacity": "-1"}, "must be greater than or equal to 0"),
        ("volumeattributesclasses", {"driverName": "a"}, "parameters: Required value: must contain at least one key"),
        ("volumeattributesclasses", {"driverName": "a", "parameters": {"a": "b"}}, None),
    ],
)  # fmt: skip
def test_storage_kinds(kind, plural, obj, expected):
    found = kind(STORAGE, plural).problems(obj)
    if expected is None:
        assert found == []
    else:
        assert len(found) == 1 and expected in found[0]


def test_storage_classes_hardly_change(kind):
    classes = kind(STORAGE, "storageclasses")
    old = classes.create(CLASS)
    assert (old["reclaimPolicy"], old["volumeBindingMode"]) == ("Delete", "Immediate")
    assert classes.update_problems({**old, "allowVolumeExpansion": True}, old) == []
    changed = {
        **old,
        "provisioner": "other",
        "parameters": {"a": "b"},
        "volumeBindingMode": "WaitForFirstConsumer",
    }
    assert classes.update_problems(changed, old) == [
        "parameters: Forbidden: updates to parameters are forbidden.",
        "provisioner: Forbidden: updates to provisioner are forbidden.",
        'volumeBindingMode: Invalid value: "WaitForFirstConsumer": field is immutable',
    ]


def test_drivers_have_defaults_and_count_some_changes(kind):
    drivers = kind(STORAGE, "csidrivers")
    old = drivers.create({"spec": {}})
    assert old["spec"] == {
        "attachRequired": True, "podInfoOnMount": False, "storageCapacity": False, "requiresRepublish": False,
        "fsGroupPolicy": "ReadWriteOnceWithFSType", "seLinuxMount": False, "volumeLifecycleModes": ["Persistent"],
    }  # fmt: skip
    assert "generation" not in old["metadata"]
    changed = drivers.update(_with(old, requiresRepublish=True), old)
    assert changed["metadata"]["generation"] == 1
    assert drivers.update(changed, changed)["metadata"]["generation"] == 1
    assert drivers.update_problems(_with(old, attachRequired=False), old) == [
        "spec.attachedRequired: Invalid value: false: field is immutable"
    ]


def test_attachments_and_registrations_stay(kind):
    attachments = kind(STORAGE, "volumeattachments")
    old = attachments.create(ATTACHMENT)
    assert old["status"] == {"attached": False}
    assert "field is immutable" in attachments.update_problems(_with(old, nodeName="m"), old)[0]
    nodes = kind(STORAGE, "csinodes")
    driver = {"name": "a", "nodeID": "n", "topologyKeys": ["z"]}
    held = nodes.create({"spec": {"drivers": [driver]}})
    grown = {**driver, "allocatable": {"count": 5}}
    assert nodes.update_problems(_with(held, drivers=[grown]), held) == []
    moved = {**driver, "nodeID": "m"}
    assert nodes.update_problems(_with(held, drivers=[moved]), held)[0].endswith("field is immutable")
