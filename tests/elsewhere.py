"""File systems that are not a disk: a web server with ranges, and fsspec's memory."""

import os
import re
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


class _Handler(SimpleHTTPRequestHandler):
    """Files of a folder, whole or by ranges of bytes; the server's own lists say what is asked and what is refused."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer waits 40 ms for an acknowledgement

    def do_GET(self):
        self.server.asked.append((self.path, self.headers.get("Range"), self.headers.get("Authorization")))
        if self.path in self.server.refused:
            self.send_error(self.server.refused[self.path])
            return
        path = self.translate_path(self.path)
        if os.path.isdir(path):  # a page with links to the files
            super().do_GET() if self.command == "GET" else super().do_HEAD()
            return
        try:
            with open(path, "rb") as file:
                content = file.read()
        except OSError:
            self.send_error(404)
            return
        wanted = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "") if self.server.ranges else None
        part, length = content, len(content)
        if wanted:
            start, end = int(wanted[1]), min(int(wanted[2] or length - 1), length - 1)
            part = content[start : end + 1]
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{end}/{length}")
        if self.server.told:
            self.send_header("Accept-Ranges", "bytes" if self.server.ranges else "none")
        self.send_header("Content-Length", str(len(part)))
        self.send_header("ETag", f'"{hash(content)}"')
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(part)

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


class Web:
    """A web server over a folder, on this machine."""

    def __init__(self, folder, ranges=True, told=True):
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, directory=str(folder)))
        self._server.asked, self._server.refused, self._server.ranges, self._server.told = [], {}, ranges, told
        self.asked, self.refused = self._server.asked, self._server.refused
        self.host = f"127.0.0.1:{self._server.server_port}"
        self.url = f"http://{self.host}"
        self._thread = Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
