#!/usr/bin/env python3
"""What the program `viaduct` is made of, as a CycloneDX 1.5 document on the standard output.

usage: sbom.py [TARGET]        TARGET: the platform, x86_64-unknown-linux-gnu where none is given

From `cargo metadata` and Cargo.lock alone: every crate that is linked into the program or runs while
it is built, with version, licence and checksum, and which of them needs which. What only tests need
is left out.
"""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = "viaduct"


def metadata(target):
    command = ["cargo", "metadata", "--format-version", "1", "--locked"]
    command += ["--filter-platform", target, "--manifest-path", str(ROOT / "Cargo.toml")]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def checksums():
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())
    return {(one["name"], one["version"]): one.get("checksum") for one in lock["package"]}


def reached(data, first):
    """Ids of packages by the ids of those they need, tests aside."""
    nodes = {node["id"]: node for node in data["resolve"]["nodes"]}
    found, left = {}, [first]
    while left:
        here = left.pop()
        if here in found:
            continue
        is_ours = lambda need: any(kind["kind"] != "dev" for kind in need["dep_kinds"])
        found[here] = sorted(need["pkg"] for need in nodes[here]["deps"] if is_ours(need))
        left += found[here]
    return found


def component(package, checksum):
    name, version = package["name"], package["version"]
    purl = f"pkg:cargo/{name}@{version}"
    said = {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
    if package["license"]:
        # Old manifests say "MIT/Apache-2.0".
        words = " OR ".join(part.strip() for part in package["license"].split("/"))
        said["licenses"] = [{"expression": " ".join(words.split())}]
    elif package["license_file"]:
        said["licenses"] = [{"license": {"name": f"see {package['license_file']} of the crate"}}]
    else:
        sys.exit(f"sbom: {name} {version} names no licence")
    if checksum:
        said["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    if package["repository"]:
        said["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return said


def main():
    data = metadata(sys.argv[1] if len(sys.argv) > 1 else "x86_64-unknown-linux-gnu")
    packages = {package["id"]: package for package in data["packages"]}
    first = next(one["id"] for one in data["packages"] if one["name"] == PROGRAM)
    needs, sums = reached(data, first), checksums()
    parts = {}
    for identity in needs:
        package = packages[identity]
        parts[identity] = component(package, sums.get((package["name"], package["version"])))
    program = parts[first] | {"type": "application"}
    others = [parts[identity] for identity in parts if identity != first]
    refs = {identity: part["bom-ref"] for identity, part in parts.items()}
    edges = [{"ref": refs[of], "dependsOn": sorted(refs[to] for to in needs[of])} for of in needs]
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": program},
        "components": sorted(others, key=lambda part: part["bom-ref"]),
        "dependencies": sorted(edges, key=lambda edge: edge["ref"]),
    }
    json.dump(document, sys.stdout, indent=1)
    print()


main()
