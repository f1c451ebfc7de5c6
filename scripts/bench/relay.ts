/**
 * A raw TCP relay in Bun that knows no protocol: the ceiling that a gateway on this runtime can come near.
 * `bun scripts/bench/relay.ts <port on 127.0.0.1>` prints the port that it listens on, and runs until it is ended.
 */
import type { Socket } from "bun";

interface Side {
  peer: Socket<Side> | undefined;
  /** What the socket did not take yet; its peer is paused while there is any. */
  waiting: Uint8Array[];
  /** True once the peer has ended: the socket ends when nothing waits. */
  ending: boolean;
}

const newSide = (): Side => ({ peer: undefined, waiting: [], ending: false });

function forward(socket: Socket<Side>, bytes: Uint8Array): void {
  const { peer } = socket.data;
  if (peer === undefined || peer.data.waiting.length > 0) {
    (peer ?? socket).data.waiting.push(Buffer.from(bytes));
    socket.pause();
    return;
  }
  const written = peer.write(bytes);
  if (written < bytes.length) {
    peer.data.waiting.push(Buffer.from(bytes.subarray(Math.max(0, written))));
    socket.pause();
  }
}

function drain(socket: Socket<Side>): void {
  const { waiting } = socket.data;
  for (let next = waiting[0]; next !== undefined; next = waiting[0]) {
    const written = Math.max(0, socket.write(next));
    if (written < next.length) {
      waiting[0] = next.subarray(written);
      return;
    }
    waiting.shift();
  }
  if (socket.data.ending) socket.end();
  else socket.data.peer?.resume();
}

function close(socket: Socket<Side>): void {
  const { peer } = socket.data;
  if (peer === undefined) return;
  peer.data.ending = true;
  if (peer.data.waiting.length === 0) peer.end();
}

/** @returns the port of 127.0.0.1 that is relayed to `targetPort`. */
function startRelay(targetPort: number): number {
  const handlers = { data: forward, drain, close, error: (socket: Socket<Side>) => void socket.end() };
  const listener = Bun.listen<Side>({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      ...handlers,
      async open(client) {
        client.data = newSide();
        client.setNoDelay(true);
        client.pause();
        const upstream = await Bun.connect<Side>({
          ...{ hostname: "127.0.0.1", port: targetPort, data: newSide(), socket: handlers },
        });
        upstream.setNoDelay(true);
        upstream.data.peer = client;
        client.data.peer = upstream;
        for (const bytes of client.data.waiting.splice(0)) upstream.write(bytes);
        client.resume();
      },
    },
  });
  return listener.port;
}

if (import.meta.main) {
  const port = Number(process.argv[2]);
  if (!Number.isInteger(port) || port < 1 || port > 65_535) {
    console.error("usage: bun scripts/bench/relay.ts <port on 127.0.0.1>");
    process.exit(2);
  }
  console.log(startRelay(port));
}
