"""Puts the images that a machine's containerd has into a registry: those of one name's server.

    python3 -m continuum_runtime.fill_registry ADDRESS:PORT SERVER

Prints the name of each image that was sent; one that is there already is left alone.
"""

from __future__ import annotations

import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator

CLIENT = ("ctr", "--namespace=k8s.io", "images")
MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
WAIT_SECONDS = 10
SEND_SECONDS = 300


def wanted(listed: Iterable[str], server: str) -> Iterator[tuple[str, str]]:
    """Path and tag of each of the server's images."""
    for reference in listed:
        path, _, tag = reference.removeprefix(f"{server}/").rpartition(":")
        if reference.startswith(f"{server}/") and path and "@" not in reference:
            yield path, tag


def has(registry: str, path: str, tag: str) -> bool:
    """Whether the registry has an image."""
    request = urllib.request.Request(
        f"http://{registry}/v2/{path}/manifests/{tag}",
        method="HEAD",
        headers={"Accept": ", ".join(MANIFESTS)},
    )
    try:
        with urllib.request.urlopen(request, timeout=WAIT_SECONDS):  # noqa: S310  as above
            return True
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return False
        raise


def send(registry: str, server: str, path: str, tag: str) -> None:
    """Have containerd send an image."""
    names = (f"{registry}/{path}:{tag}", f"{server}/{path}:{tag}")
    subprocess.run(
        (*CLIENT, "push", "--plain-http", *names),
        check=True,
        stdout=subprocess.DEVNULL,
        timeout=SEND_SECONDS,
    )


def main(arguments: list[str]) -> None:
    """Send what the registry lacks."""
    registry, server = arguments
    listed = subprocess.run(
        (*CLIENT, "list", "--quiet"), check=True, capture_output=True, text=True, timeout=60
    )
    for path, tag in wanted(listed.stdout.split(), server):
        if not has(registry, path, tag):
            send(registry, server, path, tag)
            print(f"{path}:{tag}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
