"""A DNS server of the outside world on a loopback port, and clients that ask by UDP and TCP."""

import asyncio
import socket
import struct

import pytest

from orchestrator.network.dns import wire


def question(name, kind=wire.A, identity=7, edns=0):
    data = struct.pack("!HHHHHH", identity, 0x0100, 1, 0, 0, 1 if edns else 0)
    data += wire.encode_name(name) + struct.pack("!HH", kind, 1)
    return data + (b"\0" + struct.pack("!HHIH", wire.OPT, edns, 0, 0) if edns else b"")


class Outside(asyncio.DatagramProtocol):
    """Answers by a table of name → (rcode, addresses); counts what it is asked; can keep silent."""

    def __init__(self):
        self.table = {}
        self.asked = []
        self.silent = False
        self.relay = None

    def connection_made(self, transport):
        self.transport = transport
        self.server = transport.get_extra_info("sockname")

    def datagram_received(self, data, address):
        query = wire.parse_query(data)
        self.asked.append(query.name)
        if self.relay:
            self.transport.sendto(data, self.relay)
        if not self.silent and query.name in self.table:
            self.transport.sendto(self.answer(query), address)

    def answer(self, query):
        rcode, addresses = self.table[query.name]
        records = wire.records(wire.A, 20, [wire.a_data(address) for address in addresses])
        soa = wire.Record(wire.SOA, 9, wire.soa_data("org", 1, 9), wire.encode_name("org"))
        return wire.encode_reply(query, wire.Reply(rcode, records, soa=soa))

    def real(self, name):
        """How often it was asked for `name`."""
        return self.asked.count(name)


@pytest.fixture
async def outside():
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(Outside, local_addr=("127.0.0.1", 0))
    yield protocol
    transport.close()
    await asyncio.sleep(0)


@pytest.fixture
def ask_udp():
    async def ask(server, name, kind=wire.A, edns=0, data=None):
        return wire.parse_reply(await exchange(server, data or question(name, kind, edns=edns)))

    return ask


async def exchange(server, data):
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setblocking(False)
        client.connect(server)
        await loop.sock_sendall(client, data)
        async with asyncio.timeout(5):
            return await loop.sock_recv(client, 65535)


@pytest.fixture
def ask_tcp():
    async def ask(server, *messages):
        reader, writer = await asyncio.open_connection(*server)
        answers = []
        try:
            for data in messages:
                writer.write(len(data).to_bytes(2, "big") + data)
                async with asyncio.timeout(5):
                    answers.append(
                        await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
                    )
        finally:
            writer.close()
            await writer.wait_closed()
        return [wire.parse_reply(answer) for answer in answers]

    return ask


@pytest.fixture
def make_question():
    return question
