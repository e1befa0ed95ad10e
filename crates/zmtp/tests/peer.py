"""A ZeroMQ socket of libzmq, driven by a test line by line.

    peer.py TYPE bind|connect ENDPOINT [JSON]

Opens a socket and says `{"at": ENDPOINT}` with the real port. Then reads one JSON object a line, and
answers each with one:

    {"send": [HEX, ...]}    sends a message
    {"recv": MILLISECONDS}  receives one: {"frames": [HEX, ...]}, or {} if none came in time
    {"subscribe": HEX}      of a SUB socket
    {"unsubscribe": HEX}

JSON has the settings: `identity`, `subscribe`, `hwm`, `client` and `server` (a name and a password,
mechanism PLAIN), `curve_client` and `curve_server` (keys, mechanism CURVE). The end of the input is
the end.
"""

import json
import sys

import zmq
from zmq.auth.thread import ThreadAuthenticator


def secure(context, socket, settings):
    """The security mechanism; what has to be kept alive for it."""
    if "client" in settings:
        socket.plain_username, socket.plain_password = (part.encode() for part in settings["client"])
    if "server" in settings:
        authenticator = ThreadAuthenticator(context)
        authenticator.start()
        name, password = settings["server"]
        authenticator.configure_plain(domain="posthaste", passwords={name: password})
        socket.plain_server = True
        socket.zap_domain = b"posthaste"
        return authenticator
    if "curve_server" in settings:
        socket.curve_secretkey = settings["curve_server"].encode()
        socket.curve_server = True
    if "curve_client" in settings:
        server, public, secret = (key.encode() for key in settings["curve_client"])
        socket.curve_serverkey, socket.curve_publickey, socket.curve_secretkey = server, public, secret
    return None


def answer(socket, command):
    # Looking at the events takes in what the other threads of libzmq have for the socket.
    socket.getsockopt(zmq.EVENTS)
    if "send" in command:
        socket.send_multipart([bytes.fromhex(frame) for frame in command["send"]])
        return {}
    if "subscribe" in command:
        socket.setsockopt(zmq.SUBSCRIBE, bytes.fromhex(command["subscribe"]))
        return {}
    if "unsubscribe" in command:
        socket.setsockopt(zmq.UNSUBSCRIBE, bytes.fromhex(command["unsubscribe"]))
        return {}
    if not socket.poll(command["recv"], zmq.POLLIN):
        return {}
    return {"frames": [frame.hex() for frame in socket.recv_multipart()]}


def main():
    kind, side, endpoint = sys.argv[1:4]
    settings = json.loads(sys.argv[4]) if len(sys.argv) > 4 else {}
    context = zmq.Context()
    socket = context.socket(getattr(zmq, kind))
    socket.linger = 2_000
    socket.sndtimeo = 20_000
    if "identity" in settings:
        socket.identity = settings["identity"].encode()
    if "hwm" in settings:
        socket.set_hwm(settings["hwm"])
    if kind == "SUB":
        socket.setsockopt(zmq.SUBSCRIBE, settings.get("subscribe", "").encode())
    authenticator = secure(context, socket, settings)
    if side == "bind":
        socket.bind(endpoint)
    else:
        socket.connect(endpoint)
    print(json.dumps({"at": socket.last_endpoint.decode()}), flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(socket, json.loads(line))), flush=True)
    socket.close()
    if authenticator is not None:
        authenticator.stop()
    context.term()


main()
