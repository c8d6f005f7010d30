"""Whether a kustomization holds together: `check.py FOLDER WORK`. It is called by deploy/check.

No cluster is asked. References lead somewhere, what must hold between two files holds, and the gateway itself reads the
configurations inside the ConfigMaps, with a certificate and a token made for it in WORK.
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys

import yaml

SECRETS = {"brokergate-tls": {"tls.crt", "tls.key"}, "brokergate-admin": {"token"}}
folder, work = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
root = folder.resolve().parents[2]


def main():
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    named = set(kustomization["resources"])
    there = {path.name for path in folder.glob("*.yaml")} - {"kustomization.yaml"}
    assert named == there, f"kustomization.yaml names {sorted(named)}, there is {sorted(there)}"
    objects = [it for name in sorted(named) for it in yaml.safe_load_all((folder / name).read_text())]
    for it in objects:
        assert it["apiVersion"] and it["kind"] and it["metadata"]["name"], it
        assert "namespace" not in it["metadata"], f"{label(it)}: the kustomization sets the namespace"
    configurations = {it["metadata"]["name"]: it["data"] for it in objects if it["kind"] == "ConfigMap"}
    workloads = [it for it in objects if it["kind"] in ("Deployment", "StatefulSet")]
    assert len(workloads) == 1, "one workload"
    images = {image["name"] for image in kustomization["images"]}
    gateway = check_workload(workloads[0], configurations, images)
    for it in objects:
        check_selector(it, workloads[0], gateway)
    for name, data in configurations.items():
        check_configuration(name, data["brokergate.toml"], workloads[0], gateway)
    if shutil.which("kubectl"):
        subprocess.run(["kubectl", "kustomize", folder], check=True, stdout=subprocess.DEVNULL)


def label(it):
    return f"{it['kind']} {it['metadata']['name']}"


def check_workload(workload, configurations, images):
    """The gateway's container, whose volumes, images and probes are as they must be."""
    spec, pod = workload["spec"], workload["spec"]["template"]["spec"]
    labels = spec["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"].items() <= labels.items(), "the workload does not select its own pods"
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    containers = pod.get("initContainers", []) + pod["containers"]
    for container in containers:
        image = container["image"]
        assert image in images or re.search(r":\d", image), f"{image} is not pinned"
        for mount in container.get("volumeMounts", []):
            assert mount["name"] in volumes, f"volume {mount['name']} is missing"
            assert "subPath" not in mount, f"{mount['name']}: a subPath stays the old file when it is replaced"
    used = {mount["name"] for container in containers for mount in container.get("volumeMounts", [])}
    assert used == volumes.keys(), f"volumes that nobody mounts: {volumes.keys() - used}"
    for volume in volumes.values():
        if "configMap" in volume:
            assert volume["configMap"]["name"] in configurations, volume
        else:
            assert volume["secret"]["secretName"] in SECRETS, volume
    gateway = next(container for container in containers if container["name"] == "brokergate")
    ports = {port["name"] for port in gateway["ports"]}
    for probe, path in [("readinessProbe", "/ready"), ("livenessProbe", "/live"), ("startupProbe", "/live")]:
        asked = gateway[probe]["httpGet"]
        assert asked["path"] == path and asked["port"] in ports, f"{probe}: {asked}"
    assert gateway["lifecycle"]["preStop"]["exec"]["command"][1:] == ["drain", "--wait"], "preStop does not drain"
    if gateway in pod.get("initContainers", []):
        assert gateway["restartPolicy"] == "Always", "an init container that is no sidecar ends before the others begin"
    return gateway


def check_selector(it, workload, gateway):
    """What selects pods selects those of the workload, and asks for ports that they have."""
    spec, labels = it.get("spec", {}), workload["spec"]["template"]["metadata"]["labels"]
    ports = {port["name"] for port in gateway["ports"]}
    selector = {
        "Service": lambda: spec["selector"],
        "PodDisruptionBudget": lambda: spec["selector"]["matchLabels"],
        "NetworkPolicy": lambda: spec["podSelector"]["matchLabels"],
    }.get(it["kind"])
    if selector:
        assert selector().items() <= labels.items(), f"{label(it)} selects no pod of ours"
    if it["kind"] == "Service":
        assert all(port["targetPort"] in ports for port in spec["ports"]), f"{label(it)}: a port that is missing"
    if it["kind"] == "NetworkPolicy":
        asked = [port["port"] for rule in spec["ingress"] for port in rule["ports"]]
        assert all(port in ports for port in asked), f"{label(it)}: a port that is missing"


def check_configuration(name, text, workload, gateway):
    """The gateway reads it, its ports are the container's, and its drain fits into the pod's end."""
    for port in gateway["ports"]:
        assert f":{port['containerPort']}\"" in text, f"{name} does not listen on {port}"
    drain = [int(seconds) for seconds in re.findall(r'^(?:delay|window|grace) = "(\d+)s"$', text, re.MULTILINE)]
    assert len(drain) == 3, f"{name}: drain.delay, window and grace in seconds"
    pod = workload["spec"]["template"]["spec"]
    end = pod["terminationGracePeriodSeconds"]
    sleeps = [it["lifecycle"]["preStop"]["sleep"]["seconds"] for it in pod["containers"] if it is not gateway]
    assert all(sum(drain) + 5 <= sleep < end for sleep in sleeps), f"the broker does not wait {sum(drain)} s and a few"
    assert sum(drain) + 5 <= end, f"terminationGracePeriodSeconds {end} is less than {sum(drain)} and a few"

    files = work / name
    mounts = {mount["name"]: mount["mountPath"] for mount in gateway["volumeMounts"]}
    for volume in pod["volumes"]:
        for file in SECRETS.get(volume.get("secret", {}).get("secretName"), []):
            assert f'"{mounts[volume["name"]]}/{file}"' in text, f"{name} does not use {file} of {volume['name']}"
    for mount in mounts.values():
        (files / mount.lstrip("/")).mkdir(parents=True, exist_ok=True)
    etc = files / "etc/brokergate"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
         "-subj", "/CN=localhost", "-keyout", etc / "tls/tls.key", "-out", etc / "tls/tls.crt"],
        check=True, stderr=subprocess.DEVNULL,
    )
    (etc / "admin/token").write_text("0123456789abcdef\n")
    config = etc / "configuration/brokergate.toml"
    config.write_text(text.replace("/etc/brokergate", str(etc)))
    said = subprocess.run([find_gateway(), "check", "--config", config], capture_output=True, text=True)
    assert said.returncode == 0, said.stdout + said.stderr


def find_gateway():
    builds = [root / "target" / profile / "brokergate" for profile in ("release", "debug")]
    found = os.environ.get("BROKERGATE") or next((build for build in builds if build.exists()), None)
    assert found, "no program to read the configurations with: build one (cargo build), or name it in BROKERGATE"
    return found


main()
