"""A browser's part of a page of viser: what it is sent, and what it sends."""

import re
import threading
import time

import msgspec.msgpack
import viser
import zstandard
from websockets.sync.client import connect

CAMERA = {
    "type": "ViewerCameraMessage",
    "wxyz": (1.0, 0.0, 0.0, 0.0),
    "position": (1.0, 0.0, 0.0),
    "fov": 1.0,
    "near": 0.01,
    "far": 1000.0,
    "image_height": 480,
    "image_width": 640,
    "look_at": (0.0, 0.0, 0.0),
    "up_direction": (0.0, 0.0, 1.0),
}


class Client:
    """What somebody sees who has opened the page, kept up to date by a thread."""

    def __init__(self, port):
        protocol = f"viser-v{viser.__version__}"
        self.nodes = {}  # {name: {"position": ..., ...}} of the scene
        self.gui = {}  # {uuid: properties}
        self.is_dark, self.news = False, set()  # names of nodes
        self.socket = connect(
            f"ws://localhost:{port}", subprotocols=[protocol], max_size=None
        )
        threading.Thread(target=self._listen, daemon=True).start()
        self._send(CAMERA)  # only who has one counts as there

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def place(self, name):
        """Returns where a node of the scene is."""
        return tuple(self.nodes[name]["position"])

    def moved(self):
        """Returns the names of what was sent anew since this was asked last."""
        names, self.news = self.news, set()
        return {name for name in names if not name.startswith("/shown")}

    def text(self):
        """Returns all that stands on the page."""
        words = [x.get("content") or x.get("label") or "" for x in self.gui.values()]
        return " ".join(words)

    def has(self, label):
        """Returns whether there is a control of this name."""
        return any(x.get("label") == label for x in self.gui.values())

    def fact(self, name):
        """Returns what stands beside a name in a table."""
        return re.search(rf">{name}</td><td>([^<]*)<", self.text()).group(1)

    def press(self, label):
        self.set(label, True)

    def set(self, label, value):
        self.wait_for(lambda: self.has(label))
        (uuid,) = (u for u, x in self.gui.items() if x.get("label") == label)
        updates = {"value": value}
        self._send({"type": "GuiUpdateMessage", "uuid": uuid, "updates": updates})

    def wait_for(self, condition, seconds=60.0):
        """Waits until something is so; what hangs ends."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, (self.text(), self.nodes)
            time.sleep(0.02)

    def _send(self, message):
        self.socket.send(msgspec.msgpack.encode(message))

    def _listen(self):
        for raw in self.socket:
            size = int.from_bytes(raw[8:16], "little")
            packed = zstandard.ZstdDecompressor().decompress(raw[16 : 16 + size])
            for message in msgspec.msgpack.decode(packed)["messages"]:
                self._read(message)

    def _read(self, message):
        name, uuid = message.get("name"), message.get("uuid")
        kind = message["type"]
        if kind == "ThemeConfigurationMessage":
            self.is_dark = message["dark_mode"]
        if kind == "RemoveSceneNodeMessage":
            self.nodes.pop(name, None)
        elif uuid is not None:
            news = message.get("updates") or message.get("props") or {}
            self.gui.setdefault(uuid, {}).update(news)
        elif name is not None:
            news = message.get("updates") or message.get("props") or {}
            places = {k: message[k] for k in ("position", "wxyz") if k in message}
            self.nodes.setdefault(name, {}).update(news | places)
            self.news.add(name)
