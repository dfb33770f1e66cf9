"""`python3 -m continuum.infrastructure.hosts.agent`: carries out a host's share of a plan, on that host.

It is at the other end of one SSH connection, and ends with it. What it does is the provider's own
code, on a share of the plan; deployments that were begun elsewhere lie in a folder of their own.
"""

from __future__ import annotations

import _thread
import json
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import util
from pathlib import Path
from typing import IO, Any

from continuum import folders, lock, native, plugins
from continuum.deployment import Deployment
from continuum.errors import (
    ContinuumError,
    Interrupted,
    NotFound,
    NotPossibleHere,
    StepFailed,
)
from continuum.events import Event, Events, Note
from continuum.host_facts import host_facts
from continuum.images import store
from continuum.infrastructure import configure
from continuum.infrastructure.host import path_delay, share
from continuum.infrastructure.hosts import frames
from continuum.infrastructure.links.contract import LinkEmulator
from continuum.infrastructure.plan import InfrastructurePlan, Link
from continuum.infrastructure.providers.contract import Provider
from continuum.machine import Command, run_on_host

MODULE = "continuum.infrastructure.hosts.agent"
UNPACK_LIMIT = 1800.0

NOT_NEEDED = frozenset({*native.PACKAGES, "mmdebstrap", "package sources", "pip", "ssh"})
"""Programs, and checks by name, for what is only done on the host that a deployment is begun on."""

_Frame = tuple[dict[str, Any], bytes]


class Channel:
    """Both directions of the connection. When it ends, so does what is under way."""

    def __init__(self, incoming: IO[bytes], outgoing: IO[bytes]) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._writing = threading.Lock()
        self._heard: queue.Queue[_Frame | None] = queue.Queue(maxsize=16)
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while (frame := frames.read(self._incoming)) is not None:
            self._heard.put(frame)
        self._heard.put(None)
        _thread.interrupt_main()

    def next(self) -> _Frame:
        """The next frame.

        Raises:
            Interrupted: the connection has ended.
        """
        frame = self._heard.get()
        if frame is None:
            raise Interrupted("the connection has ended")
        return frame

    def say(self, frame: dict[str, Any]) -> None:
        """Send a frame."""
        with self._writing:
            frames.write(self._outgoing, frame)

    def bytes_of(self, key: str) -> Iterator[bytes]:
        """Ask for the bytes of a thing, and yield them as they come."""
        self.say({"send": key})
        while True:
            frame, content = self.next()
            if frames.BYTES not in frame:
                raise StepFailed("no bytes came where they were announced", where=key)
            if not content:
                return
            yield content


class Agent:
    """Answers calls about one deployment."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.events = Events([self._tell])
        self.watching: share.HostWatch | None = None
        self.calls: dict[str, Callable[[dict[str, Any]], Any]] = {
            "facts": self.facts,
            "check": self.check,
            "caveats": self.caveats,
            "network_missing": self.network_missing,
            "isolation": self.isolation,
            "blocks": self.blocks,
            "refuse": self.refuse,
            "emulators": self.emulators,
            "image": self.image,
            "create_network": self.create_network,
            "create": self.create,
            "states": self.states,
            "apply_links": self.apply_links,
            "links_in_force": self.links_in_force,
            "link_windows": self.link_windows,
            "path_delay": self.path_delay,
            "watch": self.watch,
            "stalls": self.stalls,
            "watched": self.watched,
            "destroy": self.destroy,
        }

    def _tell(self, event: Event) -> None:
        if isinstance(event, Note):
            self.channel.say({"note": event.text, "level": event.level})

    def _progress(self, detail: str) -> None:
        self.channel.say({"progress": detail})

    def answer(self) -> None:
        """Carry out one call."""
        asked, _ = self.channel.next()
        try:
            result = self.calls[asked["call"]](asked)
        except ContinuumError as error:
            self.channel.say({"error": frames.of_error(error)})
        except OSError as error:
            failed = StepFailed(f"{error.strerror or error}", where=str(error.filename or ""))
            self.channel.say({"error": frames.of_error(failed)})
        else:
            self.channel.say({"result": result})

    # -- what a call speaks of -------------------------------------------------------------------

    def _provider(self, asked: dict[str, Any]) -> Provider:
        kind: type[Provider] = plugins.load("providers", asked["provider"])
        return kind(kind.settings_type.model_validate(asked["settings"]), self.events)

    def _deployment(self, asked: dict[str, Any]) -> Deployment:
        identity = asked["identity"]
        root = folders.carried_folder() / identity
        return Deployment(asked["deployment"], root, identity, asked["host"])

    def _plan(self, asked: dict[str, Any]) -> InfrastructurePlan:
        return configure.from_json(asked["plan"])

    # -- looking ---------------------------------------------------------------------------------

    def facts(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Cores and memory; and the MTU of the interface towards the host that asks."""
        found = host_facts()
        return {
            "cores": os.cpu_count() or 1,
            "memory": found["memory_bytes"] or 0,
            "mtu": mtu_towards(asked["towards"]),
            "id": host_id(),
        }

    def check(self, asked: dict[str, Any]) -> list[dict[str, Any]]:
        """Every prerequisite of the provider, tried."""
        return [
            vars(replace(each, needed=each.needed and each.name not in NOT_NEEDED))
            for each in self._provider(asked).check()
        ]

    def caveats(self, asked: dict[str, Any]) -> list[str]:
        """What a person should know of figures from machines here."""
        return self._provider(asked).caveats(self._plan(asked))

    def network_missing(self, asked: dict[str, Any]) -> list[str]:
        """Parts that are gone of the network that carries the machines here."""
        plan = self._plan(asked)
        return self._provider(asked).network_missing(self._deployment(asked), plan)

    def isolation(self, asked: dict[str, Any]) -> dict[str, str]:
        """Separation of root in the machines here from this host."""
        plan = self._plan(asked)
        return dict(self._provider(asked).isolation(self._deployment(asked), plan))

    def blocks(self, asked: dict[str, Any]) -> list[str]:
        """Blocks of addresses that are used by others."""
        before = self._plan(asked).network if asked["plan"] else None
        return self._provider(asked).foreign_blocks(self._deployment(asked), before)

    def refuse(self, asked: dict[str, Any]) -> None:
        """Raise when the host cannot carry its share."""
        provider = self._provider(asked)
        missing = {
            package
            for program, package in provider.programs.items()
            if program not in NOT_NEEDED and shutil.which(program) is None
        }
        missing |= {
            module.package
            for name, module in provider.modules.items()
            if util.find_spec(name) is None
        }
        if missing:
            raise NotPossibleHere(
                f"Debian packages are missing: {', '.join(sorted(missing))}",
                hint=f"apt-get install -y {' '.join(sorted(missing))}",
            )
        provider.refuse(self._deployment(asked), self._plan(asked))

    def emulators(self, asked: dict[str, Any]) -> dict[str, str | None]:
        """Why each of the named emulators cannot be used; None where it can."""
        found = {}
        for name in asked["names"]:
            emulator: LinkEmulator = plugins.load("emulators", name)()
            found[name] = emulator.probe()
        return found

    def states(self, asked: dict[str, Any]) -> list[dict[str, str]]:
        """The deployment's machines that exist here."""
        return [vars(each) for each in self._provider(asked).states(self._deployment(asked))]

    def links_in_force(self, asked: dict[str, Any]) -> str:
        """A plan with the links that are in force, in place of those that were asked for."""
        plan = self._plan(asked)
        links = self._provider(asked).links_in_force(self._deployment(asked), plan)
        return with_links(plan, links)

    def link_windows(self, asked: dict[str, Any]) -> list[dict[str, Any]]:
        """The work of the emulator here on packets between two times."""
        windows = self._provider(asked).link_windows(
            self._deployment(asked), self._plan(asked), asked["since_ns"], asked["until_ns"]
        )
        return [vars(each) for each in windows]

    def path_delay(self, asked: dict[str, Any]) -> float | None:
        """One way to a machine on another host, in ms."""
        return path_delay.one_way_ms(asked["bridge"], asked["address"])

    # -- watching --------------------------------------------------------------------------------

    def watch(self, asked: dict[str, Any]) -> None:
        """Begin to watch this host's share; what watched it before has been given up."""
        if self.watching is not None:
            self.watching.end()
        plan = self._plan(asked)
        (self.watching,) = self._provider(asked).host_watches(self._deployment(asked), plan)
        self.watching.begin()

    def stalls(self, asked: dict[str, Any]) -> dict[str, Any]:
        """The stalls so far, and this host's time."""
        del asked
        return {"stalls": self._watch_under_way().stalls(), "now_ns": time.time_ns()}

    def watched(self, asked: dict[str, Any]) -> dict[str, Any]:
        """The observations of this host, and this host's time."""
        del asked
        ended, self.watching = self._watch_under_way(), None
        return {"share": share.to_json(ended.end()), "now_ns": time.time_ns()}

    def _watch_under_way(self) -> share.HostWatch:
        if self.watching is None:
            raise StepFailed("this host is not watched")
        return self.watching

    # -- changing --------------------------------------------------------------------------------

    def image(self, asked: dict[str, Any]) -> int:
        """Take the layers of an image that are not here yet; how many that were."""
        folders.make_folder(store.images_folder(), folders.PRIVATE_FOLDER)
        taken = 0
        for key, record in asked["layers"].items():
            made = store.ensure(
                store.Layer(key, record["title"], self._layer(key, record)),
                lambda detail, _: self._progress(detail),
            )
            taken += made
        if asked["whole"]:
            store.save(asked["fingerprint"], list(asked["layers"]))
        return taken

    def _layer(
        self, key: str, record: dict[str, Any]
    ) -> Callable[[Path, Callable[[str, float | None], None]], dict[str, Any]]:
        def make(root: Path, progress: Callable[[str, float | None], None]) -> dict[str, Any]:
            del progress
            self._unpack(key, root)
            return record

        return make

    def _unpack(self, key: str, root: Path) -> None:
        """Files with their owners, modes and attributes, as they are on the host that sends."""
        arguments = ("tar", "--extract", "--numeric-owner", "--preserve-permissions")
        attributes = ("--xattrs", "--xattrs-include=*", "--same-owner", f"--directory={root}")
        process = subprocess.Popen(
            (*arguments, *attributes), stdin=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert process.stdin is not None
        assert process.stderr is not None
        try:
            for part in self.channel.bytes_of(key):
                try:
                    process.stdin.write(part)
                except BrokenPipeError:
                    continue  # All of it has to be heard; what tar says comes below.
            process.stdin.close()
            said = process.stderr.read().decode("utf-8", "replace")
            if process.wait(UNPACK_LIMIT) != 0:
                raise StepFailed(f"layer {key} could not be unpacked", output=said)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()

    def create_network(self, asked: dict[str, Any]) -> bool:
        """Bridge, rules and the way to the other hosts."""
        deployment = self._deployment(asked)
        with deployment.journal.locked():
            return self._provider(asked).create_network(deployment, self._plan(asked))

    def create(self, asked: dict[str, Any]) -> list[str]:
        """The share's machines, with the keys that were made for them elsewhere."""
        deployment, plan = self._deployment(asked), self._plan(asked)
        with deployment.journal.locked():
            for path, text in asked["keys"].items():
                deployment.write(f"ssh/{path}", text)
            return self._provider(asked).create(deployment, plan, self._progress)

    def apply_links(self, asked: dict[str, Any]) -> bool:
        """Links of the share's machines."""
        deployment = self._deployment(asked)
        with deployment.journal.locked():
            return self._provider(asked).apply_links(deployment, self._plan(asked))

    def destroy(self, asked: dict[str, Any]) -> None:
        """Everything of the deployment on this host."""
        deployment = self._deployment(asked)
        with deployment.journal.locked():
            self._provider(asked).destroy(deployment)
            lock.remove(deployment.folder)
        for folder in (deployment.root, deployment.root.parent):
            try:
                folder.rmdir()
            except OSError:
                return


def with_links(plan: InfrastructurePlan, links: list[Link]) -> str:
    """The plan as text, with other links."""
    return configure.to_json(replace(plan, network=replace(plan.network, links=tuple(links))))


def mtu_towards(address: str) -> int:
    """The MTU of the interface through which packets to an address leave this host."""
    shown = run_on_host(Command(("ip", "-json", "route", "get", address))).check(
        f"this host has no route to {address}"
    )
    routes: list[dict[str, Any]] = json.loads(shown.text)
    interface = routes[0]["dev"]
    mtu = int(Path("/sys/class/net", interface, "mtu").read_text())
    # An address of this host's own: nothing says yet how large a packet from outside can be.
    return min(mtu, 1500) if interface == "lo" else mtu


def host_id() -> str:
    """The same for the same host, however it is reached; "" where it has none."""
    try:
        return Path("/etc/machine-id").read_text().strip()
    except FileNotFoundError:
        return ""


def main() -> None:
    """Answer until the connection ends."""
    outgoing = os.fdopen(os.dup(1), "wb")
    # What a library prints must not end up among the frames.
    os.dup2(2, 1)
    # Not Python's own: it is closed when Python ends, which aborts while another thread reads it.
    channel = Channel(os.fdopen(os.dup(0), "rb"), outgoing)
    agent = Agent(channel)
    channel.say({"result": "ready"})
    try:
        while True:
            agent.answer()
    except (Interrupted, KeyboardInterrupt, BrokenPipeError, NotFound):
        sys.exit(0)


if __name__ == "__main__":
    main()
