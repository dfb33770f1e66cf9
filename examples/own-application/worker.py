"""Answers every line with its SHA-256; one connection for each endpoint."""

import hashlib
import json
import os
import socketserver
import time


class Handler(socketserver.StreamRequestHandler):
    """One connection. Small answers leave at once."""

    disable_nagle_algorithm = True

    def handle(self) -> None:
        """Answer until the endpoint closes the connection."""
        for line in self.rfile:
            received = time.time_ns()
            request = json.loads(line)
            started = time.time_ns()
            digest = hashlib.sha256(request["text"].encode()).hexdigest()
            answer = {
                "sequence": request["sequence"],
                "received_ns": received,
                "started_ns": started,
                "finished_ns": time.time_ns(),
                "digest": digest,
            }
            self.wfile.write(json.dumps(answer).encode() + b"\n")


class Server(socketserver.ThreadingTCPServer):
    """Connections side by side."""

    allow_reuse_address = True
    daemon_threads = True


# On all addresses: in a pod the worker has not the machine's.
Server(("", int(os.environ["CONTINUUM_WORKER_PORT"])), Handler).serve_forever()
