"""Sends lines of text at the times that it is told; prints a sample for each request."""

import hashlib
import json
import os
import random
import socket
import threading
import time
from pathlib import Path

START = int(os.environ["CONTINUUM_START_NS"])
ARRIVALS = Path(os.environ["CONTINUUM_ARRIVALS_FILE"]).read_text().split()
WARMUP = int(os.environ["CONTINUUM_WARMUP_REQUESTS"])
TIMEOUT = float(os.environ["CONTINUUM_ANSWER_TIMEOUT"])

waiting: dict[int, dict] = {}  # samples of requests without an answer yet, by sequence
lock = threading.Lock()


def finish(sample: dict, status: str) -> None:
    """Print a sample, once. Call it with the lock held."""
    if waiting.pop(sample["sequence"], None) is not None:
        print(json.dumps({**sample, "status": status}), flush=True)


def receive(connection: socket.socket) -> None:
    """Complete a sample with each answer that comes."""
    for line in connection.makefile("rb"):
        answered = time.time_ns()
        answer = json.loads(line)
        with lock:
            sample = waiting.get(answer["sequence"])
            if sample is None:
                continue
            for name in ("received_ns", "started_ns", "finished_ns"):
                sample[name] = answer[name]
            sample["answered_ns"] = answered
            sample["answer_bytes"] = len(line)
            sample["result"] = answer["digest"]
            sample["agrees"] = answer["digest"] == sample["expected"]
            late = answered - sample["intended_ns"] > TIMEOUT * 1e9
            finish(sample, "timeout" if late else "ok")


def send(connection: socket.socket) -> None:
    """Each request at its time, whether the one before has been answered or not."""
    source = random.Random(int(os.environ["CONTINUUM_SEED"]))
    for sequence, offset in enumerate(ARRIVALS):
        intended = START + int(offset)
        while (left := intended - time.time_ns()) > 0:
            time.sleep(left / 1e9)
        preparing = time.time_ns()
        text = "".join(source.choices("abcdefghij ", k=20_000))
        line = json.dumps({"sequence": sequence, "text": text}).encode() + b"\n"
        sample = {
            "sequence": sequence,
            "warmup": sequence < WARMUP,
            "intended_ns": intended,
            "prepare_started_ns": preparing,
            "prepare_finished_ns": time.time_ns(),
            "request_bytes": len(line),
            "expected": hashlib.sha256(text.encode()).hexdigest(),
        }
        with lock:
            waiting[sequence] = sample
            sample["sent_ns"] = time.time_ns()
        try:
            connection.sendall(line)
        except OSError as error:
            with lock:
                finish({**sample, "error": str(error)}, "error")


address = os.environ["CONTINUUM_WORKER_ADDRESS"], int(os.environ["CONTINUUM_WORKER_PORT"])
with socket.create_connection(address, timeout=TIMEOUT) as connection:
    connection.settimeout(None)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    threading.Thread(target=receive, args=(connection,), daemon=True).start()
    send(connection)
    last = time.monotonic()
    while waiting and time.monotonic() < last + TIMEOUT:
        time.sleep(0.01)

with lock:
    for sample in list(waiting.values()):
        finish(sample, "lost")
