"""Runs `cones` and says what is wrong with how it ended."""

import os
import pathlib
import random
import re
import resource
import shutil
import signal
import subprocess
import tempfile
import time

from . import formats

ROOT = pathlib.Path(__file__).resolve().parents[3]
POCKET = ROOT / "examples/pocket"
MINI = ROOT / "tests/golden/models/sd1-f32"
PHOTOS = POCKET / "subjects/poodle"
QUICK = ["--steps", "1"]
# What a terminal acts on, or what hides in a text.
UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff]")
HANG, MEMORY = 30, 700 << 20


class Ended:
    """How a run ended."""

    def __init__(self, status, out, error, seconds, peak):
        self.status, self.out, self.error, self.seconds, self.peak = status, out, error, seconds, peak
        self.hung = False


class Running:
    """A run of `cones`, with its streams in files."""

    def __init__(self, binary, arguments, cwd, environment=None, limits=(), streams=None, before=None, wrap=()):
        self.files = [tempfile.TemporaryFile() for _ in range(2)]
        out, error = [(streams or {}).get(i, file) for i, file in zip((1, 2), self.files)]
        clean = {key: value for key, value in os.environ.items() if not key.startswith("CONES_")}
        clean = {**clean, "RUST_BACKTRACE": "0", "RAYON_NUM_THREADS": "1", **(environment or {})}
        environment = {key: value for key, value in clean.items() if value is not None}

        def prepare():
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            for which, most in limits:
                resource.setrlimit(which, (most, most))
            if before:
                before()

        self.start = time.time()
        stdin = (streams or {}).get(0, subprocess.DEVNULL)
        self.process = subprocess.Popen([*wrap, binary, *arguments], cwd=cwd, env=environment, stdin=stdin, stdout=out,
                                        stderr=error, preexec_fn=prepare)

    def signal(self, number):
        if self.poll() is None:
            os.kill(self.process.pid, number)

    def poll(self):
        if self.process.returncode is None:
            pid, status, usage = os.wait4(self.process.pid, os.WNOHANG)
            if pid:
                self.usage, self.process.returncode = usage, os.waitstatus_to_exitcode(status)
        return self.process.returncode

    def end(self, limit=HANG):
        """Waits for the end, or makes it."""
        hung, pause = False, 0.001
        # Where others work too, everything takes longer.
        limit *= max(1, os.getloadavg()[0] / os.cpu_count())
        while self.poll() is None:
            if time.time() - self.start > limit and not hung:
                hung = True
                os.kill(self.process.pid, signal.SIGKILL)
            time.sleep(pause)
            pause = min(pause * 1.3, 0.02)
        texts = []
        for file in self.files:
            file.seek(0)
            texts.append(file.read(1 << 20).decode("utf-8", "replace"))
            file.close()
        ended = Ended(self.process.returncode, *texts, time.time() - self.start, self.usage.ru_maxrss * 1024)
        ended.hung = hung
        return ended


def wrong(ended, want, memory=MEMORY, told=True):
    """What is wrong with how a run ended, of the statuses that are right; `told`: where somebody could hear it."""
    said = ended.out + ended.error
    if ended.hung:
        return f"hang: not done after {ended.seconds:.0f} s"
    if ended.status == 101 or "panicked at" in ended.error:
        return "panic"
    if ended.status < 0 and ended.status not in want:
        return f"ended by {signal.Signals(-ended.status).name}"
    if ended.status not in want:
        return f"status {ended.status}, not one of {sorted(want)}"
    if UNSEEN.search(said):
        return "characters that a terminal acts on"
    said = "error" in ended.error or (ended.status == 1 and ("CLIP-I" in ended.out or '"verdict"' in ended.out))
    if told and ended.status > 0 and not said and not (ended.status == 130 and "interrupted" in ended.error):
        return f"silence: status {ended.status} without a message"
    if ended.peak > memory:
        return f"{ended.peak >> 20} MB of memory"
    return None


def left_over(folder, killed=False):
    """What should not be in a folder after a run: half files, temporary ones, unfinished work."""
    for path in sorted(folder.rglob("*")):
        temporary = path.name.startswith(".cones-") or path.name.endswith(".part.new")
        if temporary and not killed:
            return f"left over: {path.name}"
        if not temporary and path.is_file() and not path.is_symlink() and not formats.is_whole(path):
            return f"half-written: {path.name}"
    return None


class World:
    """Where attacks happen, with good files to begin from."""

    def __init__(self, binary, folder, seed, many, keep):
        self.binary, self.folder, self.seed, self.many, self.keep = binary, folder, seed, many, keep
        self.out, self.at = folder / "out", folder / "in"
        self.at.mkdir()
        self.out.mkdir()
        self.photos, self.mini_photos = str(PHOTOS), str(ROOT / "tests/golden/photos/subject")
        cat = str(POCKET / "subjects/blue-guide-dog")
        find = ["find", "--batch", "1", *QUICK]
        self.index, self.other, self.prompt_index = (str(self.at / f"{name}.idx") for name in "abc")
        self.scores, self.mini_index = str(self.at / "a.scores"), str(self.at / "mini.idx")
        class_images = ["--class-images", str(ROOT / "tests/golden/photos/class")]
        paper = ["find", "--method", "paper", "--subject", "dog", *class_images]
        parts = [["--shard", f"{i}/2", "--rho", "0", "--scores", str(self.at / f"part{i}")] for i in (1, 2)]
        self.parts = [str(self.at / f"part{i}") for i in (1, 2)]
        for arguments in (
            [*find, "--subject", "dog", "-o", self.index, "--scores", self.scores, self.photos],
            [*find, "--subject", "cat", "--token", "zwx", "-o", self.other, cat],
            [*paper, "--steps", "2", "-o", self.prompt_index, self.photos],
            [*find, "--subject", "dog", "--model", str(MINI), "-o", self.mini_index, self.mini_photos],
            *([*paper, "--steps", "4", *part, self.photos] for part in parts),
            ["generate", "a dog", *QUICK, "-o", str(self.at / "good.png"), "--concepts", self.index],
        ):
            ended = self.run(arguments)
            if ended.status != 0:
                raise SystemExit(f"{arguments}: {ended.error}")

    def begin(self, kind):
        self.kind, self.cases, self.failures = kind, 0, []
        self.chance = random.Random(f"{self.seed} {kind}")

    def some(self, everything, usually):
        """So many of all, times `--many`; all where there are no more."""
        everything = list(everything)
        count = round(usually * self.many)
        return everything if count >= len(everything) else self.chance.sample(everything, count)

    def start(self, arguments, cwd=None, **how):
        return Running(self.binary, arguments, cwd or self.out, **how)

    def run(self, arguments, limit=HANG, **how):
        return self.start(arguments, **how).end(limit)

    def clear(self):
        for path in self.out.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    def write(self, name, contents):
        path = self.at / name
        path.write_bytes(contents.encode() if isinstance(contents, str) else contents)
        return str(path)

    def model(self, name="m", of=MINI):
        """A copy of a model, to be changed."""
        path = self.at / name
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(of, path)
        return path

    def judge(self, name, ended, want=(0, 1), memory=MEMORY, killed=False, check=None, given=None, told=True):
        """One case more: what is wrong with it, if anything is."""
        problem = wrong(ended, want, memory, told) or left_over(self.out, killed)
        problem = problem or (check(ended) if check else None)
        self.cases += 1
        if problem:
            first = next(iter(ended.error.strip().splitlines()), "")
            line = UNSEEN.sub("?", f"{name}: {problem} | {first[:160]}")
            self.failures.append(line.encode("utf-8", "replace").decode())
            if self.keep and given:
                self.keep.mkdir(exist_ok=True)
                target = self.keep / f"{self.kind}-{self.cases}".replace(" ", "-").replace("/", "-")
                copy = shutil.copytree if pathlib.Path(given).is_dir() else shutil.copy
                copy(given, target)
        return problem

    def case(self, name, arguments, want=(0, 1), memory=MEMORY, check=None, given=None, limit=HANG, told=True, **how):
        """Runs and judges."""
        self.clear()
        ended = self.run(arguments, limit, **how)
        self.judge(name, ended, want, memory, check=check, given=given, told=told)
        return ended
