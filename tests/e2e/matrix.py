"""The script that every kubectl runs: about 120 commands, each judged by what it prints and by what then exists.

A `Step` is one command with `{ns}` for the namespace of this kubectl; cluster-wide names carry it too, so that
several can run at once. Steps build on those before them and run in the order of the table.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import yaml

from tests.e2e import images
from tests.e2e.cluster import Api

Object = dict[str, Any]
Judge = Callable[[Api, str], bool]
"""Whether the cluster looks as it should, given the namespace."""

CORE = "/api/v1/namespaces/{ns}"
APPS = "/apis/apps/v1/namespaces/{ns}"


@dataclass(frozen=True)
class Step:
    """One command. `prints` is a regular expression, or a function that is true of the output."""

    name: str
    command: str | tuple[str, ...]
    prints: str | Callable[[str], bool] = ""
    then: Judge | None = None
    stdin: str = ""
    code: int = 0
    since: int = 27
    """The first minor version of kubectl that has it."""
    until: int = 99
    patience_s: float = 0.0
    """The command is repeated for so long until it is as wanted: what it shows takes a moment."""

    def words(self, namespace: str) -> list[str]:
        words = self.command.split() if isinstance(self.command, str) else self.command
        return [word.replace("{ns}", namespace) for word in words]

    def prints_it(self, output: str) -> bool:
        if callable(self.prints):
            return self.prints(output)
        return re.search(self.prints, output, re.MULTILINE) is not None


def at(path: str, look: Callable[[Object], Any]) -> Judge:
    """`look` is true of the object at `path`."""
    return lambda api, ns: bool(look(api.get(path.replace("{ns}", ns))))


def gone(path: str) -> Judge:
    return lambda api, ns: api.call("GET", path.replace("{ns}", ns)).code == 404


def there(path: str) -> Judge:
    return lambda api, ns: api.call("GET", path.replace("{ns}", ns)).code == 200


def is_json(look: Callable[[Any], Any]) -> Callable[[str], bool]:
    return lambda text: bool(look(json.loads(text)))


def is_yaml(look: Callable[[Any], Any]) -> Callable[[str], bool]:
    return lambda text: bool(look(yaml.safe_load(text)))


def lines(count: int) -> Callable[[str], bool]:
    return lambda text: len(text.splitlines()) == count


def manifest(kind: str, name: str, api_version: str = "v1", **fields: Any) -> str:
    metadata = {"name": name, **fields.pop("metadata", {})}
    return yaml.safe_dump({"apiVersion": api_version, "kind": kind, "metadata": metadata, **fields})


POD = {"containers": [{"name": "c", "image": images.WEB}], "terminationGracePeriodSeconds": 0}
TALKS = "echo first; trap 'exit 0' TERM; while sleep 0.2; do echo more; done"

LOOKING = [
    Step("version", "version -o json", is_json(lambda v: v["serverVersion"]["minor"] == "36")),
    Step("cluster-info", "cluster-info", "Kubernetes control plane.* is running at .*https://"),
    Step("api-versions", "api-versions", r"^batch/v1$"),
    Step("api-resources", "api-resources --namespaced=true -o name", r"^deployments\.apps$"),
    Step("api-resources wide", "api-resources --api-group=apps -o wide", r"statefulsets +sts +apps/v1 +true"),
    Step("api-resources by verb", "api-resources --verbs=list,watch -o name", r"^nodes$"),
    Step("get nodes", "get nodes -o wide", r"Ready +.*v1\.36\."),
    Step("get all", "get all -A", r"service/kubernetes +ClusterIP"),
    Step("get --raw", "get --raw /readyz", "^ok"),
    Step("get --raw openapi", "get --raw /openapi/v3", is_json(lambda v: "apis/apps/v1" in v["paths"])),
    Step("describe node", "describe nodes", r"Ready +True .*KubeletReady"),
    Step("explain", "explain pod.spec.restartPolicy", "(?i)restart policy"),
    Step("explain recursive", "explain deployment --recursive", r"(?s)maxSurge.*containers"),
    Step("explain a group", "explain horizontalpodautoscalers --api-version=autoscaling/v2", "(?i)autoscaling"),
    Step("auth can-i", "auth can-i create pods -n {ns}", "^yes"),
    Step("auth can-i as another", "auth can-i delete nodes --as=nobody", "^no", code=1),
    Step("auth can-i --list", "auth can-i --list -n {ns}", r"\*\.\*"),
    Step("auth whoami", "auth whoami -o json",
         is_json(lambda v: "system:masters" in v["status"]["userInfo"]["groups"]), since=28),
    Step("get an unknown kind", "get unicorns", code=1),
    Step("get an absent object", "get pod absent", code=1),
    Step("config view", "config view -o json", is_json(lambda v: v["clusters"])),
]  # fmt: skip

CREATING = [
    Step("create configmap", "create configmap settings --from-literal=colour=red --from-literal=size=big",
         "created", at(f"{CORE}/configmaps/settings", lambda o: o["data"] == {"colour": "red", "size": "big"})),
    Step("create it again", "create configmap settings", code=1),
    Step("create secret", "create secret generic token --from-literal=key=s3cret", "created",
         at(f"{CORE}/secrets/token", lambda o: (o["type"], o["data"]) == ("Opaque", {"key": "czNjcmV0"}))),
    Step("create docker secret",
         "create secret docker-registry pull --docker-server=r --docker-username=u --docker-password=p", "created",
         at(f"{CORE}/secrets/pull", lambda o: o["type"] == "kubernetes.io/dockerconfigjson")),
    Step("create serviceaccount", "create serviceaccount robot", "created", there(f"{CORE}/serviceaccounts/robot")),
    Step("create token", "create token robot --duration=1h", r"^ey[\w-]+\.[\w-]+\.[\w-]+$"),
    Step("create role", "create role reader --verb=get,list --resource=pods,pods/log", "created",
         at("/apis/rbac.authorization.k8s.io/v1/namespaces/{ns}/roles/reader",
            lambda o: o["rules"][0]["verbs"] == ["get", "list"])),
    Step("create rolebinding", "create rolebinding readers --role=reader --serviceaccount={ns}:robot", "created"),
    Step("what the account may", "auth can-i list pods --as=system:serviceaccount:{ns}:robot", "^yes"),
    Step("what it may not", "auth can-i delete pods --as=system:serviceaccount:{ns}:robot", "^no", code=1),
    Step("set subject", "set subject rolebinding/readers --serviceaccount={ns}:default", "updated",
         at("/apis/rbac.authorization.k8s.io/v1/namespaces/{ns}/rolebindings/readers",
            lambda o: len(o["subjects"]) == 2)),
    Step("create clusterrole", "create clusterrole {ns} --verb=get --resource=nodes", "created",
         there("/apis/rbac.authorization.k8s.io/v1/clusterroles/{ns}")),
    Step("create clusterrolebinding", "create clusterrolebinding {ns} --clusterrole={ns} --user=jane", "created"),
    Step("auth reconcile", "auth reconcile -f -", "reconciled",
         at("/apis/rbac.authorization.k8s.io/v1/clusterroles/{ns}", lambda o: len(o["rules"]) == 2),
         stdin=manifest("ClusterRole", "{ns}", "rbac.authorization.k8s.io/v1",
                        rules=[{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get"]}])),
    Step("delete cluster-wide", "delete clusterrole,clusterrolebinding {ns}", "deleted",
         gone("/apis/rbac.authorization.k8s.io/v1/clusterroles/{ns}")),
    Step("create quota", "create quota limits --hard=pods=50,services=20", "created",
         at(f"{CORE}/resourcequotas/limits", lambda o: o["spec"]["hard"] == {"pods": "50", "services": "20"})),
    Step("create pdb", "create poddisruptionbudget careful --selector=app=web --min-available=50%", "created",
         at("/apis/policy/v1/namespaces/{ns}/poddisruptionbudgets/careful",
            lambda o: o["spec"]["minAvailable"] == "50%")),
    Step("get pdb", "get pdb", r"careful +50% +N/A"),
    Step("create priorityclass", "create priorityclass {ns} --value=10", "created",
         at("/apis/scheduling.k8s.io/v1/priorityclasses/{ns}", lambda o: o["value"] == 10)),
    Step("delete priorityclass", "delete priorityclass {ns}", "deleted"),
    Step("create job", f"create job once --image={images.WEB} -- true", "created",
         at("/apis/batch/v1/namespaces/{ns}/jobs/once",
            lambda o: o["spec"]["template"]["spec"]["restartPolicy"] == "Never" and o["spec"]["selector"])),
    Step("get job", "get job once -o wide", r"once +\S* *0/1"),
    Step("delete job", "delete job once", "deleted", patience_s=0),
    Step("create cronjob", ("create", "cronjob", "tick", f"--image={images.WEB}", "--schedule=*/5 * * * *"), "created",
         at("/apis/batch/v1/namespaces/{ns}/cronjobs/tick", lambda o: o["spec"]["concurrencyPolicy"] == "Allow")),
    Step("get cronjob", "get cronjob", r"tick +\*/5 \* \* \* \* .*False +0"),
    Step("job from a cronjob", "create job now --from=cronjob/tick", "created",
         at("/apis/batch/v1/namespaces/{ns}/jobs/now",
            lambda o: o["metadata"]["ownerReferences"][0]["name"] == "tick")),
    Step("delete cronjob", "delete cronjob tick", "deleted"),
    Step("create ingress", "create ingress front --rule=a.test/x*=web:80,tls=cert", "created",
         at("/apis/networking.k8s.io/v1/namespaces/{ns}/ingresses/front",
            lambda o: o["spec"]["rules"][0]["http"]["paths"][0]["pathType"] == "Prefix")),
    Step("get ingress", "get ingress", r"front +<none> +a\.test +80, 443"),
    Step("describe ingress", "describe ingress front", r"(?s)a\.test.*/x +web:80"),
    Step("create service clusterip", "create service clusterip inner --tcp=80:8080", "created",
         at(f"{CORE}/services/inner", lambda o: o["spec"]["clusterIP"].startswith("10.63."))),
    Step("create service nodeport", "create service nodeport outer --tcp=80", "created",
         at(f"{CORE}/services/outer", lambda o: 30000 <= o["spec"]["ports"][0]["nodePort"] < 32768)),
    Step("create service externalname", "create service externalname alias --external-name=a.test", "created"),
    Step("get services", "get services", r"alias +ExternalName +<none> +a\.test"),
    Step("create service headless", "create service clusterip none --clusterip=None --tcp=80", "created",
         at(f"{CORE}/services/none", lambda o: o["spec"]["clusterIP"] == "None")),
    Step("delete services", "delete service inner outer alias none", "deleted"),
    Step("create namespace", "create namespace {ns}-x", "created", there("/api/v1/namespaces/{ns}-x")),
    Step("delete namespace", "delete namespace {ns}-x --timeout=60s", "deleted", gone("/api/v1/namespaces/{ns}-x")),
]  # fmt: skip

CHANGING = [
    Step("label", "label configmap settings tier=front", "labeled",
         at(f"{CORE}/configmaps/settings", lambda o: o["metadata"]["labels"] == {"tier": "front"})),
    Step("label again", "label configmap settings tier=back", code=1),
    Step("label --overwrite", "label configmap settings tier=back --overwrite", "labeled"),
    Step("get by label", "get configmap -l tier=back -o name", r"\Aconfigmap/settings\n\Z"),
    Step("get by set", ("get", "configmap", "-l", "tier in (back,side),tier!=front", "-o", "name"), "settings"),
    Step("get by field", "get configmap --field-selector=metadata.name=settings -o name", r"\Aconfigmap/settings\n\Z"),
    Step("get -L", "get configmap settings -L tier", r"TIER\n.* back"),
    Step("get --show-labels", "get configmap settings --show-labels", "tier=back"),
    Step("remove a label", "label configmap settings tier-", "unlabeled",
         at(f"{CORE}/configmaps/settings", lambda o: not o["metadata"].get("labels"))),
    Step("annotate", "annotate configmap settings note=hello", "annotate",
         at(f"{CORE}/configmaps/settings", lambda o: o["metadata"]["annotations"]["note"] == "hello")),
    Step("strategic patch", ("patch", "configmap", "settings", "-p", '{"data":{"size":"small"}}'), "patched",
         at(f"{CORE}/configmaps/settings", lambda o: o["data"] == {"colour": "red", "size": "small"})),
    Step("merge patch", ("patch", "configmap", "settings", "--type=merge", "-p", '{"data":{"size":null}}'), "patched",
         at(f"{CORE}/configmaps/settings", lambda o: o["data"] == {"colour": "red"})),
    Step("json patch", ("patch", "configmap", "settings", "--type=json", "-p",
                        '[{"op":"test","path":"/data/colour","value":"red"},'
                        '{"op":"add","path":"/data/shape","value":"round"}]'), "patched",
         at(f"{CORE}/configmaps/settings", lambda o: o["data"]["shape"] == "round")),
    Step("json patch that fails", ("patch", "configmap", "settings", "--type=json", "-p",
                                   '[{"op":"test","path":"/data/colour","value":"blue"}]'), code=1),
    Step("patch with a dry run", ("patch", "configmap", "settings", "--dry-run=server", "-p", '{"data":{"a":"b"}}'),
         "patched", at(f"{CORE}/configmaps/settings", lambda o: "a" not in o["data"])),
    Step("edit", "edit configmap settings", "edited",
         at(f"{CORE}/configmaps/settings", lambda o: o["data"]["shape"] == "square")),
    Step("apply creates", "apply -f -", "created", there(f"{CORE}/configmaps/applied"),
         stdin=manifest("ConfigMap", "applied", data={"a": "1", "b": "2"})),
    Step("diff", "diff -f -", r"^\+ +c: \"3\"", stdin=manifest("ConfigMap", "applied", data={"a": "1", "c": "3"}),
         code=1),
    Step("apply changes", "apply -f -", "configured",
         at(f"{CORE}/configmaps/applied", lambda o: o["data"] == {"a": "1", "c": "3"}),
         stdin=manifest("ConfigMap", "applied", data={"a": "1", "c": "3"})),
    Step("apply is settled", "apply -f -", "unchanged",
         stdin=manifest("ConfigMap", "applied", data={"a": "1", "c": "3"})),
    Step("apply with a dry run", "apply --dry-run=server -f -", r"configured \(server dry run\)",
         at(f"{CORE}/configmaps/applied", lambda o: "c" in o["data"]),
         stdin=manifest("ConfigMap", "applied", data={"a": "1"})),
    Step("view last applied", "apply view-last-applied configmap applied", r"c: \"3\""),
    Step("set last applied", "apply set-last-applied -f -", "configured",
         stdin=manifest("ConfigMap", "applied", data={"a": "1"})),
    Step("apply refuses unknown fields", "apply -f -", code=1,
         stdin=manifest("ConfigMap", "applied", data={"a": "1"}, colour="red")),
    Step("validation can be off", "apply --validate=false -f -", "configured|unchanged",
         stdin=manifest("ConfigMap", "applied", data={"a": "1"}, colour="red")),
    Step("server-side apply", "apply --server-side -f -", "serverside-applied",
         at(f"{CORE}/configmaps/ssa", lambda o: o["data"] == {"a": "1", "b": "2"}),
         stdin=manifest("ConfigMap", "ssa", data={"a": "1", "b": "2"})),
    Step("another manager's conflict", "apply --server-side --field-manager=other -f -", code=1,
         stdin=manifest("ConfigMap", "ssa", data={"a": "9"})),
    Step("forcing conflicts", "apply --server-side --field-manager=other --force-conflicts -f -", "serverside-applied",
         at(f"{CORE}/configmaps/ssa", lambda o: o["data"] == {"a": "9", "b": "2"}),
         stdin=manifest("ConfigMap", "ssa", data={"a": "9"})),
    Step("giving a field up", "apply --server-side -f -", "serverside-applied",
         at(f"{CORE}/configmaps/ssa", lambda o: o["data"] == {"a": "9"}), stdin=manifest("ConfigMap", "ssa")),
    Step("managed fields", "get configmap ssa --show-managed-fields -o yaml",
         is_yaml(lambda o: [m["manager"] for m in o["metadata"]["managedFields"]] == ["other"])),
    Step("from client-side to server-side", "apply --server-side -f -", "serverside-applied",
         at(f"{CORE}/configmaps/applied",
            lambda o: "kubectl-client-side-apply" not in {m["manager"] for m in o["metadata"]["managedFields"]}),
         stdin=manifest("ConfigMap", "applied", data={"a": "1"})),
    Step("replace", "replace -f -", "replaced",
         at(f"{CORE}/configmaps/applied", lambda o: o["data"] == {"z": "26"}),
         stdin=manifest("ConfigMap", "applied", data={"z": "26"})),
    Step("replace --force", "replace --force -f -", "replaced",
         at(f"{CORE}/configmaps/applied", lambda o: o["data"] == {"k": "25"}),
         stdin=manifest("ConfigMap", "applied", data={"k": "25"})),
    Step("create --validate=strict", "create --validate=strict -f -", code=1,
         stdin=manifest("ConfigMap", "bad", data={"a": "1"}, colour="red")),
    Step("create --dry-run=server", "create --dry-run=server -f - -o name", "configmap/dry",
         gone(f"{CORE}/configmaps/dry"), stdin=manifest("ConfigMap", "dry")),
    Step("an invalid object", "create -f -", code=1, stdin=manifest("ConfigMap", "Not_A_Name")),
    Step("a list of objects", "create -f -", r"configmap/one created\nconfigmap/two created",
         stdin=manifest("ConfigMap", "one", metadata={"labels": {"part": "list"}}) + "---\n"
         + manifest("ConfigMap", "two", metadata={"labels": {"part": "list"}})),
    Step("prune", "apply --prune -l part=list -f -", "configmap/two pruned", gone(f"{CORE}/configmaps/two"), until=26,
         stdin=manifest("ConfigMap", "one", metadata={"labels": {"part": "list"}})),
    Step("delete by label", "delete configmap -l part=list", "deleted", gone(f"{CORE}/configmaps/one")),
    Step("get sorted", "get configmap --sort-by=.metadata.name -o name", r"(?s)applied.*settings.*ssa"),
    Step("get jsonpath", "get configmap settings -o jsonpath={.data.colour}", "^red$"),
    Step("get go-template", ("get", "configmap", "settings", "-o", "go-template={{.data.colour}}"), "^red$"),
    Step("get custom columns", "get configmap settings -o custom-columns=N:.metadata.name,C:.data.colour",
         r"N +C\nsettings +red"),
    Step("get in chunks", "get configmap --chunk-size=1 -o name", r"(?s)applied.*settings.*ssa"),
    Step("get several kinds", "get configmap/settings secret/token -o name", r"configmap/settings\nsecret/token"),
    Step("describe configmap", "describe configmap settings", r"(?s)colour:.*red"),
    Step("describe secret", "describe secret token", r"key: +6 bytes"),
    Step("describe quota", "describe quota limits", r"Resource +Used +Hard"),
    Step("delete", "delete configmap applied ssa", "deleted", gone(f"{CORE}/configmaps/ssa")),
    Step("delete an absent one", "delete configmap applied", code=1),
    Step("delete --ignore-not-found", "delete configmap applied --ignore-not-found", ""),
    Step("wait for deletion", "wait --for=delete configmap/applied --timeout=5s", ""),
]  # fmt: skip

CRD = {
    "group": "{ns}.test",
    "scope": "Namespaced",
    "names": {
        "plural": "lamps",
        "singular": "lamp",
        "kind": "Lamp",
        "shortNames": ["lp"],
    },
    "versions": [
        {
            "name": "v1",
            "served": True,
            "storage": True,
            "subresources": {
                "status": {},
                "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"},
            },
            "additionalPrinterColumns": [{"name": "Watts", "type": "integer", "jsonPath": ".spec.watts"}],
            "schema": {
                "openAPIV3Schema": {
                    "type": "object",
                    "properties": {
                        "spec": {
                            "type": "object",
                            "description": "How it shines.",
                            "required": ["watts"],
                            "properties": {
                                "watts": {"type": "integer", "minimum": 1},
                                "colour": {"type": "string", "default": "white"},
                                "replicas": {"type": "integer"},
                            },
                        },
                        "status": {"type": "object", "properties": {"replicas": {"type": "integer"}}},
                    },
                }
            },
        }
    ],
}
LAMP = "/apis/{ns}.test/v1/namespaces/{ns}/lamps"

CUSTOM = [
    Step("create a definition", "create -f -", "created",
         stdin=manifest("CustomResourceDefinition", "lamps.{ns}.test", "apiextensions.k8s.io/v1", spec=CRD)),
    Step("wait until it is there", "wait --for=condition=established crd/lamps.{ns}.test --timeout=20s", "met"),
    Step("explain it", "explain lamps.spec --api-version={ns}.test/v1", "How it shines", patience_s=15),
    Step("create a custom object", "apply -f -", "created",
         at(f"{LAMP}/desk", lambda o: o["spec"] == {"watts": 5, "colour": "white"}),
         stdin=manifest("Lamp", "desk", "{ns}.test/v1", spec={"watts": 5}), patience_s=10),
    Step("one that its schema refuses", "apply -f -", code=1,
         stdin=manifest("Lamp", "none", "{ns}.test/v1", spec={"watts": 0})),
    Step("get custom objects", "get lp.v1.{ns}.test", r"NAME +WATTS\ndesk +5"),
    Step("patch a custom object", ("patch", "lamps.{ns}.test", "desk", "--type=merge", "-p", '{"spec":{"watts":7}}'),
         "patched", at(f"{LAMP}/desk", lambda o: o["spec"]["watts"] == 7)),
    Step("scale a custom object", "scale lamps.{ns}.test/desk --replicas=3", "scaled",
         at(f"{LAMP}/desk", lambda o: o["spec"]["replicas"] == 3)),
    Step("its status", ("patch", "lamps.{ns}.test", "desk", "--subresource=status", "--type=merge", "-p",
                        '{"status":{"replicas":3},"spec":{"watts":1}}'), "patched",
         at(f"{LAMP}/desk", lambda o: (o["status"], o["spec"]["watts"]) == ({"replicas": 3}, 7))),
    Step("server-side apply of it", "apply --server-side --force-conflicts -f -", "serverside-applied",
         at(f"{LAMP}/desk", lambda o: o["spec"]["watts"] == 9),
         stdin=manifest("Lamp", "desk", "{ns}.test/v1", spec={"watts": 9})),
    Step("delete the definition", "delete crd lamps.{ns}.test --timeout=30s", "deleted",
         gone("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/lamps.{ns}.test")),
    Step("its kind is gone", "get lamps.{ns}.test", code=1, patience_s=10),
]  # fmt: skip

RUNNING = [
    Step("run", ("run", "shell", f"--image={images.WEB}", "--restart=Never", "--", "sh", "-c", TALKS), "created"),
    Step("wait until Ready", "wait pod/shell --for=condition=Ready --timeout=60s", "condition met"),
    Step("wait for a value", ("wait", "pod/shell", "--for=jsonpath={.status.phase}=Running", "--timeout=20s"), "met"),
    Step("get pod", "get pod shell -o wide", r"shell +1/1 +Running +0 .* 10\.62\."),
    Step("describe pod", "describe pod shell", r"Started"),
    Step("events", "events --for=pod/shell", r"Started|Created"),
    Step("get events", "get events --field-selector=involvedObject.name=shell", r"pod/shell"),
    Step("logs", "logs shell --tail=2", r"more", patience_s=10),
    Step("logs from the start", "logs shell --limit-bytes=5", r"\Afirst\Z"),
    Step("logs with times", "logs shell --timestamps --tail=1", r"^20\d\d-\d\d-\d\dT"),
    Step("logs of an absent container", "logs shell -c absent", code=1),
    Step("exec", "exec shell -- hostname", r"\Ashell\n\Z"),
    Step("exec with input", "exec -i shell -- cat", r"\Athrough\n\Z", stdin="through\n"),
    Step("exec's exit code", ("exec", "shell", "--", "sh", "-c", "exit 7"), code=7),
    Step("cp", "cp /etc/hostname shell:/tmp/name", "", code=0),
    Step("cp arrived", "exec shell -- cat /tmp/name", r"\S"),
    Step("label a pod", "label pod shell run=other --overwrite", "labeled"),
    Step("an immutable field", ("patch", "pod", "shell", "-p", '{"spec":{"nodeName":"x"}}'), code=1),
    Step("delete pod", "delete pod shell --grace-period=0 --force", "deleted", gone(f"{CORE}/pods/shell")),
    Step("create deployment", f"create deployment web --image={images.WEB} --replicas=1", "created"),
    Step("rollout status", "rollout status deployment/web --timeout=60s", "successfully rolled out"),
    Step("get deployment", "get deployment web", r"web +1/1 +1 +1"),
    Step("logs of a deployment", "logs deployment/web", "serving on", patience_s=10),
    Step("exec in a deployment", "exec deploy/web -- hostname", r"\Aweb-"),
    Step("expose", "expose deployment web --port=80 --target-port=8080", "exposed",
         at(f"{CORE}/services/web", lambda o: o["spec"]["selector"] == {"app": "web"})),
    Step("get endpointslices", "get endpointslices", r"web-\S+ +IPv4 +8080 +10\.62\.", patience_s=15),
    Step("set env", "set env deployment/web COLOUR=red", "updated",
         at(f"{APPS}/deployments/web",
            lambda o: o["spec"]["template"]["spec"]["containers"][0]["env"] == [{"name": "COLOUR", "value": "red"}])),
    Step("set env --list", "set env deployment/web --list", "COLOUR=red"),
    Step("set resources", "set resources deployment/web --limits=cpu=200m,memory=64Mi", "updated",
         at(f"{APPS}/deployments/web",
            lambda o: o["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"] == "200m")),
    Step("set image", f"set image deployment/web *={images.WEB}-absent", "updated"),
    Step("rollout history", "rollout history deployment/web", r"(?s)1 +.*2 +"),
    Step("rollout undo", "rollout undo deployment/web", "rolled back",
         at(f"{APPS}/deployments/web",
            lambda o: o["spec"]["template"]["spec"]["containers"][0]["image"] == images.WEB)),
    Step("rollout pause", "rollout pause deployment/web", "paused",
         at(f"{APPS}/deployments/web", lambda o: o["spec"]["paused"])),
    Step("rollout resume", "rollout resume deployment/web", "resumed"),
    Step("rollout restart", "rollout restart deployment/web", "restarted",
         at(f"{APPS}/deployments/web", lambda o: o["spec"]["template"]["metadata"]["annotations"])),
    Step("autoscale", "autoscale deployment web --max=3 --cpu-percent=80", "autoscaled",
         at("/apis/autoscaling/v1/namespaces/{ns}/horizontalpodautoscalers/web",
            lambda o: o["spec"]["targetCPUUtilizationPercentage"] == 80)),
    Step("get hpa", "get hpa web", r"web +Deployment/web +.*/80% +1 +3"),
    Step("scale", "scale deployment web --replicas=0", "scaled",
         at(f"{APPS}/deployments/web", lambda o: o["spec"]["replicas"] == 0)),
    Step("scale from a wrong count", "scale deployment web --current-replicas=5 --replicas=1", code=1),
    Step("get the scale", "get deployment web --subresource=scale", r"web +0"),
    Step("describe deployment", "describe deployment web", r"Replicas: +0 desired"),
    Step("delete and leave", "delete deployment web --cascade=orphan", "deleted",
         lambda api, ns: len(api.items(f"/apis/apps/v1/namespaces/{ns}/replicasets")) > 0),
    Step("delete all", "delete all --all --timeout=60s", "deleted",
         lambda api, ns: not api.items(f"/apis/apps/v1/namespaces/{ns}/replicasets"), patience_s=0),
]  # fmt: skip

SCRIPT = [*LOOKING, *CREATING, *CHANGING, *CUSTOM, *RUNNING]
