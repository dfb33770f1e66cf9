"""What a machine is to libvirt, as XML; pure functions of the plan and the host."""

from __future__ import annotations

import uuid
import xml.etree.ElementTree as ET
from dataclasses import asdict, dataclass
from pathlib import Path

from continuum.images.recipe import fingerprint
from continuum.infrastructure.host.kernel_modules import FOR_CONTAINERS
from continuum.infrastructure.host.names import Place, interface_name
from continuum.infrastructure.plan import InfrastructurePlan, MachineSpec
from continuum.infrastructure.providers.libvirt.platforms import Platform

LAYOUT = 2
"""Raise when virtual machines made before must be replaced."""

NAMESPACE = "urn:continuum:machine:1"
"""Of the label that a virtual machine carries in its metadata."""

PERIOD = 20_000
"""Microseconds over which a quota counts, as for containers."""

_FIRST_SLOT = 4
"""Of the devices on the first bus: the slots below are taken by what the computer itself has."""


class Domain(Place):
    """Names and places of one machine's virtual machine."""

    @property
    def disk(self) -> Path:
        """What the machine has written, over its image."""
        return self.folder / "disk.qcow2"

    @property
    def seed(self) -> Path:
        """What is put into it before it boots."""
        return self.folder / "seed"

    @property
    def hosts(self) -> Path:
        """The names that it was last told."""
        return self.folder / "hosts"


@dataclass(frozen=True)
class Label:
    """What a virtual machine carries in its metadata.

    Attributes:
        deployment: the deployment's name.
        state_folder: where deployments of that user lie.
        identity: the deployment's.
        machine: its name within the deployment.
        made_of: fingerprint of what it was made of.
    """

    deployment: str
    state_folder: str
    identity: str
    machine: str
    made_of: str

    def element(self) -> ET.Element:
        """The label as libvirt keeps it."""
        return ET.Element(f"{{{NAMESPACE}}}machine", asdict(self))

    @classmethod
    def read(cls, text: str) -> Label | None:
        """The label in a metadata element; None when it is none of ours."""
        try:
            found = ET.fromstring(text)  # noqa: S314  libvirt's own text, which only root writes
            return cls(**{name: found.attrib[name] for name in cls.__dataclass_fields__})
        except (ET.ParseError, KeyError):
            return None


@dataclass(frozen=True)
class Boot:
    """Files that every machine of an image boots from."""

    disk: Path
    kernel: Path
    initramfs: Path


@dataclass(frozen=True)
class Host:
    """What of the host decides how a virtual machine is made.

    Attributes:
        platform: of its processor.
        accelerated: whether the processor runs guests itself (KVM); else QEMU emulates it.
        security_models: what confines programs here beside users, as `apparmor`.
    """

    platform: Platform
    accelerated: bool
    security_models: tuple[str, ...] = ()


def spec_fingerprint(plan: InfrastructurePlan, spec: MachineSpec, image_inode: int) -> str:
    """What a machine is made of; a machine whose fingerprint differs is replaced.

    `image_inode` tells an image's disk from the same one built again after the cache was emptied.
    """
    network = plan.network
    made_of = asdict(spec)
    # Only what runs in the machine knows of pods; and a host may come to be called otherwise.
    del made_of["pods"], made_of["privileged"]
    made_of["host"] = ""
    return fingerprint(
        LAYOUT,
        made_of,
        plan.image,
        image_inode,
        [network.bridge, str(network.block), network.host_address, network.internet],
        *([] if network.mtu is None else [network.mtu]),
    )


def kernel_arguments(plan: InfrastructurePlan, spec: MachineSpec, platform: Platform) -> str:
    """The kernel's command line."""
    network = plan.network
    words = [
        f"console={platform.console}",
        "quiet",
        # Nobody logs in there, and systemd would wait for a line that no udev announces.
        "systemd.getty_auto=no",
        "systemd.mask=getty-static.service",
        "ipv6.disable_ipv6=1",
        f"continuum.address={spec.address}/{network.block.prefixlen}",
    ]
    if network.internet:
        words.append(f"continuum.gateway={network.host_address}")
    if spec.nested:
        words.append(f"continuum.modules={','.join(FOR_CONTAINERS)}")
    return " ".join(words)


def domain_xml(  # noqa: PLR0913  each is a different thing
    plan: InfrastructurePlan,
    spec: MachineSpec,
    domain: Domain,
    *,
    label: Label,
    boot: Boot,
    host: Host,
) -> str:
    """The virtual machine's definition."""
    ET.register_namespace("continuum", NAMESPACE)
    root = ET.Element("domain", type="kvm" if host.accelerated else "qemu")
    _text(root, "name", domain.name)
    # Always the same: else libvirt takes a new definition for another machine of that name.
    _text(root, "uuid", str(uuid.uuid5(uuid.NAMESPACE_URL, f"{NAMESPACE}/{domain.name}")))
    ET.SubElement(root, "metadata").append(label.element())
    _text(root, "memory", str(spec.memory), unit="bytes")
    _text(root, "vcpu", str(spec.cores))
    root.append(_cores(spec))
    system = ET.SubElement(root, "os")
    _text(system, "type", "hvm", arch=host.platform.cpu, machine=host.platform.machine)
    _text(system, "kernel", str(boot.kernel))
    _text(system, "initrd", str(boot.initramfs))
    _text(system, "cmdline", kernel_arguments(plan, spec, host.platform))
    features = ET.SubElement(root, "features")
    ET.SubElement(features, "acpi")
    root.append(_processor(host))
    ET.SubElement(root, "clock", offset="utc")
    _text(root, "on_poweroff", "destroy")
    _text(root, "on_reboot", "restart")
    _text(root, "on_crash", "destroy")
    root.append(_devices(plan, spec, domain, boot, host))
    # Images and deployments are private to whom they belong: QEMU reads them as root.
    owner = ET.SubElement(root, "seclabel", type="static", model="dac", relabel="no")
    _text(owner, "label", "+0:+0")
    for model in host.security_models:
        ET.SubElement(root, "seclabel", type="none", model=model)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"


def _text(parent: ET.Element, tag: str, text: str, **attributes: str) -> None:
    ET.SubElement(parent, tag, attributes).text = text


def _processor(host: Host) -> ET.Element:
    if host.accelerated:
        return ET.Element("cpu", mode="host-passthrough")
    processor = ET.Element("cpu", mode="maximum")
    for feature in host.platform.slow_to_emulate:
        ET.SubElement(processor, "feature", policy="disable", name=feature)
    return processor


def _cores(spec: MachineSpec) -> ET.Element:
    """The quota caps each core by itself."""
    tuning = ET.Element("cputune")
    for number, core in enumerate(sorted(spec.pinned_cores)):
        ET.SubElement(tuning, "vcpupin", vcpu=str(number), cpuset=str(core))
    if spec.quota < 1:
        _text(tuning, "period", str(PERIOD))
        _text(tuning, "quota", str(round(spec.quota * PERIOD)))
    return tuning


def _devices(
    plan: InfrastructurePlan, spec: MachineSpec, domain: Domain, boot: Boot, host: Host
) -> ET.Element:
    devices = ET.Element("devices")
    disk = ET.SubElement(devices, "disk", type="file", device="disk")
    # Emulated, a machine's wait for this host's disk is added to one that is long already: etcd
    # gives up. What a crash of this host would lose is lost with the deployment.
    cache = "writeback" if host.accelerated else "unsafe"
    ET.SubElement(disk, "driver", name="qemu", type="qcow2", cache=cache, discard="unmap")
    ET.SubElement(disk, "source", file=str(domain.disk))
    below = ET.SubElement(disk, "backingStore", type="file")
    ET.SubElement(below, "format", type="qcow2")
    ET.SubElement(below, "source", file=str(boot.disk))
    ET.SubElement(below, "backingStore")
    ET.SubElement(disk, "target", dev="vda", bus="virtio")
    limits = [("read", spec.disk_read), ("write", spec.disk_write)]
    if any(rate is not None for _, rate in limits):
        tuning = ET.SubElement(disk, "iotune")
        for word, rate in limits:
            if rate is not None:
                _text(tuning, f"{word}_bytes_sec", str(rate))
    seed = ET.SubElement(devices, "disk", type="file", device="disk")
    ET.SubElement(seed, "driver", name="qemu", type="raw")
    ET.SubElement(seed, "source", file=str(domain.seed))
    ET.SubElement(seed, "target", dev="vdb", bus="virtio")
    ET.SubElement(seed, "readonly")
    interface = ET.SubElement(devices, "interface", type="bridge")
    ET.SubElement(interface, "mac", address=spec.mac)
    ET.SubElement(interface, "source", bridge=plan.network.bridge)
    ET.SubElement(interface, "target", dev=interface_name(plan.network, spec, plan.identity))
    ET.SubElement(interface, "model", type="virtio")
    if plan.network.mtu is not None:
        ET.SubElement(interface, "mtu", size=str(plan.network.mtu))
    # Nobody boots from the network, and looking there takes time.
    ET.SubElement(interface, "rom", enabled="no")
    random = ET.SubElement(devices, "rng", model="virtio")
    _text(random, "backend", "/dev/urandom", model="random")
    # On the first bus itself: bridges of their own cost every boot time.
    for slot, device in enumerate((disk, seed, interface, random), start=_FIRST_SLOT):
        ET.SubElement(device, "address", type="pci", bus="0x00", slot=f"0x{slot:02x}")
    console = ET.SubElement(devices, "serial", type="file")
    ET.SubElement(console, "source", path=str(domain.console), append="off")
    ET.SubElement(devices, "controller", type="usb", model="none")
    ET.SubElement(devices, "memballoon", model="none")
    return devices
