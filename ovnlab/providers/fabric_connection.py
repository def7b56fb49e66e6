"""A login of this process' own: a Fabric Connection that is root."""

from __future__ import annotations

import contextlib
import logging
import shlex
import socket
import threading
from collections.abc import Iterator
from typing import Any

import paramiko
from fabric import Config, Connection
from fabric.runners import Remote
from invoke.exceptions import CommandTimedOut
from invoke.runners import Result

from ovnlab.errors import LoginRefused, OvnlabError
from ovnlab.nodes.context import TimedOut, shell_words
from ovnlab.parallel import is_given_up
from ovnlab.providers.ssh_target import CONNECT_TIMEOUT, SshTarget, as_root
from ovnlab.waiting import CLOCK

ALIVE_INTERVAL = 10
"""Seconds of silence after which a connection is asked whether it lives."""


class _GivesUp(Remote):  # type: ignore[misc]  # Fabric ships no types
    """A runner like Fabric's that ends when nobody waits for its command any more."""

    def wait(self) -> None:
        """Return when the command has ended."""
        while not (self.process_is_finished or self.has_dead_threads):
            if is_given_up():
                self.kill()
            CLOCK.sleep(self.input_sleep)


class RootConnection(Connection):  # type: ignore[misc]  # Fabric ships no types
    """A Fabric Connection whose commands run as root. It trusts the host keys that it was given alone."""

    def __init__(self, name: str, reach: SshTarget, password: str | None = None) -> None:
        config = Config(overrides={"load_ssh_configs": False, "runners": {"remote": _GivesUp}}, lazy=True)
        super().__init__(
            reach.host,
            user=reach.user,
            port=reach.port,
            config=config,
            gateway=RootConnection(f"the way to {name}", reach.jump) if reach.jump else None,
            connect_timeout=int(CONNECT_TIMEOUT),
            connect_kwargs={
                "key_filename": [str(key) for key in reach.keys],
                "allow_agent": reach.agent,
                "look_for_keys": False,
                "password": password,
                "banner_timeout": CONNECT_TIMEOUT,
                "auth_timeout": CONNECT_TIMEOUT,
            },
        )
        _keep_quiet()
        client = paramiko.SSHClient()
        client.set_missing_host_key_policy(paramiko.RejectPolicy())
        if reach.known_hosts.exists():
            try:
                client.load_host_keys(str(reach.known_hosts))
            except (OSError, ValueError, paramiko.SSHException, paramiko.hostkeys.InvalidHostKey) as error:
                raise OvnlabError(f"cannot be read as host keys: {error}", where=str(reach.known_hosts)) from None
        self._set(client=client, machine=name, reach=reach, by_password=bool(password), opening=threading.Lock())

    def open(self) -> Any:
        """Log in, where that is not done. Raises OvnlabError that says why it cannot be."""
        with self.opening:
            if self.is_connected:
                return None
            try:
                opened = super().open()
            except paramiko.BadHostKeyException:
                raise self._refused("shows another host key than the one that is known") from None
            except paramiko.PasswordRequiredException:
                keys = " and ".join(map(str, self.reach.keys))
                hint = "ssh-add it, and say agent: true in the topology"
                raise LoginRefused(f"{keys} is encrypted", where=self.place, hint=hint) from None
            except paramiko.BadAuthenticationType as error:
                kind, hint = (
                    ("password", "") if self.by_password else ("key", "password: true in the topology asks for one")
                )
                said = f"takes no {kind}: {self.reach.user} gets in by {' or '.join(error.allowed_types)} only"
                raise LoginRefused(said, where=self.place, hint=hint) from None
            except paramiko.AuthenticationException:
                raise self._not_let_in() from None
            except paramiko.SSHException as error:
                if "not found in known_hosts" in str(error):
                    raise self._refused(
                        f"has a host key that is not in {self.reach.known_hosts}",
                        "compare it with what the machine's owner says: "
                        f"ssh-keyscan -p {self.reach.port} {self.reach.host} >> {self.reach.known_hosts}",
                    ) from None
                if "No authentication methods" in str(error):
                    hint = "is SSH_AUTH_SOCK set? ssh-add -l"
                    raise LoginRefused("there is no key to get in with", where=self.place, hint=hint) from None
                # Of a key that is refused Paramiko says that it is none of another kind, and stays connected.
                transport = self.client.get_transport()
                let_go = transport is None or not transport.is_active()
                otherwise = self._unreachable(str(error)) if let_go else self._not_let_in()
                raise self._of_keys() or otherwise from None
            except (OSError, EOFError) as error:
                said = getattr(error, "strerror", None) or str(error) or "no answer"
                raise self._of_keys() or self._unreachable(said) from None
            self.transport.set_keepalive(ALIVE_INTERVAL)
            return opened

    def run(self, command: str, **options: Any) -> Result:
        """Run a shell command as root. Raises TimedOut, and OvnlabError where the connection breaks."""
        options.pop("quick", None)  # logging in takes many times as long as a shell
        words = as_root(shell_words(command), sudo=self.reach.sudo)
        try:
            with self.unbroken():
                result: Result = super().run(shlex.join(words), **options)
        except CommandTimedOut as error:
            raise TimedOut(error.result.stderr) from None
        return result

    @contextlib.contextmanager
    def unbroken(self) -> Iterator[None]:
        """Say in so many words that the connection broke, where it does."""
        try:
            yield
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise self._unreachable(f"the connection broke: {error or 'no answer'}") from None

    @property
    def place(self) -> str:
        """Return what errors call it."""
        return f"{self.machine} ({self.reach.known_name})"

    def _of_keys(self) -> OvnlabError | None:
        """Return what is wrong with a key's file, None where nothing is; one that is encrypted may be the agent's."""
        for path in self.reach.keys:
            try:
                paramiko.PKey.from_path(path)
            except (paramiko.PasswordRequiredException, TypeError):  # the latter is what cryptography raises
                continue
            except OSError as error:
                return LoginRefused(f"{path} cannot be read: {error.strerror}", where=self.place)
            except (paramiko.SSHException, paramiko.UnknownKeyType, ValueError):  # type: ignore[attr-defined]  # not in its stubs
                return LoginRefused(f"{path} is not a private key", where=self.place)
        return None

    def _not_let_in(self) -> OvnlabError:
        means = ["that password"] if self.by_password else list(map(str, self.reach.keys))
        means += ["a key of your agent"] if self.reach.agent else []
        return LoginRefused(f"does not let {self.reach.user} in with {' or '.join(means)}", where=self.place)

    def _refused(self, message: str, hint: str = "") -> OvnlabError:
        return OvnlabError(message, where=self.place, hint=hint)

    def _unreachable(self, why: str) -> OvnlabError:
        where = f"{self.machine} ({self.reach.user}@{self.reach.known_name})"
        return OvnlabError(f"cannot be reached by SSH: {why}", where=where)


def _keep_quiet() -> None:
    """Keep what Paramiko logs off stderr, such as each try to reach a machine that boots: errors say what counts."""
    logger = logging.getLogger("paramiko")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())


def shown_key(reach: SshTarget) -> str:
    """Return the host key that a machine shows. Raises OvnlabError where it shows none."""
    name = f"{reach.user}@{reach.known_name}"
    try:
        with socket.create_connection((reach.host, reach.port), timeout=CONNECT_TIMEOUT) as found:
            transport = paramiko.Transport(found)
            try:
                transport.start_client(timeout=CONNECT_TIMEOUT)
                key = transport.get_remote_server_key()
            finally:
                transport.close()
    except (OSError, EOFError, paramiko.SSHException) as error:
        raise OvnlabError(f"cannot be reached by SSH: {error or 'no answer'}", where=name) from None
    return f"{key.get_name()} {key.get_base64()}"
