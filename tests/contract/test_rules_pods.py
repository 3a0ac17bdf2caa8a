"""Which pods the API takes, and with which words it refuses the others (core validation of Kubernetes v1.36)."""

import copy
from typing import Any

import pytest

from tests.contract.api_support import Cluster, Json
from tests.contract.rules_support import differs, judge

PODS = "/api/v1/namespaces/default/pods"
C, REQUIRED = "spec.containers[0]", "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
MISSING, TYPES = "Required value", "supported values:"
Row = tuple[str, Json, list[str]]


def _spec(**fields: Any) -> Json:
    return {"containers": [{"name": "a", "image": "web:1"}], **fields}


def _one(**fields: Any) -> Json:
    return _spec(containers=[{"name": "a", "image": "web:1", **fields}])


def _volume(**source: Any) -> Json:
    return _spec(volumes=[{"name": "v", **source}], serviceAccountName="default")


def _mounted(volume: Json, **mount: Any) -> Json:
    return {
        **_one(volumeMounts=[{"name": "v", "mountPath": "/m", **mount}]),
        "volumes": [{"name": "v", **volume}],
    }


def _projected(*sources: Json) -> Json:
    return _volume(projected={"sources": list(sources)})


def _env(**source: Any) -> Json:
    return _one(env=[{"name": "E", "valueFrom": source}])


def _near(**term: Any) -> Json:
    return _spec(affinity={"podAffinity": {REQUIRED: [{"topologyKey": "zone", "labelSelector": {}, **term}]}})


def _on(expression: Json, kind: str = "matchExpressions") -> Json:
    return _spec(affinity={"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [{kind: [expression]}]}}})


def _spread(**fields: Any) -> Json:
    held = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {}}
    return _spec(topologySpreadConstraints=[{**held, **fields}])


def _asks(**resources: Any) -> Json:
    return _one(resources=resources)


def _probe(**fields: Any) -> Json:
    return _one(livenessProbe={"tcpSocket": {"port": 1}, **fields})


V, P = "spec.volumes[0]", "spec.volumes[0].projected"
CONTAINERS: list[Row] = [
    ("plain", _spec(), []),
    ("none", {"containers": []}, [f"spec.containers: {MISSING}"]),
    ("no name", _one(name=""), [f"{C}.name: {MISSING}"]),
    ("name", _one(name="A"), [f'{C}.name: Invalid value: "A": a lowercase RFC 1123 label must consist']),
    ("blank image", _one(image="a "), [f'{C}.image: Invalid value: "a ": must not have leading or trailing']),
    ("pull policy", _one(imagePullPolicy="X"), [f'{C}.imagePullPolicy: Unsupported value: "X": {TYPES}']),
    ("message policy", _one(terminationMessagePolicy="X"), [f"{C}.terminationMessagePolicy: Unsupported value"]),
    ("port 0", _one(ports=[{"containerPort": 0}]), [f"{C}.ports[0].containerPort: {MISSING}"]),
    ("port", _one(ports=[{"containerPort": 99999}]), [f"{C}.ports[0].containerPort: Invalid value: 99999: must be"]),
    ("port name", _one(ports=[{"containerPort": 1, "name": "a--b"}]), [f"{C}.ports[0].name: Invalid value"]),
    ("long port name", _one(ports=[{"containerPort": 1, "name": "a" * 16}]),
     [f'{C}.ports[0].name: Invalid value: "{"a" * 16}": must be no more than 15 bytes']),
    ("host port twice", _spec(containers=[
        {"name": n, "image": "i", "ports": [{"containerPort": 1, "hostPort": 5}]} for n in "ab"]),
     ['spec.containers[1].ports[0].hostPort: Duplicate value: "TCP//5"']),
    ("host port, other address", _one(ports=[{"containerPort": 1, "hostPort": 5, "hostIP": "10.0.0.1"},
                                            {"containerPort": 2, "hostPort": 5, "hostIP": "10.0.0.2"}]), []),
    ("host network", {**_one(ports=[{"containerPort": 1, "hostPort": 2}]), "hostNetwork": True},
     [f"{C}.ports[0].hostPort: Invalid value: 2: must match `containerPort` when `hostNetwork` is true"]),
    ("env dotted", _one(env=[{"name": "a.b-c"}]), []),
    ("env empty source", _env(), [f'{C}.env[0].valueFrom: Invalid value: "": must specify one of']),
    ("env two sources", _env(fieldRef={"fieldPath": "metadata.name"}, secretKeyRef={"name": "s", "key": "k"}),
     [f'{C}.env[0].valueFrom: Invalid value: "": may not have more than one field specified at a time']),
    ("env value and source", _one(env=[{"name": "E", "value": "x",
                                       "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]),
     [f'{C}.env[0].valueFrom: Invalid value: "": may not be specified when `value` is not empty']),
    ("env label", _env(fieldRef={"fieldPath": "metadata.labels['a/b']"}), []),
    ("env all labels", _env(fieldRef={"fieldPath": "metadata.labels"}),
     [f'{C}.env[0].valueFrom.fieldRef.fieldPath: Unsupported value: "metadata.labels": {TYPES} "metadata.name"']),
    ("env field", _env(fieldRef={"fieldPath": "spec.x"}),
     [f'{C}.env[0].valueFrom.fieldRef.fieldPath: Invalid value: "spec.x": error converting fieldPath: field label']),
    ("env resource", _env(resourceFieldRef={"resource": "x"}),
     [f'{C}.env[0].valueFrom.resourceFieldRef.resource: Unsupported value: "x"']),
    ("env divisor", _env(resourceFieldRef={"resource": "limits.cpu", "divisor": "2m"}),
     [f'{C}.env[0].valueFrom.resourceFieldRef.divisor: Invalid value: "limits.cpu": only divisor\'s values 1m and 1']),
    ("env key", _env(configMapKeyRef={"name": "c", "key": "a b"}),
     [f'{C}.env[0].valueFrom.configMapKeyRef.key: Invalid value: "a b": a valid config key']),
    ("env prefix", _one(envFrom=[{"prefix": "a=", "configMapRef": {"name": "c"}}]),
     [f'{C}.envFrom[0].prefix: Invalid value: "a="']),
    ("env from nothing", _one(envFrom=[{}]),
     [f'{C}.envFrom: Invalid value: "": must specify one of: `configMapRef` or `secretRef`']),
    ("env from secret", _one(envFrom=[{"secretRef": {"name": ""}}]), [f"{C}.envFrom[0].secretRef.name: {MISSING}"]),
    ("probe without handler", _one(readinessProbe={"periodSeconds": 1}),
     [f"{C}.readinessProbe: {MISSING}: must specify a handler type"]),
    ("probe with two", _probe(exec={"command": ["x"]}),
     [f"{C}.livenessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type"]),
    ("probe period", _probe(periodSeconds=-1),
     [f"{C}.livenessProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0"]),
    ("probe grace", _probe(terminationGracePeriodSeconds=0),
     [f"{C}.livenessProbe.terminationGracePeriodSeconds: Invalid value: 0: must be greater than 0"]),
    ("probe grpc", _one(startupProbe={"grpc": {"port": 0}}),
     [f"{C}.startupProbe.grpc.port: Invalid value: 0: must be between 1 and 65535, inclusive"]),
    ("probe header", _one(livenessProbe={"httpGet": {"port": 1, "httpHeaders": [{"name": "a b", "value": "c"}]}}),
     [f'{C}.livenessProbe.httpGet.httpHeaders: Invalid value: "a b": a valid HTTP header must consist']),
    ("hook sleeps", _one(lifecycle={"preStop": {"sleep": {"seconds": 31}}}),
     [f"{C}.lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than terminationGracePer"]),
    ("hook sleeps 0", _one(lifecycle={"preStop": {"sleep": {"seconds": 0}}}), []),
    ("stop signal without os", _one(lifecycle={"stopSignal": "SIGUSR1"}),
     [f"{C}.lifecycle.stopSignal: Forbidden: may not be set for containers with empty `spec.os.name`"]),
    ("stop signal", {**_one(lifecycle={"stopSignal": "SIGUSR1"}), "os": {"name": "linux"}}, []),
    ("request over limit", _asks(requests={"cpu": "2"}, limits={"cpu": "1"}),
     [f'{C}.resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1']),
    ("extended request", _asks(requests={"ex.com/a": 1}),
     [f"{C}.resources.limits: {MISSING}: Limit must be set for non overcommitable resources"]),
    ("resource name", _asks(requests={"disk": 1}),
     [f'{C}.resources.requests[disk]: Invalid value: "disk": must be a standard resource type or fully qualified',
      f'{C}.resources.requests[disk]: Invalid value: "disk": must be a standard resource for containers']),
    ("huge pages alone", _asks(limits={"hugepages-2Mi": "4Mi"}),
     [f"{C}.resources: Forbidden: HugePages require cpu or memory"]),
    ("huge pages", _asks(limits={"hugepages-2Mi": "3Mi", "cpu": 1}),
     [f'{C}.resources.{kind}[hugepages-2Mi]: Invalid value: "3Mi": 3Mi is not positive integer multiple of'
      for kind in ("limits", "requests")]),
    ("resize", _one(resizePolicy=[{"resourceName": "cpu", "restartPolicy": "NotRequired"}]), []),
    ("resize twice", _one(resizePolicy=[{"resourceName": "cpu", "restartPolicy": "NotRequired"}] * 2),
     [f'{C}.resizePolicy[1]: Duplicate value: "cpu"']),
    ("resize of a disk", _one(resizePolicy=[{"resourceName": "disk", "restartPolicy": "NotRequired"}]),
     [f'{C}.resizePolicy: Unsupported value: "disk": {TYPES} "cpu", "memory"']),
    ("resize never", {**_one(resizePolicy=[{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]),
                      "restartPolicy": "Never"},
     [f'{C}.resizePolicy: Invalid value: "RestartContainer": must be \'NotRequired\' when `restartPolicy` is']),
    ("restart rule", _one(restartPolicy="Never", restartPolicyRules=[
        {"action": "Restart", "exitCodes": {"operator": "In", "values": [3]}}]), []),
    ("restart rule alone", _one(restartPolicyRules=[
        {"action": "Restart", "exitCodes": {"operator": "In", "values": [3]}}]),
     [f"{C}.restartPolicy: {MISSING}: must specify restartPolicy when restart rules are used"]),
    ("restart rule without codes", _one(restartPolicy="Never", restartPolicyRules=[{"action": "Restart"}]),
     [f"{C}.restartPolicyRules[0].exitCodes: {MISSING}: must be specified"]),
    ("sidecar", _spec(initContainers=[{"name": "s", "image": "i", "restartPolicy": "Always",
                                      "readinessProbe": {"tcpSocket": {"port": 1}}}]), []),
    ("probe of init", _spec(initContainers=[{"name": "s", "image": "i", "readinessProbe": {"tcpSocket": {"port": 1}}}]),
     ["spec.initContainers[0].readinessProbe: Forbidden: may not be set for init containers without restartPolicy=A"]),
    ("ephemeral", _spec(ephemeralContainers=[{"name": "e", "image": "i"}]),
     ["spec.ephemeralContainers: Forbidden: cannot be set on create"]),
    ("claim", {**_asks(claims=[{"name": "c"}]), "resourceClaims": [{"name": "c", "resourceClaimName": "x"}]}, []),
    ("unknown claim", _asks(claims=[{"name": "c"}]),
     [f'{C}.resources.claims[0]: Not found: "c": must be one of the names in pod.spec.resourceClaims which is empty']),
    ("claim from nowhere", _spec(resourceClaims=[{"name": "c"}]),
     ['spec.resourceClaims[0]: Invalid value: {"name":"c"}: must specify one of: `resourceClaimName`']),
    ("claims with a name", _spec(resourceClaims=[{"name": "c", "resourceClaimName": "x"}] * 2),
     ['spec.resourceClaims[1].name: Duplicate value: "c"']),
]  # fmt: skip

VOLUMES: list[Row] = [
    ("no name", _spec(volumes=[{"emptyDir": {}}]), [f"{V}.name: {MISSING}"]),
    ("twice", _spec(volumes=[{"name": "v"}, {"name": "v"}]), ['spec.volumes[1].name: Duplicate value: "v"']),
    ("two sources", _volume(secret={"secretName": "s"}, emptyDir={}),
     [f"{V}.secret: Forbidden: may not specify more than 1 volume type"]),
    ("empty dir", _volume(emptyDir={"sizeLimit": "-1"}), [f"{V}.emptyDir.sizeLimit: Forbidden: SizeLimit field must"]),
    ("host path", _volume(hostPath={"path": "/a/../b"}),
     [f"{V}.hostPath.path: Invalid value: \"/a/../b\": must not contain '..'"]),
    ("host path type", _volume(hostPath={"path": "/a", "type": "X"}),
     [f'{V}.hostPath.type: Unsupported value: "X": {TYPES} "", "BlockDevice", "CharDevice"']),
    ("secret", _volume(secret={}), [f"{V}.secret.secretName: {MISSING}"]),
    ("mode", _volume(secret={"secretName": "s", "defaultMode": 512}),
     [f"{V}.secret.defaultMode: Invalid value: 512: must be a number between 0 and 0777 (octal), both inclusive"]),
    ("item", _volume(configMap={"name": "c", "items": [{}]}),
     [f"{V}.configMap.items[0].key: {MISSING}", f"{V}.configMap.items[0].path: {MISSING}"]),
    ("item path", _volume(configMap={"name": "c", "items": [{"key": "k", "path": "..x"}]}),
     [f"{V}.configMap.items[0].path: Invalid value: \"..x\": must not start with '..'"]),
    ("item path up", _volume(configMap={"name": "c", "items": [{"key": "k", "path": "a/../b"}]}),
     [f"{V}.configMap.items[0].path: Invalid value: \"a/../b\": must not contain '..'"]),
    ("claim", _volume(persistentVolumeClaim={}), [f"{V}.persistentVolumeClaim.claimName: {MISSING}"]),
    ("downward", _volume(downwardAPI={"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}]}), []),
    ("downward field", _volume(downwardAPI={"items": [{"path": "l", "fieldRef": {"fieldPath": "spec.nodeName"}}]}),
     [f'{V}.downwardAPI.fieldRef.fieldPath: Unsupported value: "spec.nodeName": {TYPES} "metadata.annotations"']),
    ("downward container", _volume(downwardAPI={
        "items": [{"path": "l", "resourceFieldRef": {"resource": "limits.cpu"}}]}),
     [f"{V}.downwardAPI.resourceFieldRef.containerName: {MISSING}"]),
    ("downward nothing", _volume(downwardAPI={"items": [{"path": "l"}]}),
     [f"{V}.downwardAPI: {MISSING}: one of fieldRef and resourceFieldRef is required"]),
    ("token", _projected({"serviceAccountToken": {"path": "t", "expirationSeconds": 599}}),
     [f"{P}.sources[0].serviceAccountToken.expirationSeconds: Invalid value: 599: may not specify a duration less"]),
    ("token without account", _spec(volumes=[
        {"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]),
     [f"{P}.sources[0].serviceAccountToken: Forbidden: must not be specified when serviceAccountName is not set"]),
    ("same path", _projected(*(
        {kind: {"name": "n", "items": [{"key": "k", "path": "p"}]}} for kind in ("secret", "configMap"))),
     [f'{P}: Invalid value: "n": conflicting duplicate paths']),
    ("two in one", _projected({"secret": {"name": "a"}, "configMap": {"name": "b"}}),
     [f"{P}.sources[0]: Forbidden: may not specify more than 1 volume type per source"]),
    ("trust of nobody", _projected({"clusterTrustBundle": {"path": "t"}}),
     [f"{P}.sources[0].clusterTrustBundle: {MISSING}: either name or signerName must be specified"]),
    ("trust of a signer", _projected({
        "clusterTrustBundle": {"path": "t", "signerName": "ex.com/s", "labelSelector": {}}}), []),
    ("certificate", _projected({"podCertificate": {"signerName": "ex.com/s", "keyType": "ED25519", "keyPath": "k"}}),
     []),
    ("certificate for ever", _projected({"podCertificate": {
        "signerName": "ex.com/s", "keyType": "ED25519", "keyPath": "k", "maxExpirationSeconds": 7862401}}),
     [f"{P}.sources[0].podCertificate.maxExpirationSeconds: Invalid value: 7862401: if provided, maxExpirationSeconds"
      " must be <= 7862400"]),
    ("csi", _volume(csi={"driver": "a_b"}), [f'{V}.csi.driver: Invalid value: "a_b": a lowercase RFC 1123 subdomain']),
    ("csi secret", _volume(csi={"driver": "d.ex", "nodePublishSecretRef": {}}),
     [f"{V}.csi.nodePublishSecretRef.name: {MISSING}"]),
    ("image", _volume(image={"reference": "r:1", "pullPolicy": "X"}),
     [f'{V}.image.pullPolicy: Unsupported value: "X"']),
    ("image of nothing", _volume(image={}), [f"{V}.image.reference: {MISSING}"]),
    ("nfs", _volume(nfs={"server": "s", "path": "p"}), [f'{V}.nfs.path: Invalid value: "p": must be an absolute path']),
    ("iscsi", _volume(iscsi={"targetPortal": "p", "iqn": "iqn.2001-04.com.example:storage", "lun": 0}), []),
    ("iscsi name", _volume(iscsi={"targetPortal": "p", "iqn": "x", "lun": 0}),
     [f'{V}.iscsi.iqn: Invalid value: "x": must be valid format starting with iqn, eui, or naa']),
    ("iscsi lun", _volume(iscsi={"targetPortal": "p", "iqn": "eui.0123456789ABCDEF", "lun": 300}),
     [f"{V}.iscsi.lun: Invalid value: 300: must be between 0 and 255, inclusive"]),
    ("rbd", _volume(rbd={"monitors": [], "image": ""}), [f"{V}.rbd.monitors: {MISSING}", f"{V}.rbd.image: {MISSING}"]),
    ("fc", _volume(fc={"targetWWNs": ["a"], "wwids": ["b"], "lun": 1}),
     [f'{V}.fc.targetWWNs: Invalid value: ["a"]: targetWWNs and wwids can not be specified simultaneously']),
    ("flex", _volume(flexVolume={"driver": "d", "options": {"a.k8s.io/b": "c"}}),
     [f'{V}.flexVolume.options[a.k8s.io/b]: Invalid value: "a.k8s.io/b": kubernetes.io and k8s.io namespaces']),
    ("git", _volume(gitRepo={"repository": "r", "directory": ".."}), [f'{V}.gitRepo.directory: Invalid value: ".."']),
    ("azure", _volume(azureDisk={"diskName": "d", "diskURI": "u"}), [f'{V}.azureDisk.diskURI: Unsupported value: "u"']),
    ("ephemeral", _volume(ephemeral={"volumeClaimTemplate": {"spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}}), []),
    ("ephemeral of nothing", _volume(ephemeral={}), [f"{V}.ephemeral.volumeClaimTemplate: {MISSING}"]),
    ("ephemeral with a name", _volume(ephemeral={"volumeClaimTemplate": {"metadata": {"name": "n"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}}),
     [f"{V}.ephemeral.volumeClaimTemplate.metadata.name: Forbidden: cannot be set"]),
    ("claim that is made", _spec(volumes=[
        {"name": "v", "persistentVolumeClaim": {"claimName": "pod-w"}},
        {"name": "w", "ephemeral": {"volumeClaimTemplate": {"spec": {
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}}}]),
     [f'{V}.persistentVolumeClaim.claimName: Invalid value: "pod-w": must not reference a PVC that gets created']),
    ("unknown mount", _one(volumeMounts=[{"name": "x", "mountPath": "/a"}]),
     [f'{C}.volumeMounts[0].name: Not found: "x"']),
    ("no mount path", _mounted({}, mountPath=""), [f"{C}.volumeMounts[0].mountPath: {MISSING}"]),
    ("sub path", _mounted({}, subPath="/a"), [f'{C}.volumeMounts[0].subPath: Invalid value: "/a": must be a relative']),
    ("two sub paths", _mounted({}, subPath="a", subPathExpr="b"),
     [f'{C}.volumeMounts[0].subPathExpr: Invalid value: "b": subPathExpr and subPath are mutually exclusive']),
    ("propagation", _mounted({}, mountPropagation="Bidirectional"),
     [f"{C}.volumeMounts[0].mountPropagation: Forbidden: Bidirectional mount propagation is available only"]),
    ("recursive", _mounted({}, recursiveReadOnly="Enabled"),
     [f"{C}.volumeMounts[0].recursiveReadOnly: Forbidden: may only be specified when readOnly is true"]),
    ("device", {**_one(volumeDevices=[{"name": "v", "devicePath": "/d"}]), "volumes": [{"name": "v", "emptyDir": {}}]},
     [f'{C}.volumeDevices[0].name: Invalid value: "v": can only use volume source type of PersistentVolumeClaim']),
]  # fmt: skip

PLACES: list[Row] = [
    ("node selector", _spec(nodeSelector={"a b": "c"}), ['spec.nodeSelector: Invalid value: "a b": name part must']),
    ("required value", _on({"key": "k", "operator": "In", "values": ["a b"]}),
     [f"spec.affinity.nodeAffinity.{REQUIRED}.nodeSelectorTerms[0].matchExpressions[0].values[0]: Invalid value"]),
    ("preferred value", _spec(affinity={"nodeAffinity": {PREFERRED: [{"weight": 1, "preference": {"matchExpressions": [
        {"key": "k", "operator": "In", "values": ["a b"]}]}}]}}), []),
    ("weight", _spec(affinity={"nodeAffinity": {PREFERRED: [{"weight": 101, "preference": {}}]}}),
     [f"spec.affinity.nodeAffinity.{PREFERRED}[0].weight: Invalid value: 101: must be in the range 1-100"]),
    ("no values", _on({"key": "k", "operator": "In"}),
     [f"spec.affinity.nodeAffinity.{REQUIRED}.nodeSelectorTerms[0].matchExpressions[0].values: {MISSING}: must be"]),
    ("node operator", _on({"key": "k", "operator": "Is"}),
     [f"spec.affinity.nodeAffinity.{REQUIRED}.nodeSelectorTerms[0].matchExpressions[0].operator: Invalid value: \"Is"]),
    ("no terms", _spec(affinity={"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": []}}}),
     [f"spec.affinity.nodeAffinity.{REQUIRED}.nodeSelectorTerms: {MISSING}: must have at least one node selector ter"]),
    ("match field", _on({"key": "metadata.name", "operator": "In", "values": ["n"]}, "matchFields"), []),
    ("match two fields", _on({"key": "metadata.name", "operator": "In", "values": ["n", "m"]}, "matchFields"),
     [f"spec.affinity.nodeAffinity.{REQUIRED}.nodeSelectorTerms[0].matchFields[0].values: {MISSING}: must be only on"]),
    ("match other field", _on({"key": "x", "operator": "Exists"}, "matchFields"),
     [f"spec.affinity.nodeAffinity.{REQUIRED}.nodeSelectorTerms[0].matchFields[0].operator: Invalid value",
      f"spec.affinity.nodeAffinity.{REQUIRED}.nodeSelectorTerms[0].matchFields[0].key: Invalid value: \"x\""]),
    ("near", _near(), []),
    ("near namespace", _near(namespaces=["A"]),
     [f'spec.affinity.podAffinity.{REQUIRED}[0].namespace: Invalid value: "A"']),
    ("near keys", _near(matchLabelKeys=["a"], mismatchLabelKeys=["b"]), []),
    ("near no selector", _near(labelSelector=None, matchLabelKeys=["a"]),
     [f"spec.affinity.podAffinity.{REQUIRED}[0].matchLabelKeys: Forbidden: must not be specified when labelSelector"]),
    ("near both keys", _near(matchLabelKeys=["a"], mismatchLabelKeys=["a"]),
     [f'spec.affinity.podAffinity.{REQUIRED}[0].matchLabelKeys[0]: Invalid value: "a": exists in both']),
    ("near key selected", _near(matchLabelKeys=["app"], labelSelector={"matchLabels": {"app": "x"}}),
     [f'spec.affinity.podAffinity.{REQUIRED}[0][0]: Invalid value: "app": exists in both matchLabelKeys and']),
    ("near selector", _near(labelSelector={"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]}),
     [f"spec.affinity.podAffinity.{REQUIRED}[0].labelSelector.matchExpressions[0].values: Forbidden: may not be"]),
    ("spread", _spread(minDomains=2, nodeAffinityPolicy="Honor", nodeTaintsPolicy="Ignore", matchLabelKeys=["app"]),
     []),
    ("spread key", _spread(topologyKey=""), [f"spec.topologySpreadConstraints[0].topologyKey: {MISSING}: can not be"]),
    ("spread action", _spread(whenUnsatisfiable="X"),
     [f'spec.topologySpreadConstraints[0].whenUnsatisfiable: Unsupported value: "X": {TYPES} "DoNotSchedule"']),
    ("spread domains", _spread(minDomains=1, whenUnsatisfiable="ScheduleAnyway"),
     ["spec.topologySpreadConstraints[0].minDomains: Invalid value: 1: can only use minDomains if whenUnsatisfiable="]),
    ("spread policy", _spread(nodeTaintsPolicy="X"),
     [f'spec.topologySpreadConstraints[0].nodeTaintsPolicy: Unsupported value: "X": {TYPES} "Honor", "Ignore"']),
    ("spread keys", _spread(labelSelector=None, matchLabelKeys=["a"]),
     ["spec.topologySpreadConstraints[0].matchLabelKeys: Forbidden: must not be specified when labelSelector is not "]),
    ("spread twice", _spec(topologySpreadConstraints=_spread()["topologySpreadConstraints"] * 2),
     ["spec.topologySpreadConstraints[0].{topologyKey, whenUnsatisfiable}: Duplicate value: \"{zone, DoNotSchedule}"]),
    ("toleration", _spec(tolerations=[{"key": "a", "operator": "Exists", "value": "b"}]),
     ['spec.tolerations[0].operator: Invalid value: "b": value must be empty when `operator` is \'Exists\'']),
    ("toleration of all", _spec(tolerations=[{"operator": "Exists"}]), []),
    ("toleration of nothing", _spec(tolerations=[{"effect": "NoSchedule"}]),
     ["spec.tolerations[0].operator: Invalid value: "]),
    ("toleration effect", _spec(tolerations=[{"key": "a", "operator": "Exists", "effect": "X"}]),
     ['spec.tolerations[0].effect: Unsupported value: "X": supported values: "NoExecute"']),
    ("toleration seconds", _spec(tolerations=[{"key": "a", "operator": "Exists", "tolerationSeconds": 1}]),
     ["spec.tolerations[0].effect: Invalid value: \"\": effect must be 'NoExecute' when `tolerationSeconds` is set"]),
    ("gates twice", _spec(schedulingGates=[{"name": "a/b"}] * 2), ['spec.schedulingGates[1]: Duplicate value: "a/b"']),
    ("gated and bound", _spec(schedulingGates=[{"name": "a/b"}], nodeName="n"),
     ["spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared"]),
]  # fmt: skip

SPECS: list[Row] = [
    ("restart policy", _spec(restartPolicy="X"), [f'spec.restartPolicy: Unsupported value: "X": {TYPES}']),
    ("dns policy", _spec(dnsPolicy="X"), ['spec.dnsPolicy: Unsupported value: "X"']),
    ("dns of one's own", _spec(dnsPolicy="None", dnsConfig={"nameservers": ["10.0.0.1"], "searches": ["a.b", "."]}),
     []),
    ("no dns at all", _spec(dnsPolicy="None"),
     [f"spec.dnsConfig: {MISSING}: must provide `dnsConfig` when `dnsPolicy`"]),
    ("no nameserver", _spec(dnsPolicy="None", dnsConfig={}),
     [f"spec.dnsConfig.nameservers: {MISSING}: must provide at least one DNS nameserver when `dnsPolicy` is None"]),
    ("four nameservers", _spec(dnsConfig={"nameservers": ["10.0.0.1"] * 4}),
     ["spec.dnsConfig.nameservers: Invalid value: ", ]),
    ("nameserver", _spec(dnsConfig={"nameservers": ["x"]}),
     ['spec.dnsConfig.nameservers[0]: Invalid value: "x": must be a valid IP address']),
    ("searches", _spec(dnsConfig={"searches": [f"a{n}.b" for n in range(33)]}),
     ["spec.dnsConfig.searches: Invalid value"]),
    ("long searches", _spec(dnsConfig={"searches": ["a." * 100 + "b"] * 11}),
     ["spec.dnsConfig.searches: Invalid value"]),
    ("search", _spec(dnsConfig={"searches": ["A"]}), ['spec.dnsConfig.searches[0]: Invalid value: "A": a lowercase']),
    ("search with underscore", _spec(dnsConfig={"searches": ["_sip.a."]}), []),
    ("option", _spec(dnsConfig={"options": [{"value": "2"}]}),
     [f"spec.dnsConfig.options[0]: {MISSING}: must not be empty"]),
    ("host alias", _spec(hostAliases=[{"ip": "x"}]),
     ['spec.hostAliases[0].ip: Invalid value: "x": must be a valid IP']),
    ("host alias name", _spec(hostAliases=[{"ip": "1.1.1.1", "hostnames": ["a_b"]}]),
     ['spec.hostAliases[0].hostnames[0]: Invalid value: "a_b"']),
    ("readiness gate", _spec(readinessGates=[{"conditionType": "a b"}]),
     ['spec.readinessGates[0].conditionType: Invalid value: "a b": name part must consist']),
    ("host name override", _spec(hostnameOverride="a.b"), []),
    ("long override", _spec(hostnameOverride="a" * 65),
     ["spec.hostnameOverride: Too long: may not be more than 64 bytes"]),
    ("priority class", _spec(priorityClassName="A"), ['spec.priorityClassName: Invalid value: "A"']),
    ("runtime class", _spec(runtimeClassName="A"), ['spec.runtimeClassName: Invalid value: "A"']),
    ("preemption", _spec(preemptionPolicy="X"), ['spec.preemptionPolicy: Unsupported value: "X"']),
    ("overhead", _spec(overhead={"cpu": "-1"}), ["spec.overhead.limits[cpu]: Invalid value"]),
    ("pod resources", _spec(resources={"limits": {"cpu": 1}}), []),
    ("pod disk", _spec(resources={"limits": {"ephemeral-storage": 1}}),
     ['spec.resources.limits[ephemeral-storage]: Unsupported value: "ephemeral-storage"']),
    ("pod claims", {**_spec(resources={"claims": [{"name": "c"}]})},
     ["spec.resources.claims: Forbidden: claims cannot be"]),
    ("pod too small", {**_asks(requests={"cpu": 2}), "resources": {"requests": {"cpu": 1}}},
     ['spec.resources.requests[cpu]: Invalid value: "1": must be greater than or equal to aggregate container reques']),
    ("user", _spec(securityContext={"runAsUser": -1}),
     ["spec.securityContext.runAsUser: Invalid value: -1: must be between"]),
    ("groups", _spec(securityContext={"supplementalGroups": [-1]}),
     ["spec.securityContext.supplementalGroups[0]: Invalid value: -1"]),
    ("sysctl", _spec(securityContext={"sysctls": [{"name": "kernel.shm_rmid_forced", "value": "1"}]}), []),
    ("bad sysctls", _spec(securityContext={
        "sysctls": [{"name": n, "value": "1"} for n in ("foo-", "kernel.shmmax", "")]}),
     ['spec.securityContext.sysctls[0].name: Invalid value: "foo-": must have at most 253 characters and match regex',
      f"spec.securityContext.sysctls[2].name: {MISSING}"]),
    ("sysctl of the host", {**_spec(securityContext={
        "sysctls": [{"name": "net.ipv4.x", "value": "1"}]}), "hostNetwork": True},
     ["spec.securityContext.sysctls[0].name: Invalid value: \"net.ipv4.x\": may not be specified when 'hostNetwork'"]),
    ("seccomp", _spec(securityContext={"seccompProfile": {"type": "Localhost"}}),
     [f"spec.securityContext.seccompProfile.localhostProfile: {MISSING}: must be set when seccomp type is Localhost"]),
    ("seccomp type", _spec(securityContext={"seccompProfile": {"type": "X"}}),
     ['spec.securityContext.seccompProfile.type: Unsupported value: "X"']),
    ("apparmor", _one(securityContext={"appArmorProfile": {"type": "RuntimeDefault", "localhostProfile": "x"}}),
     [f'{C}.securityContext.appArmorProfile.localhostProfile: Invalid value: "x": can only be set when AppArmor type']),
    ("group policy", _spec(securityContext={"fsGroupChangePolicy": "X"}),
     ['spec.securityContext.fsGroupChangePolicy: Unsupported value: "X"']),
    ("privileged", _one(securityContext={"privileged": True, "allowPrivilegeEscalation": False}),
     [f"{C}.securityContext: Invalid value: "]),
    ("proc mount", _one(securityContext={"procMount": "Unmasked"}),
     [f'{C}.securityContext.procMount: Invalid value: "Unmasked": `hostUsers` must be false to use `Unmasked`']),
    ("processes of the host", _spec(shareProcessNamespace=True, hostPID=True),
     ["spec.securityContext.shareProcessNamespace: Invalid value: true: ShareProcessNamespace and HostPID cannot bot"]),
    ("users and host", _spec(hostUsers=False, hostPID=True),
     ["spec.HostPID: Forbidden: when `pod.Spec.HostUsers` is false"]),
    ("os", _spec(os={"name": "dos"}), ['spec.os: Unsupported value: "dos": supported values: "linux", "windows"']),
    ("windows", {**_spec(os={"name": "windows"}), "securityContext": {"runAsUser": 1}},
     ["spec.securityContext.runAsUser: Forbidden: cannot be set for a windows pod"]),
]  # fmt: skip


@pytest.mark.parametrize(
    "rows", [CONTAINERS, VOLUMES, PLACES, SPECS], ids=["containers", "volumes", "places", "specs"]
)
async def test_new_pods(ready: Cluster, rows: list[Row]) -> None:
    wrong = []
    for name, spec, expected in rows:
        pod = {"metadata": {"name": "pod", "labels": {"app": "x"}}, "spec": spec}
        found = await judge(ready, "POST", PODS, pod, "Pod")
        if differs(found, expected):
            wrong.append((name, expected, found))
    assert not wrong


ANNOTATIONS: list[tuple[str, str, list[str]]] = [
    ("controller.kubernetes.io/pod-deletion-cost", "-5", []),
    ("controller.kubernetes.io/pod-deletion-cost", "9" * 5000,
     ['metadata.annotations[controller.kubernetes.io/pod-deletion-cost]: Invalid value: "9999']),
    ("controller.kubernetes.io/pod-deletion-cost", "1.5",
     ['metadata.annotations[controller.kubernetes.io/pod-deletion-cost]: Invalid value: "1.5": must be a 32bit integ']),
    ("kubernetes.io/config.mirror", "x", ["metadata.annotations[kubernetes.io/config.mirror]: Invalid value"]),
    ("seccomp.security.alpha.kubernetes.io/pod", "mine",
     ['metadata.annotations.seccomp.security.alpha.kubernetes.io/pod: Invalid value: "mine": must be a valid seccomp']),
    ("container.apparmor.security.beta.kubernetes.io/b", "unconfined",
     ['metadata.annotations[container.apparmor.security.beta.kubernetes.io/b]: Invalid value: "b": container not fou']),
]  # fmt: skip


async def test_annotations_that_mean_something(ready: Cluster) -> None:
    for key, value, expected in ANNOTATIONS:
        pod = {"metadata": {"name": "pod", "annotations": {key: value}}, "spec": _spec()}
        found = await judge(ready, "POST", PODS, pod, "Pod")
        assert not differs(found, expected), (key, found)


# ── Updates ──────────────────────────────────────────────────────────────────────────────────────────────

OTHER = "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`"
HELD = {"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}
UPDATES: list[tuple[str, Json, Json, list[str]]] = [
    ("image", {}, {"containers": [{"name": "a", "image": "web:2"}]}, []),
    ("command", {}, {"containers": [{"name": "a", "image": "web:1", "command": ["x"]}]}, [OTHER]),
    ("resources", {}, {"containers": [{"name": "a", "image": "web:1", "resources": {"requests": {"cpu": "1"}}}]},
     [OTHER]),
    ("more containers", {}, {"containers": [{"name": "a", "image": "web:1"}, {"name": "b", "image": "b"}]},
     ["spec.containers: Forbidden: pod updates may not add or remove containers"]),
    ("deadline", {}, {"activeDeadlineSeconds": 5}, []),
    ("later deadline", {"activeDeadlineSeconds": 5}, {"activeDeadlineSeconds": 6},
     ["spec.activeDeadlineSeconds: Invalid value: 6: must be less than or equal to previous value"]),
    ("one more toleration", {"tolerations": [HELD]}, {"tolerations": [HELD, {"operator": "Exists"}]}, []),
    ("toleration for longer", {"tolerations": [HELD]}, {"tolerations": [{**HELD, "tolerationSeconds": 9}]}, []),
    ("no toleration", {"tolerations": [HELD]}, {"tolerations": []},
     ["spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"]),
    ("gate opened", {"schedulingGates": [{"name": "a/b"}]}, {"schedulingGates": []}, []),
    ("gate added", {"schedulingGates": [{"name": "a/b"}]}, {"schedulingGates": [{"name": "a/b"}, {"name": "a/c"}]},
     ["spec.schedulingGates[1].name: Forbidden: only deletion is allowed, but found new scheduling gate 'a/c'"]),
    ("gated selector", {"schedulingGates": [{"name": "a/b"}]}, {"nodeSelector": {"a": "b"}}, []),
    ("selector", {}, {"nodeSelector": {"a": "b"}}, [OTHER]),
    ("grace", {}, {"terminationGracePeriodSeconds": 1}, [OTHER]),
    ("node", {}, {"nodeName": "n"}, [OTHER]),
    ("hostname", {}, {"hostname": "n"}, [OTHER]),
    ("volumes", {}, {"volumes": [{"name": "v"}]}, [OTHER]),
]  # fmt: skip


async def test_updates(ready: Cluster) -> None:
    wrong = []
    for at, (name, before, changes, expected) in enumerate(UPDATES):
        pod = {"metadata": {"name": f"pod{at}"}, "spec": _spec(**before)}
        status, made, _ = await ready.call("POST", PODS, pod)
        assert status == 201, made
        spec = {**made["spec"], **changes}
        found = await judge(ready, "PUT", f"{PODS}/pod{at}", {**made, "spec": spec}, "Pod")
        if differs(found, expected):
            wrong.append((name, expected, found))
    assert not wrong


DEBUG: list[tuple[str, list[Json], list[str]]] = [
    ("added", [{"name": "d", "image": "sh:1"}, {"name": "e", "image": "sh:1", "targetContainerName": "a"}], []),
    ("removed", [], ['spec.ephemeralContainers: Forbidden: existing ephemeral containers "d" may not be removed']),
    ("changed", [{"name": "d", "image": "sh:2"}],
     ['spec.ephemeralContainers: Forbidden: existing ephemeral containers "d" may not be changed']),
    ("with a probe", [
        {"name": "d", "image": "sh:1"}, {"name": "e", "image": "s", "readinessProbe": {"grpc": {"port": 1}}}],
     ["spec.ephemeralContainers[1].readinessProbe: Forbidden: cannot be set for an Ephemeral Container"]),
    ("restarted", [{"name": "d", "image": "sh:1"}, {"name": "e", "image": "s", "restartPolicy": "Always"}],
     ["spec.ephemeralContainers[1].restartPolicy: Forbidden: cannot be set for an Ephemeral Container"]),
    ("at nothing", [{"name": "d", "image": "sh:1"}, {"name": "e", "image": "s", "targetContainerName": "x"}],
     ['spec.ephemeralContainers[1].targetContainerName: Not found: "x"']),
    ("with the name", [{"name": "d", "image": "sh:1"}, {"name": "a", "image": "s"}],
     ['spec.ephemeralContainers[1].name: Duplicate value: "a"']),
]  # fmt: skip


async def test_ephemeral_containers(ready: Cluster) -> None:
    pod = {"metadata": {"name": "pod"}, "spec": _spec()}
    await ready.call("POST", PODS, pod)
    path = f"{PODS}/pod/ephemeralcontainers"
    held = {**pod, "spec": _spec(ephemeralContainers=[{"name": "d", "image": "sh:1"}])}
    status, answer, _ = await ready.call("PUT", path, held)
    assert status == 200, answer
    for name, containers, expected in DEBUG:
        body = copy.deepcopy(answer)
        body["spec"]["ephemeralContainers"] = containers
        found = await judge(ready, "PUT", path, body, "Pod")
        assert not differs(found, expected), (name, found)


# ── What creation makes of a pod ─────────────────────────────────────────────────────────────────────────


async def test_label_keys_become_requirements_of_the_pods_own_labels(ready: Cluster) -> None:
    spread = _spread(matchLabelKeys=["app", "absent"])
    near = _near(matchLabelKeys=["app"], mismatchLabelKeys=["tenant"])
    pod = {"metadata": {"name": "pod", "labels": {"app": "x", "tenant": "t"}}, "spec": {**spread, **near}}
    _, made, _ = await ready.call("POST", PODS, pod)
    same = {"key": "app", "operator": "In", "values": ["x"]}
    assert made["spec"]["topologySpreadConstraints"][0]["labelSelector"] == {"matchExpressions": [same]}
    (term,) = made["spec"]["affinity"]["podAffinity"][REQUIRED]
    other = {"key": "tenant", "operator": "NotIn", "values": ["t"]}
    assert term["labelSelector"]["matchExpressions"] == [same, other]
    labelled = {**made, "metadata": {**made["metadata"], "labels": {"app": "y"}}}
    status, changed, _ = await ready.call("PUT", f"{PODS}/pod", labelled)
    assert status == 200 and changed["spec"] == made["spec"]


async def test_a_gated_pod_says_so_at_once(ready: Cluster) -> None:
    pod = {"metadata": {"name": "pod"}, "spec": _spec(schedulingGates=[{"name": "a/b"}])}
    _, made, _ = await ready.call("POST", PODS, pod)
    (condition,) = made["status"]["conditions"]
    assert condition == {
        "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
        "message": "Scheduling is blocked due to non-empty scheduling gates",
        "lastTransitionTime": made["metadata"]["creationTimestamp"],
    }  # fmt: skip


async def test_what_a_pod_asks_for_as_a_whole_is_filled_in(ready: Cluster) -> None:
    containers = [{"name": n, "image": "i", "resources": {"requests": {"cpu": "250m"}}} for n in "ab"]
    spec = {"containers": containers, "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}
    _, made, _ = await ready.call("POST", PODS, {"metadata": {"name": "pod"}, "spec": spec})
    assert made["spec"]["resources"]["requests"] == {"cpu": "500m", "memory": "1Gi"}
    assert made["status"]["qosClass"] == "Burstable"
    image = _volume(image={"reference": "r"})
    _, made, _ = await ready.call("POST", PODS, {"metadata": {"name": "two"}, "spec": image})
    assert made["spec"]["volumes"][0]["image"]["pullPolicy"] == "Always"


# ── Warnings ─────────────────────────────────────────────────────────────────────────────────────────────

PORT = {"containerPort": 80}
WARNINGS: list[tuple[Json, list[str]]] = [
    (_spec(), []),
    (_spec(nodeSelector={"beta.kubernetes.io/os": "linux"}),
     ['spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use "kubernetes.io/os" instead']),
    (_one(env=[{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]),
     [f'{C}.env[1]: hides previous definition of "A", which may be dropped when using apply']),
    (_one(env=[{"name": "A", "value": "1"}, {"name": "A", "value": "$(A)2"}]), []),
    (_one(ports=[PORT, PORT]), [f"{C}.ports[1]: duplicate port definition with {C}.ports[0]"]),
    (_spec(containers=[{"name": "a", "image": "i", "ports": [PORT]},
                       {"name": "b", "image": "i", "ports": [{**PORT, "hostPort": 80}]}]),
     [f"spec.containers[1].ports[0]: overlapping port definition with {C}.ports[0]"]),
    (_asks(limits={"memory": "1500m"}),
     [f'{C}.resources.{kind}[memory]: fractional byte value "1500m" is invalid, must be an integer'
      for kind in ("limits", "requests")]),
    (_volume(gitRepo={"repository": "r"}), [f"{V}.gitRepo: deprecated in v1.11, and disabled by default in v1.33+"]),
    (_spec(hostAliases=[{"ip": "1.1.1.1"}, {"ip": "1.1.1.1"}]), ['spec.hostAliases[1].ip: duplicate ip "1.1.1.1"']),
    (_spec(imagePullSecrets=[{"name": "a"}, {"name": "a"}, {}]),
     ['spec.imagePullSecrets[1].name: duplicate name "a"', 'spec.imagePullSecrets[2].name: invalid empty name ""']),
    (_near(labelSelector=None),
     [f"spec.affinity.podAffinity.{REQUIRED}[0].labelSelector: a null labelSelector results in matching no pod"]),
    (_spec(terminationGracePeriodSeconds=-1),
     ["spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"]),
]  # fmt: skip


def _warned(answer: Any) -> list[str]:
    return [text[7:-1].replace('\\"', '"') for text in answer.headers.getall("Warning", [])]


async def test_warnings_of_pods_and_templates(ready: Cluster) -> None:
    deployments = "/apis/apps/v1/namespaces/default/deployments"
    for spec, expected in WARNINGS:
        pod = {"metadata": {"name": "pod"}, "spec": spec}
        status, made, answer = await ready.call("POST", f"{PODS}?dryRun=All", pod)
        assert status == 201 and _warned(answer) == expected, (made, _warned(answer))
        template = {"metadata": {"labels": {"a": "b"}}, "spec": spec}
        body = {
            "metadata": {"name": "d"},
            "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template},
        }
        _, _, answer = await ready.call("POST", f"{deployments}?dryRun=All", body)
        # A template's requests are not filled in from its limits.
        within = [
            f"spec.template.{text.replace(' with spec', ' with spec.template.spec')}" for text in expected
        ]
        assert _warned(answer) == within[: 1 if "fractional" in "".join(within) else None]
    _, _, answer = await ready.call(
        "POST", f"{PODS}?dryRun=All", {"metadata": {"name": "a.b"}, "spec": _spec()}
    )
    (text,) = _warned(answer)
    assert text.startswith(
        "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior"
    )
