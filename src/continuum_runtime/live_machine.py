"""Puts software onto a machine that existed before, and takes it off again.

    python3 live_machine.py VERB [OPTIONS]

OPTIONS is a JSON object, and so is what is printed. Verbs:

    probe    what the machine is; changes nothing, needs no privileges
    claim    write down which deployment uses the machine, and what of it will be changed
    missing  which of some Debian packages are not installed
    place    put the files of an archive, from standard input, where they belong
    settle   switch units on and off, tell the machine names; the machine is whole after that
    release  take everything away again

One file, `RECORD`, says what was done; it is the first thing that is made and the last to go, so
that every verb can be repeated after it was interrupted. This file is sent to machines as text, and
run there before anything else of ours is: it imports the standard library alone, and runs on
Python 3.9.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import pwd
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path("/")
STATE_FOLDER = Path("/var/lib/continuum")
SOFTWARE_FOLDER = Path("/opt/continuum")
RECORD = STATE_FOLDER / "machine.json"
KEPT_FOLDER = STATE_FOLDER / "kept"
HOSTS = Path("/etc/hosts")
ETC = Path("/etc")
LINKS_UNIT = "ctm-links.service"
LINKS_CHAIN = "CONTINUUM-LINKS"
LINKS_ROOT = ("htb", "1:")
"""Kind and handle of the traffic control that links put on the machine's interface."""

TAKEN = 3
"""Exit code: another deployment uses the machine."""

BEGIN = "# continuum: names of the deployment's machines"
END = "# continuum: end"

_SECONDS = 120


def run(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    """Run a program, whatever its exit code; one that is not there ends with 127."""
    try:
        return subprocess.run(
            arguments,
            input=text,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=_SECONDS,
        )
    except FileNotFoundError:
        return subprocess.CompletedProcess(arguments, 127, "", "")


# -- the record ----------------------------------------------------------------------------------


def read_record() -> dict[str, Any] | None:
    """What was done here; None when nothing was."""
    try:
        found: dict[str, Any] = json.loads(RECORD.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        return {"identity": "", "deployment": "unknown"}
    return found


def write_record(record: dict[str, Any]) -> None:
    """Keep it, complete or not at all; everybody may read it."""
    STATE_FOLDER.mkdir(parents=True, exist_ok=True)
    temporary = RECORD.with_name(f".{RECORD.name}.{os.getpid()}")
    temporary.write_text(json.dumps(record, indent=1) + "\n")
    temporary.chmod(0o644)
    temporary.replace(RECORD)


def own_record(identity: str) -> dict[str, Any]:
    """The record of this deployment; ends the program when the machine is another's."""
    record = read_record()
    if record is None or record["identity"] != identity:
        deployment = "no deployment" if record is None else str(record["deployment"])
        print(json.dumps({"taken_by": deployment}))
        sys.exit(TAKEN)
    return record


# -- probe ---------------------------------------------------------------------------------------


def probe(_: dict[str, Any]) -> dict[str, Any]:
    """What the machine is."""
    words = os.environ.get("SSH_CONNECTION", "").split()
    client, address = (words[0], words[2]) if len(words) == 4 else ("", "")
    device = device_of(address)
    return {
        "login": "root" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name,
        "sudo": os.getuid() == 0 or run("sudo", "--non-interactive", "true").returncode == 0,
        "architecture": platform.machine(),
        "python": list(sys.version_info[:2]),
        "libc": list(platform.libc_ver()),
        "release": release(),
        "programs": [name for name in ("apt-get", "ip", "systemctl") if shutil.which(name)],
        "systemd": Path("/run/systemd/system").is_dir(),
        "lacking": lacking_modules(),
        "client": client,
        "address": address,
        "device": device,
        "shaped": device != "" and is_shaped(device),
        "cores": os.cpu_count() or 1,
        "memory": memory(),
        "record": read_record(),
        "foreign": [] if RECORD.exists() else [str(path) for path in folders_of_ours()],
        "hosts": own_names(),
    }


def folders_of_ours() -> list[Path]:
    """Folders that are there and hold something, and that would go with us."""
    return [
        path
        for path in (STATE_FOLDER, SOFTWARE_FOLDER)
        if os.path.lexists(path) and not (path.is_dir() and not any(path.iterdir()))
    ]


def named_like_ours() -> list[str]:
    """What services' roles call what they write, as `/etc/mosquitto/continuum.conf`.

    Folders too: the registry's mirror is `/etc/containerd/certs.d/continuum.local`.
    """
    return sorted(map(str, ETC.glob("**/continuum.*")))


def lacking_modules() -> list[str]:
    """Modules of the standard library that distributions leave out of small Pythons."""
    missing = []
    for name in ("ctypes", "ssl", "selectors", "zipfile", "tempfile"):
        try:
            __import__(name)
        except ImportError:
            missing.append(name)
    return missing


def release() -> dict[str, str]:
    """Distribution and suite."""
    found = {}
    with contextlib.suppress(OSError):
        for line in Path("/etc/os-release").read_text().splitlines():
            key, separator, value = line.partition("=")
            if separator:
                found[key] = value.strip("\"'")
    return {key: found.get(key, "") for key in ("ID", "VERSION_CODENAME", "PRETTY_NAME")}


def memory() -> int:
    """Bytes that the machine has."""
    match = re.search(r"MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    return int(match[1]) * 1024 if match else 0


def device_of(address: str) -> str:
    """The interface that carries an address; "" when none does."""
    shown = run("ip", "-json", "-4", "address", "show")
    if shown.returncode != 0 or not address:
        return ""
    for interface in json.loads(shown.stdout or "[]"):
        if any(each.get("local") == address for each in interface.get("addr_info", [])):
            return str(interface["ifname"])
    return ""


def root_of(device: str) -> tuple[str, str]:
    """Kind and handle of an interface's traffic control; the kernel's own has the handle `0:`."""
    shown = run("tc", "-json", "qdisc", "show", "dev", device)
    if shown.returncode == 0:
        for each in json.loads(shown.stdout or "[]"):
            if each.get("root"):
                return each["kind"], each.get("handle", "0:")
    return "", "0:"


def is_shaped(device: str) -> bool:
    """Whether somebody has put traffic control on an interface."""
    return root_of(device)[1] != "0:"


# -- claim, missing ------------------------------------------------------------------------------


def claim(options: dict[str, Any]) -> dict[str, Any]:
    """Write down who uses the machine. `units` and `sysctl`: what will be changed, by name."""
    if read_record() is None:
        STATE_FOLDER.mkdir(parents=True, exist_ok=True)
        first = {key: options[key] for key in ("deployment", "identity")}
        first["others"] = named_like_ours()
        mine = RECORD.with_name(f".{RECORD.name}.{os.getpid()}")
        mine.write_text(json.dumps(first) + "\n")
        mine.chmod(0o644)
        # Of two that come at the same time one finds the other's.
        with contextlib.suppress(FileExistsError):
            os.link(mine, RECORD)
        mine.unlink()
    record = own_record(options["identity"])
    before = dict(record)
    record["name"] = options["name"]
    record["device"] = options["device"]
    for key in ("trees", "units", "sysctl"):
        record.setdefault(key, {})
    for unit in options["units"]:
        if unit not in record["units"]:
            remember(unit, record)
    for name in options["sysctl"]:
        if name not in record["sysctl"]:
            with contextlib.suppress(OSError):
                record["sysctl"][name] = sysctl_file(name).read_text().strip()
    if record.get("fingerprint") != options["fingerprint"]:
        record["fingerprint"] = ""
    if record != before:
        write_record(record)
    return {"whole": record["fingerprint"] != "", "trees": tree_keys(record)}


def tree_keys(record: dict[str, Any]) -> dict[str, str]:
    """Of the trees that are in place, what they are made of."""
    return {name: tree["key"] for name, tree in record["trees"].items() if tree["whole"]}


def remember(unit: str, record: dict[str, Any]) -> None:
    """Write down how a unit is, before it is changed."""
    record["units"][unit] = [state_of("is-enabled", unit), state_of("is-active", unit)]


def state_of(verb: str, unit: str) -> str:
    """What systemctl says of a unit, in a word."""
    return run("systemctl", verb, unit).stdout.strip().partition("\n")[0]


def set_sysctl(values: dict[str, str]) -> None:
    """Give the kernel's parameters these values, as far as it lets us."""
    for name, value in values.items():
        with contextlib.suppress(OSError):
            sysctl_file(name).write_text(value)


def sysctl_file(name: str) -> Path:
    """Where the kernel shows a parameter."""
    return Path("/proc/sys") / name.replace(".", "/")


def missing(options: dict[str, Any]) -> dict[str, Any]:
    """Which of `packages` are not installed."""
    shown = run("dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\n")
    installed = {
        line.split(" ")[0] for line in shown.stdout.splitlines() if line.endswith(" installed")
    }
    return {"missing": [name for name in options["packages"] if name not in installed]}


# -- place ---------------------------------------------------------------------------------------


def place(options: dict[str, Any]) -> dict[str, Any]:
    """Put the files of an archive in place, instead of those of the tree of that name.

    `traces`: what its programs will leave elsewhere, see `matches`.
    """
    record = own_record(options["identity"])
    name = options["name"]
    tree: dict[str, Any] = {"key": options["key"], "whole": False}
    tree |= {"files": [], "folders": [], "traces": []}
    if name in record["trees"]:
        old = record["trees"].pop(name)
        take_away(old)
        tree["traces"] += old.get("traces", [])
        # Something lies in them still, but they are no less ours.
        tree["folders"] += [folder for folder in old["folders"] if Path(folder).is_dir()]
    record["trees"][name] = tree
    for trace in options["traces"]:
        expect(trace, tree)
    with tarfile.open(fileobj=sys.stdin.buffer, mode="r|*") as archive:
        for member in archive:
            put(archive, member, tree, record)
    tree["whole"] = True
    write_record(record)
    return {"files": len(tree["files"])}


def put(
    archive: tarfile.TarFile, member: tarfile.TarInfo, tree: dict[str, Any], record: dict[str, Any]
) -> None:
    """Put one file of an archive in place; what was there before is kept."""
    parts = Path(member.name).parts
    if ".." in parts or Path(member.name).is_absolute():
        message = f"an archive may not hold {member.name}"
        raise ValueError(message)
    path = ROOT.joinpath(*parts)
    if member.isdir():
        make_folder(path, tree)
        return
    make_folder(path.parent, tree)
    ours = SOFTWARE_FOLDER in path.parents
    if is_service(path) and path.name not in record["units"]:
        remember(path.name, record)
    if not ours:
        # Kept, then written down, then written: whatever is interrupted here can be taken back.
        if os.path.lexists(path):
            kept = KEPT_FOLDER / path.relative_to(ROOT)
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, kept, follow_symlinks=False)
        tree["files"].append(str(path))
        write_record(record)
    temporary = unfinished(path)
    temporary.unlink(missing_ok=True)
    if member.issym():
        temporary.symlink_to(member.linkname)
    else:
        content = archive.extractfile(member)
        if content is None:
            return
        with temporary.open("wb") as file:
            shutil.copyfileobj(content, file)
        temporary.chmod(member.mode)
    temporary.replace(path)
    if ours:
        tree["files"].append(str(path))


def make_folder(path: Path, tree: dict[str, Any]) -> None:
    """Make a folder and those around it; one that is there stays as it is."""
    for folder in (*reversed(path.parents), path):
        if not folder.is_dir():
            folder.mkdir(mode=0o755)
            folder.chmod(0o755)
            tree["folders"].append(str(folder))


def expect(trace: str, tree: dict[str, Any]) -> None:
    """Write down that a trace will be ours: not when there is something already."""
    if trace in tree["traces"] or matches(trace):
        return
    tree["traces"].append(trace)
    if not trace.endswith("/*"):
        around = [folder for folder in below_root(trace).parents if not folder.is_dir()]
        tree["folders"] += map(str, reversed(around))


def matches(trace: str) -> list[Path]:
    """What is there of a path, or, with `/*` at its end, in a folder that a package brings."""
    path = below_root(trace)
    if path.name != "*":
        return [path] if os.path.lexists(path) else []
    folder = path.parent
    return list(folder.iterdir()) if folder.is_dir() and not folder.is_symlink() else []


def below_root(path: str) -> Path:
    """Where a path of the machine lies."""
    return ROOT / path.lstrip("/")


def is_service(path: Path) -> bool:
    """Whether a file is a whole unit, rather than a change of one."""
    return path.parent == ETC / "systemd/system" and path.suffix == ".service"


def own_services(trees: Iterable[dict[str, Any]]) -> list[str]:
    """Units that trees bring; they are switched on by a link among the files."""
    paths = [Path(file) for tree in trees for file in tree["files"]]
    return [path.name for path in paths if is_service(path)]


def unfinished(path: Path) -> Path:
    """Where a file lies until it is whole."""
    return path.with_name(f".{path.name}.continuum")


def take_all_away(trees: Iterable[dict[str, Any]]) -> None:
    """Remove trees, and before them what their programs left, as folders may be around both."""
    gone = list(trees)
    for tree in gone:
        for trace in tree.get("traces", ()):
            for path in matches(trace):
                remove(path)
    for tree in gone:
        take_away(tree)


def take_away(tree: dict[str, Any]) -> None:
    """Remove the files of a tree; what they took the place of comes back."""
    for text in tree["files"]:
        path = Path(text)
        with contextlib.suppress(FileNotFoundError):
            unfinished(path).unlink()
        kept = KEPT_FOLDER / path.relative_to(ROOT)
        if os.path.lexists(kept):
            shutil.copy2(kept, path, follow_symlinks=False)
            continue
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
    for text in reversed(tree["folders"]):
        shutil.rmtree(Path(text) / "__pycache__", ignore_errors=True)
        with contextlib.suppress(OSError):
            Path(text).rmdir()


# -- settle --------------------------------------------------------------------------------------


def settle(options: dict[str, Any]) -> dict[str, Any]:
    """Remove trees and stop units that are not wanted any more, switch units, and tell names."""
    record = own_record(options["identity"])
    changed = remove_unwanted(record, options)
    changed |= set_names(options["names"])
    if record["fingerprint"] != options["fingerprint"]:
        changed = True
        run("systemctl", "daemon-reload")
        for verb in ("enable", "disable"):
            for unit in options[verb]:
                done = run("systemctl", verb, unit)
                if done.returncode != 0:
                    sys.stderr.write(done.stdout)
                    sys.exit(f"cannot {verb} {unit}")
        run(sys.executable, "-m", "compileall", "-q", str(SOFTWARE_FOLDER))
        record["fingerprint"] = options["fingerprint"]
    if changed:
        write_record(record)
    return {"changed": changed}


def remove_unwanted(record: dict[str, Any], options: dict[str, Any]) -> bool:
    """Have what is wanted no more as it was before; True when there was any."""
    names = [name for name in record["trees"] if name not in options["trees"]]
    trees = [record["trees"].pop(name) for name in names]
    own = own_services(record["trees"].values())
    wanted = {*options["enable"], *options["disable"], *own}
    units = {name: state for name, state in record["units"].items() if name not in wanted}
    for name in units:
        del record["units"][name]
    stop({*units, *own_services(trees)} - wanted)
    take_all_away(trees)
    if units:
        give_units_back(units)
    return bool(trees or units)


def own_names() -> str:
    """What is ours in the machine's table of names."""
    _, inside = split_names()
    return inside


def split_names() -> tuple[str, str]:
    """(the table without what is ours, what is ours)."""
    try:
        text = HOSTS.read_text(errors="surrogateescape")
    except FileNotFoundError:
        return "", ""
    before, begin, rest = text.partition(f"{BEGIN}\n")
    inside, end, after = rest.partition(f"{END}\n")
    return (f"{before}{after}", inside) if begin and end else (text, "")


def set_names(names: str) -> bool:
    """Have exactly these lines of ours in the machine's table of names; True when changed."""
    others, inside = split_names()
    if inside == names:
        return False
    if names and others and not others.endswith("\n"):
        others += "\n"
    ours = f"{BEGIN}\n{names}{END}\n" if names else ""
    # In place: the file may be a mount, which cannot be replaced.
    HOSTS.write_text(others + ours, errors="surrogateescape")
    return True


# -- release -------------------------------------------------------------------------------------


def release_machine(options: dict[str, Any]) -> dict[str, Any]:
    """Take away everything that is this deployment's; nothing is there is nothing to do."""
    record = read_record()
    if record is None:
        return {"released": False}
    record = own_record(options["identity"])
    for pattern in ("continuum-*.service", LINKS_UNIT):
        run("systemctl", "stop", pattern)
        run("systemctl", "reset-failed", pattern)
    trees, units = record.get("trees", {}).values(), record.get("units", {})
    stop({*units, *own_services(trees)})
    remove_links(record.get("device", ""))
    set_sysctl(record.get("sysctl", {}))
    set_names("")
    take_all_away(trees)
    for text in set(named_like_ours()) - set(record.get("others", ())):
        remove(Path(text))
    give_units_back(units)
    shutil.rmtree(SOFTWARE_FOLDER, ignore_errors=True)
    for path in set(STATE_FOLDER.iterdir()) - {RECORD}:
        remove(path)
    RECORD.unlink()
    STATE_FOLDER.rmdir()
    return {"released": True}


def remove(path: Path) -> None:
    """Remove a file or a folder with all that is in it; what a link leads to stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def stop(units: Iterable[str]) -> None:
    """Stop units while systemd has their files still, and before what they write is removed."""
    for unit in sorted(units):
        run("systemctl", "stop", unit)


def give_units_back(units: dict[str, list[str]]) -> None:
    """Have units as they were before the machine was taken into use."""
    run("systemctl", "daemon-reload")
    for unit, (enabled, active) in units.items():
        run("systemctl", "enable" if enabled == "enabled" else "disable", unit)
        run("systemctl", "restart" if active == "active" else "stop", unit)
        run("systemctl", "reset-failed", unit)


def remove_links(device: str) -> None:
    """Take traffic control and packet rules of links away."""
    if device and root_of(device) == LINKS_ROOT:
        run("tc", "qdisc", "del", "dev", device, "root")
    saved = run("iptables-save", "-t", "raw")
    rules = [line for line in saved.stdout.splitlines() if f"-j {LINKS_CHAIN}" in line]
    if f":{LINKS_CHAIN} " in saved.stdout:
        lines = ["*raw", *(rule.replace("-A ", "-D ", 1) for rule in rules)]
        lines += [f"-F {LINKS_CHAIN}", f"-X {LINKS_CHAIN}", "COMMIT", ""]
        run("iptables-restore", "--noflush", text="\n".join(lines))


VERBS = {
    "probe": probe,
    "claim": claim,
    "missing": missing,
    "place": place,
    "settle": settle,
    "release": release_machine,
}


def main(arguments: list[str]) -> int:
    """Run as a program; the exit status."""
    # What an administrator has is not on the path of every login.
    os.environ["PATH"] = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin"
    os.environ["LC_ALL"] = "C.UTF-8"
    verb = arguments[0] if arguments else ""
    if verb not in VERBS:
        print(f"usage: live_machine {'|'.join(VERBS)} [OPTIONS]", file=sys.stderr)
        return 2
    options = json.loads(arguments[1]) if len(arguments) > 1 else {}
    print(json.dumps(VERBS[verb](options)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
