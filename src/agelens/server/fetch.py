"""Pictures from web addresses, where a server allows it: only of the public internet, whatever a name or page leads to.

An address is refused unless every address that its name stands for is public, and none is this machine's own. The
connection is made to one of those that were checked, so that a name which means something else a moment later leads
nowhere. Each redirect is checked again. No proxy, no cookie, no credentials; bounded in time, bytes and redirects.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, quote, urljoin, urlsplit

import h11

from agelens import __version__
from agelens.errors import TooManyBytesError, UrlFetchError, UrlNotAllowedError

if TYPE_CHECKING:
    from agelens.server.admission import Lease

TIMEOUT: Final = 15.0
"""Seconds for everything: names, connections, redirects, the picture."""

MOST_REDIRECTS: Final = 4
PORTS: Final = {"http": 80, "https": 443}
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_BLOCK: Final = 1 << 16
_NOT_OWN: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})
"""What a system says of an address that it hasn't, or of a kind that it doesn't know."""
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
_COMPATIBLE: Final = ipaddress.ip_network("::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


def is_elsewhere(address: Address) -> bool:
    """Whether an address belongs to the public internet, and not to this machine.

    Raises:
        OSError: The system doesn't tell.
    """
    return is_public(address) and not is_own(address)


def is_own(address: Address) -> bool:
    """Whether an address, also one that wraps it, is one of this machine's own, which alone can be listened at.

    Where a system is set up so that any address can be (`ip_nonlocal_bind`), all count as its own.

    Raises:
        OSError: The system doesn't tell.
    """
    inner = _unwrap(address) if isinstance(address, ipaddress.IPv6Address) else None
    if inner is not None and is_own(inner):
        return True
    family = socket.AF_INET if isinstance(address, ipaddress.IPv4Address) else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:  # nothing is sent
            probe.bind((str(address), 0))
    except OSError as error:
        if error.errno in _NOT_OWN:
            return False
        raise
    return True


def is_public(address: Address) -> bool:
    """Whether an address belongs to the public internet, also where it wraps one of version 4."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = _unwrap(address)
        if inner is not None:
            return is_public(inner)
        if address.is_site_local:
            return False
    return address.is_global and not (
        address.is_multicast
        or address.is_private
        or address.is_loopback
        or address.is_link_local
        or address.is_reserved
        or address.is_unspecified
    )


def _unwrap(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The address of version 4 that a mapped, compatible, translated (RFC 6052), 6to4 or Teredo address leads to."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _NAT64 or address in _COMPATIBLE:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if address.sixtofour is not None:
        return address.sixtofour
    return address.teredo[1] if address.teredo is not None else None


async def resolve_name(host: str, port: int) -> Sequence[str]:
    """What the system says that a name stands for.

    Raises:
        OSError: It stands for nothing.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


@dataclass(frozen=True, slots=True)
class Fetcher:
    """Fetches.

    Attributes:
        max_bytes: Of a picture.
        timeout: Seconds for all of it.
        resolve: Name -> addresses.
        is_allowed: Whether an address may be connected to.
    """

    max_bytes: int
    timeout: float = TIMEOUT
    resolve: Resolve = resolve_name
    is_allowed: Callable[[Address], bool] = is_elsewhere

    async def fetch(self, url: str, lease: Lease | None = None) -> bytes:
        """The bytes behind an address.

        Args:
            url: http or https.
            lease: Takes room for the bytes as they come.

        Raises:
            UrlNotAllowedError: The address is none of the public web.
            UrlFetchError: There is no such host or page, or it takes too long.
            TooManyBytesError: It has more bytes than allowed.
            OverloadedError: There is no room.
        """
        try:
            async with asyncio.timeout(self.timeout):
                for _ in range(MOST_REDIRECTS + 1):
                    answer = await self._ask(url, lease)
                    if isinstance(answer, bytes):
                        return answer
                    url = urljoin(url, answer.target)
        except TimeoutError:
            raise UrlFetchError(f"the address did not answer within {self.timeout:g} s") from None
        except (OSError, ValueError, h11.RemoteProtocolError, h11.LocalProtocolError) as error:
            # A ValueError is of an address that can't be read: of a name, or of one that a page leads on to.
            raise UrlFetchError(f"the address can't be fetched ({type(error).__name__}); check it") from error
        raise UrlFetchError(f"the address leads on to others more than {MOST_REDIRECTS} times")

    async def _ask(self, url: str, lease: Lease | None) -> bytes | _Redirect:
        parts, host, port = split_address(url)
        addresses = await self._check(host, port)
        context = ssl.create_default_context() if parts.scheme == "https" else None
        reader, writer = await _connect(addresses, port, context, host)
        try:
            return await self._converse(reader, writer, parts, lease)
        finally:
            writer.transport.abort()  # nothing is left to be said

    async def _check(self, host: str, port: int) -> Sequence[str]:
        addresses = await self.resolve(host, port)
        if not addresses:
            raise UrlFetchError("the host of the address has no address; check it")
        for address in addresses:
            if not self.is_allowed(ipaddress.ip_address(address.partition("%")[0])):
                raise UrlNotAllowedError(
                    "the address leads into a private network or to this server; only others' public ones are fetched"
                )
        return addresses

    async def _converse(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, parts: SplitResult, lease: Lease | None
    ) -> bytes | _Redirect:
        connection = h11.Connection(h11.CLIENT)
        headers = [
            ("Host", parts.netloc),
            ("User-Agent", f"agelens/{__version__}"),
            ("Accept", "image/*"),
            ("Accept-Encoding", "identity"),
            ("Connection", "close"),
        ]
        target = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~") + (
            f"?{quote(parts.query, safe='/%:@!$&()*+,;=~?')}" if parts.query else ""
        )
        writer.write(connection.send(h11.Request(method="GET", target=target, headers=headers)) or b"")
        connection.send(h11.EndOfMessage())
        body = bytearray()
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await reader.read(_BLOCK))
            elif isinstance(event, h11.Response):
                redirect = _read_redirect(event)
                if redirect:
                    return redirect
            elif isinstance(event, h11.Data):
                if len(body) + len(event.data) > self.max_bytes:
                    raise TooManyBytesError(f"the picture has more than {self.max_bytes:,} bytes, the limit")
                if lease is not None:
                    lease.take(held=len(event.data))
                body += event.data
            elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
                return bytes(body)


@dataclass(frozen=True, slots=True)
class _Redirect:
    target: str


def _read_redirect(answer: h11.Response) -> _Redirect | None:
    if answer.status_code == 200:
        return None
    if answer.status_code in _REDIRECTS:
        for name, value in answer.headers:
            if name == b"location":
                return _Redirect(value.decode("utf-8", "replace"))
    raise UrlFetchError(f"the address answers with status {answer.status_code}; check it")


def split_address(url: str) -> tuple[SplitResult, str, int]:
    """The parts of an address, its host in ASCII, and its port.

    Raises:
        UrlNotAllowedError: It is none of the web, or carries credentials.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or PORTS[parts.scheme]
        host = (
            (parts.hostname or "").encode("idna").decode("ascii")
            if ":" not in (parts.hostname or "")
            else parts.hostname
        )
    except (ValueError, KeyError):
        raise UrlNotAllowedError("only addresses that start with http:// or https:// are fetched") from None
    if not host or parts.username is not None or parts.password is not None:
        raise UrlNotAllowedError("an address needs a host, and no name or password in it")
    netloc = f"[{host}]" if ":" in host else host
    return parts._replace(netloc=netloc if parts.port is None else f"{netloc}:{port}"), host, port


async def _connect(
    addresses: Sequence[str], port: int, context: ssl.SSLContext | None, host: str
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connects to the first of the checked addresses that answers."""
    refused: OSError | None = None
    for address in addresses:
        try:
            return await asyncio.open_connection(
                address, port, ssl=context, server_hostname=host if context is not None else None, limit=_BLOCK
            )
        except ssl.SSLError:
            raise
        except OSError as error:
            refused = error
    raise refused or OSError("no address")
