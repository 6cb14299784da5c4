"""A WebSocket (RFC 6455) that echoes, and a client that counts: websocket.py serve PORT | count HOST PORT COUNT PAUSE."""
import base64, hashlib, os, socket, struct, sys, threading, time

MAGIC = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def accept_of(key):
    return base64.b64encode(hashlib.sha1((key + MAGIC).encode()).digest()).decode()


def head_of(stream):
    """The lines of a request or an answer, until the empty one."""
    lines = []
    while True:
        line = stream.readline(4096).decode().strip()
        if not line:
            return lines
        lines.append(line)


def field(lines, name):
    found = [line.split(":", 1)[1].strip() for line in lines if line.lower().startswith(name.lower() + ":")]
    return found[0] if found else ""


def read_frame(stream):
    """Opcode and content; None at the end of the stream."""
    start = stream.read(2)
    if len(start) < 2:
        return None
    opcode, length = start[0] & 15, start[1] & 127
    if length == 126:
        (length,) = struct.unpack(">H", stream.read(2))
    mask = stream.read(4) if start[1] & 128 else bytes(4)
    return opcode, bytes(b ^ mask[i % 4] for i, b in enumerate(stream.read(length)))


def frame(opcode, content, masked):
    mask = os.urandom(4) if masked else b""
    body = bytes(b ^ mask[i % 4] for i, b in enumerate(content)) if masked else content
    return bytes([128 | opcode, (128 if masked else 0) | len(content)]) + mask + body


def serve_one(connection):
    stream = connection.makefile("rb")
    key = field(head_of(stream), "Sec-WebSocket-Key")
    answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
    connection.sendall((answer + accept_of(key) + "\r\n\r\n").encode())
    while (read := read_frame(stream)) is not None:
        opcode, content = read
        connection.sendall(frame(opcode, content, False))
        if opcode == 8:
            break
    connection.close()


def serve(port):
    server = socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    while True:
        connection, _ = server.accept()
        threading.Thread(target=serve_one, args=(connection,), daemon=True).start()


def count(host, port, number, pause):
    connection = socket.create_connection((host, port), timeout=60)
    stream = connection.makefile("rb")
    key = base64.b64encode(os.urandom(16)).decode()
    request = f"GET / HTTP/1.1\r\nHost: holdfast.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
    connection.sendall((request + "Sec-WebSocket-Version: 13\r\n\r\n").encode())
    lines = head_of(stream)
    assert " 101 " in lines[0] and field(lines, "Sec-WebSocket-Accept") == accept_of(key), lines
    for n in range(1, number + 1):
        connection.sendall(frame(1, str(n).encode(), True))
        opcode, content = read_frame(stream)
        assert opcode == 1, opcode
        print(content.decode(), flush=True)
        time.sleep(pause)
    connection.sendall(frame(8, b"\x03\xe8", True))
    assert read_frame(stream) == (8, b"\x03\xe8") and read_frame(stream) is None


if sys.argv[1] == "serve":
    serve(int(sys.argv[2]))
else:
    count(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5]))
