"""One side of the KV transfer's HTTP protocol: it answers as a prefill or decode server would,
with what it was asked. Run in a container: backend.py prefill|decode PORT."""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SIDE, PORT = sys.argv[1], int(sys.argv[2])


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, body: dict[str, Any], code: int = 200) -> None:
        raw = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def do_GET(self) -> None:
        if self.path == "/v1/models":
            self.answer({"object": "list", "data": [{"id": "qwen3", "object": "model"}]})
        else:
            self.answer({}, 200 if self.path == "/health" else 404)

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        key = self.headers.get("Authorization")
        choice = {"index": 0, "text": SIDE, "finish_reason": "length"}
        usage = {"prompt_tokens": 6, "completion_tokens": 1, "total_tokens": 7}
        about = {"id": "x", "object": "text_completion", "model": "qwen3"}
        answer = {**about, "choices": [choice], "usage": usage}
        if SIDE == "prefill":
            told = {"do_remote_prefill": True, "remote_host": "prefill", "asked": asked}
            self.answer({**answer, "kv_transfer_params": told})
        else:
            self.answer({**answer, "asked": asked, "key": key})

    def log_message(self, *_: Any) -> None:
        return


ThreadingHTTPServer(("", PORT), Handler).serve_forever()
