"""A TCP proxy that lets every byte wait, as a long way would."""

import asyncio
import threading


class DelayProxy(threading.Thread):
    """Forwards to ``address``; each direction takes ``delay`` seconds."""

    def __init__(self, address, delay):
        super().__init__(daemon=True)
        self._target = address
        self._delay = delay
        self._listening = threading.Event()
        self.start()
        self._listening.wait()

    def run(self):
        asyncio.run(self._serve())

    async def _serve(self):
        server = await asyncio.start_server(self._accept, '127.0.0.1', 0)
        self.address = '%s:%d' % server.sockets[0].getsockname()
        self._listening.set()
        await server.serve_forever()

    async def _accept(self, reader, writer):
        host, _, port = self._target.rpartition(':')
        onward, back = await asyncio.open_connection(host, int(port))
        await asyncio.gather(self._forward(reader, back),
                             self._forward(onward, writer))

    async def _forward(self, reader, writer):
        clock = asyncio.get_running_loop().time
        under_way = asyncio.Queue()

        async def arrive():
            while True:
                due, data = await under_way.get()
                await asyncio.sleep(due - clock())
                if not data:
                    return writer.close()
                writer.write(data)
                await writer.drain()

        arrival = asyncio.ensure_future(arrive())
        data = b'?'
        try:
            while data:
                data = await reader.read(1 << 16)
                under_way.put_nowait((clock() + self._delay, data))
            await arrival
        except OSError:
            arrival.cancel()
            writer.close()
