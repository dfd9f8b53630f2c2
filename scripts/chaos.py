#!/usr/bin/env python
"""Break servers, workers, disks and networks under real runs and look at what comes out.

    scripts/chaos.py [--fault NAME]... [--broker NAME]... [--seed N] [--out TABLE.md|TABLE.json]
    scripts/chaos.py --list

Each trial is one fault on one set of stores: `files` (SQLite and the broker in the state folder),
`redis` and `rabbitmq` (each with PostgreSQL, S3 and Elasticsearch servers, and two worker hosts).
The servers are the script's own, on ports of its own. After the fault the run must end, its bundle
must equal byte for byte the one that nobody disturbed, no case may be lost, and nothing may be left
behind: no scratch, half-written file, lease or message.

As root a worker host is a network, process-id and host-name namespace, joined to the servers by a
bridge; else it is a folder, and what needs a network to cut or a disk to fill is left out and shown
as such.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

import nibabel as nib
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
LEASE_SECONDS = 6
CUT_SECONDS = 120
HANG_SECONDS = 900  # no fault asserts a time: this only ends what hangs
CASES = 6  # of each of the two sources
SUMS = "SHA256SUMS"
PORTS = {"ES": 9311, "PG": 5651, "REDIS": 6451, "RABBITMQ": 5751}
KEYS = {"IMAGINGX_S3_ACCESS_KEY_ID": "test", "IMAGINGX_S3_SECRET_ACCESS_KEY": "test"}
CLOCK = r"""
/* Seconds in the file $CHAOS_CLOCK are added to the clock of the day, and to no other clock. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
static long jump(void) {
    char text[32] = "0";
    int file = open(getenv("CHAOS_CLOCK"), O_RDONLY | O_CLOEXEC);
    if (file >= 0) { if (read(file, text, 31) < 0) text[0] = 0; close(file); }
    return atol(text);
}
int clock_gettime(clockid_t id, struct timespec *t) {
    int result = REAL(clock_gettime)(id, t);
    if (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE) t->tv_sec += jump();
    return result;
}
int gettimeofday(struct timeval *restrict t, void *restrict zone) {
    int result = REAL(gettimeofday)(t, zone);
    t->tv_sec += jump();
    return result;
}
time_t time(time_t *t) {
    time_t now = REAL(time)(NULL) + jump();
    if (t) *t = now;
    return now;
}
int sem_timedwait(sem_t *restrict sem, const struct timespec *restrict until) {
    struct timespec real = {until->tv_sec - jump(), until->tv_nsec};
    return REAL(sem_timedwait)(sem, &real);
}
"""
SERVERS = {
    "files": (),
    "redis": ("redis", "postgres"),
    "rabbitmq": ("rabbitmq", "postgres"),
}


class Wrong(Exception):  # noqa: N818
    """The product did not do what it should."""


class NotHere(Exception):  # noqa: N818
    """The fault does not exist with these stores, or cannot be made on this machine."""


def sh(*words: str, check: bool = True, **more: Any) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(words, capture_output=True, text=True, check=False, **more)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(words)[:200]}: {done.stderr.strip()[-2000:]}")
    return done


def wait(
    what: str, holds: Callable[[], Any], seconds: float = HANG_SECONDS, pause: float = 0.01
) -> Any:
    """Until `holds()` is true; what it returned."""
    end = time.monotonic() + seconds
    while not (value := holds()):
        if time.monotonic() > end:
            raise Wrong(f"waited {seconds:.0f} s in vain: {what}")
        time.sleep(pause)
    return value


# ---- the recipe: made volumes of two sources, all stages within seconds ----
def write_sources(root: Path, seed: int) -> None:
    for source in ("chaos-a", "chaos-b"):
        for number in range(CASES):
            rng = np.random.default_rng([seed, number, source == "chaos-b"])
            coarse = np.kron(rng.normal(0, 150, (6, 6, 5)), np.ones((6, 6, 6)))
            image = rng.normal(100, 10, coarse.shape)
            image[9:27, 9:27, 8:22] += 400
            label = np.zeros(coarse.shape, np.uint8)
            label[11 : 18 + number, 11 : 19 + number, 9:20] = 1
            for kind, array in (
                ("images", (image + coarse).round().astype("f4")),
                ("labels", label),
            ):
                path = root / source / kind / f"case{number}.nii.gz"
                path.parent.mkdir(parents=True, exist_ok=True)
                nifti = nib.Nifti1Image(array, np.eye(4))
                nifti.set_sform(np.eye(4), 1)
                nib.save(nifti, path)


def recipe(tier: str = "none") -> dict[str, Any]:
    def member(name: str) -> dict[str, Any]:
        layer = {"path": "labels/{name}.nii.gz", "kind": "label_map", "values": {"1": "spleen"}}
        return {
            "id": name,
            "dataset": name,
            "location": {"kind": "local", "path": name},
            "description": {
                "name": name,
                "modality": "MR",
                "family": "MR",
                "dimension": "3D",
                "faces": "none",
                "cases": {"image": "images/{name}.nii.gz", "subject": "{name}"},
                "layers": [layer],
            },
        }

    return {
        "schema": "imaging-x/recipe/1",
        "title": "Two made sources",
        "task": "segmentation",
        "concepts": ["spleen"],
        "views": [],
        "baseline": {"tier": tier},
        "sources": [member("chaos-a"), member("chaos-b")],
    }


# ---- servers, networks, hosts ----
@dataclass
class Net:
    """A bridge with one namespace per worker host."""

    tag: str
    names: list[str] = field(default_factory=list)
    address = "10.213.77.1"

    def __enter__(self) -> Self:
        sh("ip", "link", "add", self.tag, "type", "bridge")
        sh("ip", "addr", "add", f"{self.address}/24", "dev", self.tag)
        sh("ip", "link", "set", self.tag, "up")
        return self

    def add(self) -> str:
        number = len(self.names) + 2
        name = f"{self.tag}h{number}"
        self.names.append(name)
        sh("ip", "netns", "add", name)
        sh("ip", "link", "add", name, "type", "veth", "peer", "name", "e0", "netns", name)
        sh("ip", "link", "set", name, "master", self.tag, "up")
        inside = ("ip", "netns", "exec", name, "ip")
        sh(*inside, "addr", "add", f"10.213.77.{number}/24", "dev", "e0")
        sh(*inside, "link", "set", "e0", "up")
        sh(*inside, "link", "set", "lo", "up")
        return name

    @staticmethod
    def cut(name: str, *, off: bool) -> None:
        sh("ip", "link", "set", name, "down" if off else "up")

    def __exit__(self, *_: object) -> None:
        for name in self.names:
            sh("ip", "netns", "del", name, check=False)
            sh("ip", "link", "del", name, check=False)
        sh("ip", "link", "del", self.tag, check=False)


def can_isolate() -> bool:
    """Root that may make namespaces and bridges."""
    if os.geteuid() or not shutil.which("ip") or not shutil.which("unshare"):
        return False
    with ExitStack() as stack:
        try:
            stack.enter_context(Net(f"ixp{os.getpid() % 10000}")).add()
        except RuntimeError:
            return False
    return True


@dataclass
class Servers:
    """What scripts/services.sh starts, in a folder and on ports of their own, and S3."""

    folder: Path
    address: str
    started: set[str] = field(default_factory=set)
    s3_process: subprocess.Popen[bytes] | None = None
    s3_port: int = 0

    @cached_property
    def environment(self) -> dict[str, str]:
        ports = {f"IMAGINGX_SERVICES_{name}_PORT": str(port) for name, port in PORTS.items()}
        place = {
            "IMAGINGX_SERVICES_DIR": str(self.folder),
            "IMAGINGX_SERVICES_HOST": self.address,
        }
        return {**os.environ, **ports, **place}

    def start(self, *names: str) -> None:
        self.started |= set(names)
        script = str(ROOT / "scripts" / "services.sh")
        # A daemon keeps the pipe of its parent open: its answer goes to a file.
        with (self.folder / "services.log").open("ab") as log:
            subprocess.run(
                [script, "start", *names], env=self.environment, stdout=log, stderr=log, check=True
            )

    def pid(self, name: str) -> int:
        where = {"postgres": "postgres/data/postmaster.pid"}.get(name, f"{name}/pid")
        return int((self.folder / where).read_text().split()[0])

    def kill(self, name: str) -> None:
        """SIGKILL; PostgreSQL ends at once without a checkpoint (its immediate shutdown)."""
        pid = self.pid(name)
        os.kill(pid, signal.SIGQUIT if name == "postgres" else signal.SIGKILL)
        wait(f"{name} is dead", lambda: not _alive(pid), 60)

    def start_s3(self) -> None:
        with socket.socket() as free:
            free.bind((self.address, 0))
            self.s3_port = free.getsockname()[1]
        log = (self.folder / "s3.log").open("wb")
        command = [sys.executable, "-m", "moto.server", "-H", self.address]
        self.s3_process = subprocess.Popen(
            [*command, "-p", str(self.s3_port)], stdout=log, stderr=log
        )

        def is_up() -> bool:
            with suppress(OSError):
                socket.create_connection((self.address, self.s3_port), 1).close()
                return True
            return False

        wait("the S3 server answers", is_up, 60)
        self.s3.create_bucket(Bucket="chaos")

    @property
    def s3_url(self) -> str:
        return f"http://{self.address}:{self.s3_port}"

    @cached_property
    def s3(self) -> Any:
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.s3_url,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",  # noqa: S106
        )

    def url(self, name: str) -> str:
        place = {
            "postgres": f"postgres://imagingx@{self.address}:{PORTS['PG']}/imagingx",
            "redis": f"redis://{self.address}:{PORTS['REDIS']}/0",
            "rabbitmq": f"amqp://guest:guest@{self.address}:{PORTS['RABBITMQ']}//",
            "elasticsearch": f"http://{self.address}:{PORTS['ES']}",
        }
        return place[name]

    def stop(self) -> None:
        if self.s3_process:
            self.s3_process.kill()
            self.s3_process.wait()
        for name in sorted(self.started):
            sh(
                str(ROOT / "scripts" / "services.sh"),
                "stop",
                name,
                env=self.environment,
                check=False,
            )


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@dataclass
class Host:
    """A worker host: a state folder, and a namespace where there is one."""

    name: str
    state: Path
    logs: Path
    environment: Mapping[str, str]
    namespace: str = ""
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start_worker(self, **more: str) -> subprocess.Popen[bytes]:
        log = self.logs / f"{self.name}-{len(self.workers)}.log"
        inside: list[str] = []
        if self.namespace:
            unshare = ["unshare", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
            run = f'hostname {self.name}; exec "$@"'
            inside = ["ip", "netns", "exec", self.namespace, *unshare, "sh", "-c", run, "sh"]
        with log.open("wb") as out:
            worker = subprocess.Popen(
                [*inside, sys.executable, "manage.py", "run_worker"],
                cwd=ROOT,
                env={**self.environment, **more},
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self.workers.append(worker)
        return worker

    def signal(self, number: signal.Signals) -> None:
        """To all its processes that still run."""
        for worker in self.workers:
            if worker.poll() is None:
                os.killpg(worker.pid, number)
                if number == signal.SIGKILL:
                    worker.wait()

    def stop(self) -> None:
        """SIGTERM to each worker itself, as a supervisor does."""
        for worker in self.workers:
            if worker.poll() is None:
                os.kill(_leader(worker.pid) if self.namespace else worker.pid, signal.SIGTERM)
        for worker in self.workers:
            try:
                worker.wait(180)
            except subprocess.TimeoutExpired:
                raise Wrong(f"{self.name}: a worker runs on 180 s after SIGTERM") from None

    def text(self) -> str:
        return "\n".join(path.read_text("utf-8", "replace") for path in self._log_files())

    def _log_files(self) -> list[Path]:
        return sorted(self.logs.glob(f"{self.name}-*.log"))


def _leader(pid: int) -> int:
    """The first process inside the namespace that `unshare` made."""
    children = _children(pid)
    return int(children[0]) if children else pid


# ---- one trial ----
@dataclass
class Trial:
    """A portal of its own: database, queue, storage, worker hosts."""

    broker: str
    folder: Path
    data: Path
    seed: int
    servers: Servers
    net: Net | None
    references: dict[str, Path]
    name: str
    template: str = ""
    hosts: list[Host] = field(default_factory=list)
    mounts: list[Path] = field(default_factory=list)
    tier: str = "none"
    extra: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = random.Random(f"{self.seed} {self.name} {self.broker}")  # noqa: S311
        self.logs = self.folder / "logs"
        self.logs.mkdir(parents=True)

    @property
    def has_servers(self) -> bool:
        return bool(SERVERS[self.broker])

    @cached_property
    def database(self) -> str:
        """URL of the trial's own PostgreSQL database, a copy of `template`."""
        import psycopg

        name = re.sub(r"\W", "_", f"chaos_{self.name}_{self.broker}")
        with psycopg.connect(self.servers.url("postgres"), autocommit=True) as admin:
            admin.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
            source = f'TEMPLATE "{self.template}"' if self.template else ""
            admin.execute(f'CREATE DATABASE "{name}" {source}')
        return urlunsplit(urlsplit(self.servers.url("postgres"))._replace(path=f"/{name}"))

    @cached_property
    def prefix(self) -> str:
        return f"{self.name}-{self.broker}"

    def host(self, number: int = 0) -> Host:
        """A worker host; made when first asked for."""
        while len(self.hosts) <= number:
            name = f"host{len(self.hosts)}"
            state = self.folder / (name if self.has_servers else "state")
            state.mkdir(exist_ok=True)
            namespace = self.net.add() if self.net and self.has_servers else ""
            environment = self.environment(state)
            self.hosts.append(Host(name, state, self.logs, environment, namespace))
        return self.hosts[number]

    def environment(self, state: Path) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("IMAGINGX_", "DJANGO_"))}
        values = {
            "IMAGINGX_STATE_DIR": str(state),
            "IMAGINGX_DATA_ROOT": str(self.data),
            "IMAGINGX_THREADS": "1",
            "IMAGINGX_DEVICE": "cpu",
            "IMAGINGX_RUN_LEASE_SECONDS": str(LEASE_SECONDS),
            "IMAGINGX_DISK_RESERVE_GB": "0",
            **self.extra,
        }
        if self.has_servers:
            values |= {
                "IMAGINGX_DATABASE_URL": self.database,
                "IMAGINGX_BROKER_URL": self.servers.url(self.broker),
                "IMAGINGX_STORAGE_URL": f"s3://chaos/{self.prefix}",
                "IMAGINGX_S3_ENDPOINT_URL": self.servers.s3_url,
                "AWS_DEFAULT_REGION": "us-east-1",
                **KEYS,
            }
        return {**kept, **values}

    def manage(self, *words: str) -> subprocess.Popen[str]:
        """A command of the portal, on the first host's folder but outside its namespace."""
        return subprocess.Popen(
            [sys.executable, "manage.py", *words],
            cwd=ROOT,
            env=self.environment(self.host().state),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def done(self, command: subprocess.Popen[str]) -> str:
        out, error = command.communicate(timeout=HANG_SECONDS)
        if command.returncode:
            raise Wrong(f"a command failed: {error[-1500:]}")
        return out

    def make_schema(self) -> None:
        """Tables and the two datasets."""
        self.done(self.manage("migrate", "-v0"))
        rows = "Dataset(slug=s, name=s, digest='0' * 64) for s in ('chaos-a', 'chaos-b')"
        code = f"from catalog.models import Dataset; Dataset.objects.bulk_create({rows})"
        self.done(self.manage("shell", "-v0", "-c", code))

    def prepare(self) -> None:
        """The schema of the template; nothing in the queue."""
        if not self.has_servers:
            shutil.copyfile(self.template, self.host().state / "db.sqlite3")
        if self.broker == "redis":
            self.redis.flushall()
        if self.broker == "rabbitmq":
            for queue in self.amqp_queues():
                with self.amqp() as channel:
                    channel.queue_purge(queue)

    def submitting(self) -> subprocess.Popen[str]:
        file = self.folder / "recipe.json"
        file.write_text(json.dumps(recipe(self.tier)))
        code = (
            "import json; from workers.submit import submit_run; "
            f"print('run', submit_run(json.load(open({str(file)!r}))).pk.hex)"
        )
        return self.manage("shell", "-v0", "-c", code)

    def submit(self, tier: str = "none") -> None:
        self.tier = tier
        self.done(self.submitting())

    # -- what the rows say --
    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        if not self.has_servers:
            with sqlite3.connect(self.host().state / "db.sqlite3", timeout=60) as database:
                return database.execute(sql).fetchall()
        import psycopg

        with psycopg.connect(self.database, connect_timeout=10) as server:
            return server.execute(sql).fetchall()

    def run_state(self) -> str:
        return str(self.ask("SELECT state FROM workers_run")[0][0])

    def stages(self) -> dict[str, str]:
        return dict(self.ask("SELECT name, state FROM workers_runstage ORDER BY position"))

    def reached(self, stage: str) -> bool:
        return self.stages()[stage] != "waiting"

    def wait_for(self, stage: str) -> None:
        """The stage has begun; then a seeded moment more."""
        wait(f"stage {stage} begins", lambda: self.reached(stage) or self.ended())
        time.sleep(self.random.uniform(0, 0.2))

    def ended(self) -> bool:
        return self.run_state() not in {"queued", "running"}

    def leases(self) -> set[str]:
        """Who holds something just now: a run or a part of one."""
        found: set[str] = set()
        for table in self._tables_with("lease_until") & self._tables_with("worker"):
            rows = self.ask(f"SELECT worker FROM {table} WHERE lease_until IS NOT NULL")  # noqa: S608
            found |= {str(row[0]) for row in rows}
        return found

    def holders(self) -> set[str]:
        """Names of the hosts that hold something."""
        return {token.split("/")[0] for token in self.leases()}

    def _tables_with(self, column: str) -> set[str]:
        if self.has_servers:
            sql = (
                "SELECT table_name FROM information_schema.columns "  # noqa: S608
                f"WHERE column_name = '{column}' AND table_name LIKE 'workers_%'"
            )
        else:
            sql = (
                "SELECT m.name FROM sqlite_master m, pragma_table_info(m.name) c "  # noqa: S608
                f"WHERE m.type = 'table' AND c.name = '{column}' AND m.name LIKE 'workers_%'"
            )
        return {str(row[0]) for row in self.ask(sql)}

    # -- queues --
    @cached_property
    def redis(self) -> Any:
        import redis

        return redis.Redis.from_url(self.servers.url("redis"))

    @contextmanager
    def amqp(self) -> Iterator[Any]:
        from kombu import Connection

        with Connection(self.servers.url("rabbitmq"), heartbeat=0) as connection:
            yield connection.channel()

    def amqp_queues(self) -> dict[str, int]:
        """Durable queues that exist -> messages that wait in them."""
        found = {}
        for name in ("cpu", "gpu", "io", "celery"):
            with self.amqp() as channel, suppress(Exception):
                found[name] = int(channel.queue_declare(name, passive=True).message_count)
        return found

    def messages(self) -> dict[str, int]:
        """What lies in the queue; messages that a living worker holds count where they are seen."""
        if self.broker == "files":
            left = [p.name for p in (self.host().state / "queue").iterdir()]
            return {"files": len(left)} if left else {}
        if self.broker == "redis":
            found = {}
            for key in self.redis.keys("*"):
                kind = self.redis.type(key)
                if kind == b"list":
                    found[key.decode()] = self.redis.llen(key)
                elif key.startswith(b"unacked"):
                    found[key.decode()] = 1
            return {k: v for k, v in found.items() if v and k != "unacked_mutex"}
        return {name: count for name, count in self.amqp_queues().items() if count}

    # -- what must hold at the end --
    def check_ended(self) -> None:
        wait("the run ends", self.ended, pause=0.2)
        rows = self.ask("SELECT state, error_code, error FROM workers_run")
        if [row[0] for row in rows] != ["succeeded"]:
            raise Wrong(f"runs: {rows}")

    def check(self) -> None:
        self.check_ended()
        unfinished = {k: v for k, v in self.stages().items() if v != "done"}
        if unfinished:
            raise Wrong(f"stages of a run that succeeded: {unfinished}")
        cases = self.ask("SELECT state, COUNT(*) FROM workers_runcase GROUP BY state")
        if dict(cases) != {"used": 2 * CASES}:
            raise Wrong(f"cases: {dict(cases)}, expected {2 * CASES} used")
        self.check_bundle()
        with suppress(Wrong):  # what it is, is said below
            wait("nothing is left behind", lambda: not self.left_behind(), 120, pause=0.5)
        for host in self.hosts:
            host.signal(signal.SIGCONT)
            host.stop()
        if left := self.left_behind():
            raise Wrong(f"left behind after the workers ended: {left}")
        self.check_bundle()

    def left_behind(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for table in sorted(self._tables_with("lease_until")):
            sql = f"SELECT COUNT(*) FROM {table} WHERE lease_until IS NOT NULL"  # noqa: S608
            if held := self.ask(sql)[0][0]:
                found[f"leases in {table}"] = held
        if messages := self.messages():
            found["messages"] = messages
        for host in self.hosts:
            if scratch := _scratch(host):
                found[f"scratch of {host.name}"] = scratch
            halves = [  # os.walk passes over what is removed while it looks
                str((Path(folder) / name).relative_to(host.state))
                for folder, _, names in os.walk(host.state)
                for name in names
                if name.endswith((".partial", ".part", ".taken", ".tmp"))
            ]
            if halves:
                found[f"half-written on {host.name}"] = halves[:5]
        return found

    def check_bundle(self) -> None:
        """One bundle, equal to the undisturbed one in each byte that any of its sums covers."""
        (count,) = self.ask("SELECT COUNT(*) FROM fusion_bundle")[0]
        if count != 1:
            raise Wrong(f"{count} rows of bundles, expected 1")
        reference = self.references[self.tier]
        sums = {path.relative_to(reference): path.read_text() for path in reference.rglob(SUMS)}
        files = self.bundle_files()
        names = {name.partition("/")[0] for name in files}
        if len(names) != 1:
            raise Wrong(f"bundles in the storage: {sorted(names)}, expected one")
        (bundle,) = names
        for name, wanted in sums.items():
            if files.pop(f"{bundle}/{name}", b"").decode() != wanted:
                raise Wrong(f"{name} differs from that of the undisturbed run")
        files.pop(f"{bundle}/build_info.json", None)
        lines = "".join(sums.values()).splitlines()
        listed = dict(line.split(maxsplit=1)[::-1] for line in lines)
        stored = {
            name.partition("/")[2]: hashlib.sha256(data).hexdigest() for name, data in files.items()
        }
        if stored != listed:
            wrong = sorted(set(stored.items()) ^ set(listed.items()))
            raise Wrong(f"files of the bundle differ from its sums: {wrong[:3]}")

    def bundle_files(self) -> dict[str, bytes]:
        if not self.has_servers:
            root = self.host().state / "bundles"
            paths = [p for p in root.rglob("*") if p.is_file()]
            return {p.relative_to(root).as_posix(): p.read_bytes() for p in paths}
        pages = self.servers.s3.get_paginator("list_objects_v2")
        rows = [
            row["Key"]
            for page in pages.paginate(Bucket="chaos", Prefix=f"{self.prefix}/")
            for row in page.get("Contents", [])
            if not row["Key"].startswith(f"{self.prefix}/work/")  # finished cases, kept for others
        ]
        return {
            key.removeprefix(f"{self.prefix}/"): self.servers.s3.get_object(
                Bucket="chaos", Key=key
            )["Body"].read()
            for key in rows
        }

    def close(self) -> None:
        for host in self.hosts:
            host.signal(signal.SIGKILL)
        for mount in self.mounts:
            sh("umount", "-l", str(mount), check=False)


# ---- faults: each starts workers, submits, breaks something, and says what it did ----
def undisturbed(trial: Trial) -> str:
    trial.host().start_worker()
    trial.submit()
    return "nothing is broken"


def kill_worker(trial: Trial) -> str:
    """SIGKILL the worker and its children in each stage in turn."""
    trial.submit("smoke")
    hit = []
    for stage in trial.stages():
        if trial.ended():
            break
        trial.host().start_worker()
        trial.wait_for(stage)
        trial.host().signal(signal.SIGKILL)
        running = [name for name, state in trial.stages().items() if state == "running"]
        hit.append(running[0] if running else f"after {stage}")
    trial.host().start_worker()
    return f"killed {len(hit)} times, in {', '.join(hit)}"


def kill_broker(trial: Trial) -> str:
    """SIGKILL the broker in mid-run, away for longer than a lease; of files: all messages go."""
    trial.host().start_worker()
    trial.submit()
    trial.wait_for("harmonise")
    if trial.broker == "files":
        for stage in ("harmonise", "split", "package"):
            trial.wait_for(stage)
            for path in (trial.host().state / "queue").iterdir():
                path.unlink(missing_ok=True)
        return "queue folder emptied three times"
    trial.servers.kill(trial.broker)
    time.sleep(LEASE_SECONDS + 2)
    trial.servers.start(trial.broker)
    return f"SIGKILL in harmonise, {LEASE_SECONDS + 2} s away"


def kill_database(trial: Trial) -> str:
    """PostgreSQL ends at once and comes back; SQLite stays locked longer than anyone waits."""
    trial.host().start_worker()
    trial.submit()
    trial.wait_for("harmonise")
    if not trial.has_servers:
        path = trial.host().state / "db.sqlite3"
        with sqlite3.connect(path, isolation_level=None, timeout=60) as database:
            database.execute("BEGIN EXCLUSIVE")
            time.sleep(40)
            database.execute("ROLLBACK")
        return "database locked for 40 s"
    trial.servers.kill("postgres")
    time.sleep(LEASE_SECONDS + 2)
    trial.servers.start("postgres")
    return f"immediate shutdown in harmonise, {LEASE_SECONDS + 2} s away"


def full_disk(trial: Trial) -> str:
    """The state folder's file system has not one byte left in mid-run, then room again."""
    if not can_isolate():
        raise NotHere("needs root to mount a small file system")
    host = trial.host()
    state = host.state
    kept = shutil.copytree(state, trial.folder / "kept")
    sh("mount", "-t", "tmpfs", "-o", "size=200m", "tmpfs", str(state))
    trial.mounts.append(state)
    shutil.copytree(kept, state, dirs_exist_ok=True)
    trial.submit()
    host.start_worker()
    trial.wait_for("ingest")
    ballast = state / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1 << 16))
    with ballast.open("ab", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"0")

    def noticed() -> bool:
        text = host.text().lower()
        return trial.ended() or "disk_full" in text or "disk is full" in text or "no space" in text

    wait("the full disk is noticed", noticed, pause=0.3)
    time.sleep(3)
    state_then = trial.run_state()
    ballast.unlink()
    return f"ENOSPC on the state folder; the run was {state_then} then"


def cut_network(trial: Trial) -> str:
    """The link of the host at work goes down until another has ended the run, then comes back."""
    if not trial.has_servers:
        raise NotHere("no network between the embedded stores")
    if not trial.net:
        raise NotHere("needs root to make network namespaces")
    first, second = trial.host(0), trial.host(1)
    first.start_worker()
    trial.submit()
    trial.wait_for("harmonise")
    trial.net.cut(first.namespace, off=True)
    cut_at = time.monotonic()
    held = trial.holders()
    second.start_worker()
    wait("another host takes the run over", lambda: "host1" in trial.holders() or trial.ended())
    taken = time.monotonic() - cut_at
    wait("the run ends without the cut host", trial.ended, pause=0.2)
    finished = trial.ask("SELECT finished_at FROM workers_run")
    rest = max(0.0, CUT_SECONDS - (time.monotonic() - cut_at))
    time.sleep(rest)
    trial.net.cut(first.namespace, off=False)
    back = time.monotonic()
    wait("the cut host cleans up", lambda: not _scratch(first), pause=0.5)
    heard = time.monotonic() - back
    if trial.ask("SELECT finished_at FROM workers_run") != finished:
        raise Wrong("the cut worker wrote to a run that another had ended")
    return (
        f"held by {', '.join(sorted(held))}, taken over after {taken:.0f} s, "
        f"cut for {back - cut_at:.0f} s, cleaned up {heard:.0f} s after"
    )


def _scratch(host: Host) -> list[str]:
    work = host.state / "work"
    return [path.name for path in work.iterdir()] if work.is_dir() else []


def freeze_worker(trial: Trial) -> str:
    """SIGSTOP the holder for longer than its lease, SIGCONT when another worker has gone on."""
    first = trial.host(0)
    first.start_worker()
    trial.submit()
    trial.wait_for("harmonise")
    first.signal(signal.SIGSTOP)
    if trial.has_servers:
        trial.host(1).start_worker()
    else:
        other = Host("other", first.state, trial.logs, first.environment)
        trial.hosts.append(other)
        other.start_worker()
    before = trial.leases()
    wait(
        "another worker takes the run over",
        lambda: trial.ended() or (trial.leases() - before),
    )
    first.signal(signal.SIGCONT)
    return "frozen in harmonise until its lease had passed on, then awake beside the other"


def slow_stage(trial: Trial) -> str:
    """A stage holds its message for longer than RabbitMQ allows; the worker may not end of it."""
    if trial.broker != "rabbitmq":
        raise NotHere("only RabbitMQ takes a message back from a living worker")
    patience = "IMAGINGX_SERVICES_CONSUMER_TIMEOUT"
    trial.servers.kill("rabbitmq")
    trial.servers.environment[patience] = "10000"
    trial.servers.start("rabbitmq")
    try:
        worker = trial.host().start_worker()
        trial.submit()
        trial.wait_for("harmonise")
        main = _leader(worker.pid) if trial.host().namespace else worker.pid
        children = [int(pid) for pid in _children(main)]
        for pid in children:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(150)  # RabbitMQ looks once a minute
        for pid in children:
            os.kill(pid, signal.SIGCONT)
        trial.check_ended()
        if worker.poll() is not None:
            raise Wrong(f"the worker ended with {worker.returncode}")
    finally:
        trial.servers.kill("rabbitmq")
        del trial.servers.environment[patience]
        trial.servers.start("rabbitmq")
    return "its child frozen for 150 s with a consumer_timeout of 10 s"


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def stop_search(trial: Trial) -> str:
    """Elasticsearch ends in mid-run and stays away."""
    if not trial.has_servers:
        raise NotHere("the embedded search is in the process")
    trial.servers.start("elasticsearch")
    trial.extra = {
        "IMAGINGX_SEARCH_URL": trial.servers.url("elasticsearch"),
        "IMAGINGX_SEARCH_INDEX": f"chaos-{trial.broker}",
    }
    trial.host().environment = trial.environment(trial.host().state)
    trial.done(trial.manage("reindex_search"))
    trial.host().start_worker()
    trial.submit()
    trial.wait_for("harmonise")
    trial.servers.kill("elasticsearch")
    return "SIGKILL in harmonise, not started again"


def twice(trial: Trial) -> str:
    """The same recipe from two processes at once, two workers."""
    trial.host(0).start_worker()
    trial.host(1).start_worker() if trial.has_servers else trial.host(0).start_worker()
    both = [trial.submitting(), trial.submitting()]
    answers = {trial.done(one).split("run ")[1].strip() for one in both}
    if len(answers) != 1:
        raise Wrong(f"two runs of one recipe: {answers}")
    return "both submissions got the same run"


def clock_of(trial: Trial) -> tuple[Path, dict[str, str]]:
    """A file of seconds that the clock of a worker started with this environment is ahead."""
    if not (compiler := shutil.which("cc")):
        raise NotHere("needs a C compiler: apt-get install gcc libc6-dev")
    source, library, clock = (trial.folder / name for name in ("clock.c", "clock.so", "clock"))
    source.write_text(CLOCK)
    sh(compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl")
    clock.write_text("0")
    return clock, {"LD_PRELOAD": str(library), "CHAOS_CLOCK": str(clock)}


def clock_jump(trial: Trial) -> str:
    """The clock of a worker host jumps by an hour, forth in one stage and back in another."""
    clock, fake = clock_of(trial)
    trial.host(0).start_worker(**fake)
    if trial.has_servers:  # on one host all processes see the jump; others keep their own time
        trial.host(1).start_worker()
    else:
        trial.host(0).start_worker(**fake)
    trial.submit()
    for stage, offset in (("harmonise", "3600"), ("split", "-3600"), ("package", "0")):
        trial.wait_for(stage)
        clock.write_text(offset)
    return "one host of two" if trial.has_servers else "the whole host"


def kill_jumped(trial: Trial) -> str:
    """A worker whose clock is an hour ahead is killed: its run may not wait for that hour."""
    clock, fake = clock_of(trial)
    clock.write_text("3600")
    trial.host(0).start_worker(**fake)
    trial.submit()
    trial.wait_for("harmonise")
    trial.host(0).signal(signal.SIGKILL)
    if trial.has_servers:  # it never comes back to clean up
        shutil.rmtree(trial.host(0).state / "work", ignore_errors=True)
    trial.host(1 if trial.has_servers else 0).start_worker()
    return "killed in harmonise, its clock an hour ahead"


def two_hosts(trial: Trial) -> str:
    """Two worker hosts with disks of their own share one run."""
    if not trial.has_servers:
        raise NotHere("the embedded stores are of one host")
    seen: set[str] = set()
    trial.host(0), trial.host(1)
    trial.submit()
    trial.host(0).start_worker()
    trial.host(1).start_worker()

    def look() -> bool:
        seen.update(trial.holders())
        return trial.ended()

    wait("the run ends", look)
    if seen != {"host0", "host1"}:
        raise Wrong(f"leases were seen of {sorted(seen)}, expected both hosts")
    return "leases seen of both hosts"


def lost_host(trial: Trial) -> str:
    """A host with its scratch disappears for good; another with an empty disk goes on."""
    if not trial.has_servers:
        raise NotHere("the embedded stores are of one host")
    trial.host(0).start_worker()
    trial.submit()
    trial.wait_for("package")
    trial.host(0).signal(signal.SIGKILL)
    shutil.rmtree(trial.host(0).state / "work", ignore_errors=True)
    trial.host(1).start_worker()
    return "killed in package, its scratch deleted"


FAULTS: dict[str, Callable[[Trial], str]] = {
    "none": undisturbed,
    "two-hosts": two_hosts,
    "twice": twice,
    "kill-worker": kill_worker,
    "freeze-worker": freeze_worker,
    "lost-host": lost_host,
    "kill-broker": kill_broker,
    "kill-database": kill_database,
    "cut-network": cut_network,
    "full-disk": full_disk,
    "slow-stage": slow_stage,
    "stop-search": stop_search,
    "clock-jump": clock_jump,
    "kill-jumped": kill_jumped,
}


# ---- the table ----
@dataclass
class Result:
    fault: str
    broker: str
    result: str  # pass, FAIL, or - where the fault does not exist
    seconds: float
    detail: str


@contextmanager
def arena(brokers: Sequence[str], seed: int, keep: Path | None = None) -> Iterator[Arena]:
    """Servers, sources and undisturbed bundles for any number of trials."""
    with ExitStack() as stack:
        folder = keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)  # the servers' account passes through
        net = None
        if can_isolate() and any(SERVERS[broker] for broker in brokers):
            net = stack.enter_context(Net(f"ixc{os.getpid() % 10000}"))
        servers = Servers(folder / "servers", net.address if net else "127.0.0.1")
        servers.folder.mkdir(exist_ok=True)
        stack.callback(servers.stop)
        if names := sorted({name for broker in brokers for name in SERVERS[broker]}):
            servers.start(*names)
            servers.start_s3()
        one = Arena(folder, seed, servers, net)
        write_sources(one.data, seed)
        yield one


@dataclass
class Arena:
    """What all trials share."""

    folder: Path
    seed: int
    servers: Servers
    net: Net | None
    references: dict[str, Path] = field(default_factory=dict)
    templates: dict[bool, str] = field(default_factory=dict)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def trial(self, name: str, broker: str, template: str = "") -> Trial:
        folder = self.folder / f"{name}-{broker}"
        shutil.rmtree(folder, ignore_errors=True)
        place = (self.data, self.seed, self.servers, self.net, self.references)
        return Trial(broker, folder, *place, name, template)

    def template(self, broker: str) -> str:
        """Name or file of a database with the schema and the two datasets."""
        kind = bool(SERVERS[broker])
        if kind not in self.templates:
            made = self.trial("template", broker)
            made.make_schema()
            file = str(made.host().state / "db.sqlite3")
            self.templates[kind] = urlsplit(made.database).path[1:] if kind else file
        return self.templates[kind]

    def reference(self, tier: str) -> None:
        """The bundle that one command builds in one process."""
        if tier in self.references:
            return
        trial = self.trial(f"undisturbed-{tier}", "files", self.template("files"))
        trial.prepare()
        out, file = trial.folder / "bundle", trial.folder / "recipe.json"
        file.write_text(json.dumps(recipe(tier)))
        trial.done(trial.manage("fuse", str(file), "--out", str(out)))
        self.references[tier] = out

    def run(self, fault: str, broker: str) -> Result:
        """One trial; its logs stay when it failed and the folder is kept."""
        self.reference("smoke" if fault == "kill-worker" else "none")
        trial = self.trial(fault, broker, self.template(broker))
        start = time.monotonic()
        try:
            trial.prepare()
            detail, result = FAULTS[fault](trial), "pass"
            trial.check()
        except NotHere as reason:
            detail, result = str(reason), "-"
        except Wrong as wrong:
            detail, result = str(wrong), "FAIL"
        except Exception as error:  # noqa: BLE001 - one broken trial must not hide the others
            traceback.print_exc()
            detail, result = f"the trial itself broke: {type(error).__name__}: {error}", "FAIL"
        finally:
            trial.close()
        if result == "FAIL":
            for host in trial.hosts:
                print(f"--- {host.name}\n{host.text()[-6000:]}", file=sys.stderr)
        return Result(fault, broker, result, round(time.monotonic() - start, 1), detail)


def markdown(results: Sequence[Result]) -> str:
    brokers = list(dict.fromkeys(one.broker for one in results))
    cell = {(one.fault, one.broker): one.result for one in results}
    lines = [f"| fault | {' | '.join(brokers)} |", f"| --- |{' --- |' * len(brokers)}"]
    for fault in dict.fromkeys(one.fault for one in results):
        row = " | ".join(cell.get((fault, broker), "") for broker in brokers)
        lines.append(f"| {fault} | {row} |")
    lines += [
        "",
        "| fault | stores | result | s | what was done |",
        "| --- | --- | --- | --- | --- |",
    ]
    for one in results:
        detail = one.detail.replace("|", "/").replace("\n", " ")[:400]
        lines.append(
            f"| {one.fault} | {one.broker} | {one.result} | {one.seconds:.0f} | {detail} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--fault", action="append", choices=FAULTS, help="default: all")
    parser.add_argument("--broker", action="append", choices=SERVERS, help="default: all")
    parser.add_argument("--seed", type=int, default=0, help="of the volumes and of the moments")
    parser.add_argument("--out", type=Path, help="where to write the table: .md or .json")
    parser.add_argument("--keep", type=Path, help="a new folder for state and logs, which stays")
    parser.add_argument("--list", action="store_true", help="print the faults")
    options = parser.parse_args()
    if options.list:
        for name, inject in FAULTS.items():
            print(f"{name:14} {(inject.__doc__ or 'Nothing is broken.').strip()}")
        return 0
    brokers = options.broker or list(SERVERS)
    results = []
    with arena(brokers, options.seed, options.keep) as place:
        for name in options.fault or FAULTS:
            for broker in brokers:
                results.append(place.run(name, broker))
                one = results[-1]
                print(
                    f"{one.fault:14} {one.broker:9} {one.result:5} {one.seconds:6.1f} s", end="  "
                )
                print(one.detail[:500], flush=True)
    table = markdown(results)
    print(f"\n{table}")
    if options.out and options.out.suffix == ".json":
        options.out.write_text(json.dumps([vars(one) for one in results], indent=1) + "\n")
    elif options.out:
        options.out.write_text(table)
    return int(any(one.result == "FAIL" for one in results))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # servers and namespaces go as well
    sys.exit(main())
