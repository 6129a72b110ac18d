"""A disk in memory that forgets what was not flushed: an NBD server for the power-cut rig.

It keeps three things: what a reader sees, what survives a power cut, and the writes since the last
flush, in order. An image of a power cut is what survives plus none, all, or random sectors of those
writes; taking one does not disturb whoever uses the disk.

Promises:
  - a flush is answered after every write answered before it is among what survives
  - a sector of 512 octets is there whole or not at all; of two writes to it, either may be last

Illegal: to offer FUA, TRIM or WRITE_ZEROES. The kernel then makes writes and flushes of them all,
and nothing becomes durable but by a flush.
"""

import os
import random
import socket
import struct
import threading
import time

SECTOR = 512
CHUNK = 64 << 10
ZEROS = bytes(1 << 20)

HANDSHAKE_FLAGS = 1 | 2  # fixed newstyle, no zeroes
TRANSMISSION_FLAGS = 1 | 4  # has flags, has flush
OPTION_MAGIC = 0x49484156454F5054
OPTION_REPLY_MAGIC = 0x0003E889045565A9
EXPORT_NAME, ABORT, INFO, GO = 1, 2, 6, 7
ACK, INFO_REPLY, UNSUPPORTED = 1, 3, (1 << 31) + 1
REQUEST_MAGIC, REPLY_MAGIC = 0x25609513, 0x67446698
READ, WRITE, DISCONNECT, FLUSH = 0, 1, 2, 3
EINVAL = 22
# What a flush takes, as on a good disk without a cache that survives. Without it there would rarely
# be a write that is not flushed yet when an image is taken.
FLUSH_SECONDS = 0.003


class Disk:
    """The octets, and what of them survives. Every method may be called from any thread."""

    def __init__(self, octets):
        self.octets = octets
        self.lock = threading.Lock()
        self.seen = bytearray(octets)
        self.stable = bytearray(octets)
        self.touched = set()
        self.pending = []
        self.flushes = 0
        self.writes = 0

    def read(self, at, length):
        with self.lock:
            return self.seen[at : at + length]

    def write(self, at, data):
        with self.lock:
            self.writes += 1
            self.seen[at : at + len(data)] = data
            self.pending.append((at, data))

    def flush(self):
        time.sleep(FLUSH_SECONDS)
        with self.lock:
            self.flushes += 1
            for at, data in self.pending:
                self.stable[at : at + len(data)] = data
                self.touched.update(range(at // CHUNK, (at + len(data) - 1) // CHUNK + 1))
            self.pending.clear()

    def await_pending(self, seconds):
        """Comes back when something is not flushed yet, or after this long."""
        until = time.monotonic() + seconds
        while not self.pending and time.monotonic() < until:
            time.sleep(0.0005)

    def cut(self, path, kind, seed):
        """Writes what a power cut at this moment leaves to a file. Returns the sectors that were
        pending and those of them that survive."""
        chance = random.Random(seed)
        likely = chance.choice((0.02, 0.1, 0.5, 0.9, 0.98))
        pending = kept = 0
        with open(path, "wb") as out, self.lock:
            out.truncate(self.octets)
            for index in sorted(self.touched):
                chunk = self.stable[index * CHUNK : (index + 1) * CHUNK]
                if chunk != ZEROS[: len(chunk)]:
                    os.pwrite(out.fileno(), chunk, index * CHUNK)
            for at, data in self.pending:
                pending += len(data) // SECTOR
                if kind == "none":
                    continue
                if kind == "all":
                    kept += len(data) // SECTOR
                    os.pwrite(out.fileno(), data, at)
                    continue
                for part in range(0, len(data), SECTOR):
                    if chance.random() < likely:
                        kept += 1
                        os.pwrite(out.fileno(), data[part : part + SECTOR], at + part)
        return pending, kept


def serve(disk, path):
    """Listens on the socket `path` and serves `disk` to all who connect, in the background."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    listener.listen(4)

    def accept():
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=attend, args=(disk, connection), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()


def attend(disk, connection):
    with connection:
        try:
            if shake_hands(disk, connection):
                transmit(disk, connection)
        except (ConnectionError, BrokenPipeError):
            pass


def take(connection, length):
    data = bytearray(length)
    view = memoryview(data)
    at = 0
    while at < length:
        got = connection.recv_into(view[at:])
        if got == 0:
            raise ConnectionError("the client hung up")
        at += got
    return data


def shake_hands(disk, connection):
    connection.sendall(b"NBDMAGIC" + struct.pack(">QH", OPTION_MAGIC, HANDSHAKE_FLAGS))
    take(connection, 4)
    while True:
        magic, option, length = struct.unpack(">QII", take(connection, 16))
        if magic != OPTION_MAGIC:
            return False
        take(connection, length)

        def reply(kind, data=b""):
            head = struct.pack(">QIII", OPTION_REPLY_MAGIC, option, kind, len(data))
            connection.sendall(head + data)

        if option == EXPORT_NAME:
            connection.sendall(struct.pack(">QH", disk.octets, TRANSMISSION_FLAGS))
            return True
        if option in (INFO, GO):
            reply(INFO_REPLY, struct.pack(">HQH", 0, disk.octets, TRANSMISSION_FLAGS))
            reply(ACK)
            if option == GO:
                return True
        elif option == ABORT:
            reply(ACK)
            return False
        else:
            reply(UNSUPPORTED)


def transmit(disk, connection):
    while True:
        magic, _, kind, handle, at, length = struct.unpack(">IHHQQI", take(connection, 28))
        if magic != REQUEST_MAGIC or kind == DISCONNECT:
            return
        data = bytes(take(connection, length)) if kind == WRITE else b""
        error, answer = 0, b""
        if kind in (READ, WRITE) and at + length > disk.octets:
            error = EINVAL
        elif kind == READ:
            answer = disk.read(at, length)
        elif kind == WRITE:
            disk.write(at, data)
        elif kind == FLUSH:
            disk.flush()
        else:
            error = EINVAL
        connection.sendall(struct.pack(">IIQ", REPLY_MAGIC, error, handle) + answer)
