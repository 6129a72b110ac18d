"""Cuts the power of a disk under load, many times, and asks whether an answer was lost.

    program under load ── ext4 ── loop ── nbdfuse ── disk.py
                                                       │ at random moments
                       what survives a power cut, as an image on the host's own disk
                                                       │ once the load is over
    program, checked against its journal ── ext4 ── loop

An answer counts if the journal had it before the image was taken; what was asked for meanwhile may
be there or not. Started by run.sh, which says how and cleans up after whatever happens here.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import time

import disk
import programs

MIB = 1 << 20
# A program that shows no life for so long is broken; nothing healthy here takes a tenth of it.
PATIENCE = 60.0


def run(*command):
    """Runs a tool of the system; its output is shown only where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return done.stdout.strip()


def succeeds(*command):
    return subprocess.run(command, capture_output=True, timeout=PATIENCE, check=False).returncode == 0


def wait_for(what, ready):
    until = time.monotonic() + PATIENCE
    while not ready():
        if time.monotonic() > until:
            raise RuntimeError(f"waited {PATIENCE:.0f} s in vain for {what}")
        time.sleep(0.02)


class Mounted:
    """An ext4 on a loop device over `path`, for as long as the `with` lasts."""

    def __init__(self, path, directory, *losetup):
        self.path, self.directory, self.losetup = path, directory, losetup

    def __enter__(self):
        os.makedirs(self.directory, exist_ok=True)
        self.loop = run("losetup", "--find", "--show", *self.losetup, self.path)
        try:
            if self.losetup:
                options = "lazy_itable_init=0,lazy_journal_init=0,nodiscard"
                run("mkfs.ext4", "-q", "-b", "4096", "-m", "0", "-E", options, self.loop)
            run("mount", "-t", "ext4", "-o", "noatime", self.loop, self.directory)
        except BaseException:
            run("losetup", "--detach", self.loop)
            raise
        return self.directory

    def __exit__(self, *_):
        # The kernel gives back what a killed program had open a little after its end.
        wait_for("umount", lambda: succeeds("umount", self.directory))
        run("losetup", "--detach", self.loop)


class Fuse:
    """The disk as a file, which is what a loop device wants."""

    def __init__(self, served, work):
        self.served, self.work = served, work

    def __enter__(self):
        socket, file = f"{self.work}/disk.sock", f"{self.work}/disk.file"
        disk.serve(self.served, socket)
        open(file, "wb").close()
        # In a session of its own: a Ctrl-C must not take the disk away under what is mounted on it.
        # One thread: with several, nbdfuse of libnbd 1.14 now and then dies of its own assertion.
        command = ["nbdfuse", "-s", file, "--unix", socket]
        self.process = subprocess.Popen(command, start_new_session=True)
        self.file = file
        wait_for("nbdfuse", lambda: os.stat(file).st_size == self.served.octets)
        return file

    def __exit__(self, *_):
        wait_for("the loop device", lambda: succeeds("fusermount3", "-u", self.file))
        self.process.wait(PATIENCE)
        os.unlink(f"{self.work}/disk.sock")


def journal_of(path, octets=None):
    """The whole lines of a journal."""
    try:
        with open(path, "rb") as file:
            text = file.read(-1 if octets is None else octets)
    except FileNotFoundError:
        return b""
    return text[: text.rfind(b"\n") + 1]


def take_images(program, served, work, count, chance):
    """One load; images of it as (path, journal, line that says what it is)."""
    images = []
    journal = f"{work}/journal"
    if os.path.exists(journal):
        os.unlink(journal)
    with Fuse(served, work) as file, Mounted(file, f"{work}/live", "--direct-io=on") as live:
        program.start(live, journal)
        try:
            wait_for("the first answer", lambda: program.is_working(journal_of(journal)))
            for number in range(count):
                time.sleep(chance.uniform(0.02, 0.9))
                kind = ("none", "all", "random", "random")[number % 4]
                image = f"{work}/image.{number}"
                before = journal_of(journal)
                if kind != "all":
                    served.await_pending(0.5)
                pending, kept = served.cut(image, kind, chance.getrandbits(64))
                if program.answers_from_later:
                    time.sleep(0.3)
                    before = journal_of(journal)
                after = journal_of(journal)
                # Of what came in the meantime only the questions count, not the answers.
                late = after[len(before) :].splitlines(keepends=True)
                asked = b"".join(line for line in late if line[:1] in b"ID")
                with open(f"{image}.journal", "wb") as out:
                    out.write(before + asked)
                told = f"{kind:<6} {kept:>6} of {pending:>6} unflushed sectors kept"
                answers = before.count(b"\nA ")
                images.append((image, f"{told}, {answers:>6} answers"))
            program.must_be_alive()
        finally:
            program.stop()
    return images


def judge(program, image, work):
    """Mounts an image and asks the program. Returns whether all is well, and its words."""
    try:
        with Mounted(image, f"{work}/after") as after:
            return program.check(after, f"{image}.journal")
    finally:
        os.unlink(image)
        os.unlink(f"{image}.journal")


def campaign(program, options, images, until):
    """Takes and judges images of one program. Returns how many, and how many lost something."""
    chance = random.Random(f"{options.seed} {program.name}")
    done = lost = 0
    while done < images:
        batch = min(images - done, options.batch)
        served = disk.Disk(options.disk * MIB)
        for image, told in take_images(program, served, options.work, batch, chance):
            if time.monotonic() > until:
                print(f"rig: the time is over after {done} of {images} images", flush=True)
                return done, lost, False
            good, words = judge(program, image, options.work)
            done += 1
            lost += not good
            verdict = "good" if good else "LOSS"
            print(f"rig: {program.name} {done}/{images}: {told}: {verdict}, {words}", flush=True)
        print(f"rig: {served.writes} writes and {served.flushes} flushes so far", flush=True)
    return done, lost, True


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", required=True)
    parser.add_argument("--images", type=int, required=True)
    parser.add_argument("--seed", default=str(random.getrandbits(32)))
    parser.add_argument("--disk", type=int, default=384, help="MiB")
    parser.add_argument("--batch", type=int, default=10, help="images of one load")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--writer", required=True)
    parser.add_argument("--pombal", required=True)
    parser.add_argument("--loadgen", required=True)
    parser.add_argument("programs", nargs="+")
    options = parser.parse_args()
    # An end from outside unwinds like any other, so that what is mounted is given back.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit("rig: told to end"))

    print(f"rig: seed {options.seed} (--seed repeats the moments as far as a clock can)", flush=True)
    until = time.monotonic() + options.seconds
    bad = []
    for name in options.programs:
        program = programs.make(name, options)
        images = min(options.images, 4) if program.must_lose else options.images
        done, lost, complete = campaign(program, options, images, until)
        if program.must_lose:
            right, said = lost > 0, "is caught" if lost else "was NOT CAUGHT: the rig sees nothing"
        else:
            right, said = lost == 0 and complete, "keeps its answers" if lost == 0 else "LOSES"
        print(f"rig: {name}: {lost} of {done} images lost an answer: it {said}", flush=True)
        if not right:
            bad.append(name)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
