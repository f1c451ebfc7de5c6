/**
 * A raw TCP relay in Bun that knows no protocol: the ceiling that a gateway on this runtime can come near.
 * `bun scripts/bench/relay.ts <port on 127.0.0.1> [--sync <file>]` prints the port that it listens on, and runs until it
 * is ended. With a file it puts what clients send there, and on disk, before it forwards it, as little as a gateway that
 * records before it forwards can do: what came in one turn of the event loop shares a sync.
 */
import { fdatasyncSync, fsyncSync, openSync, writeSync } from "node:fs";
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

const journalBytes = 16_777_216;

/** @returns as `forward`, behind a sync. @param path of a file that is overwritten from its beginning when it is full */
function forwardSynced(path: string): typeof forward {
  const journal = openSync(path, "w+");
  writeSync(journal, Buffer.alloc(journalBytes));
  fsyncSync(journal);
  let at = 0;
  let batch: { readonly socket: Socket<Side>; readonly bytes: Buffer }[] = [];
  const sync = () => {
    const taken = batch;
    batch = [];
    const all = Buffer.concat(taken.map(({ bytes }) => bytes));
    if (at + all.length > journalBytes) at = 0;
    at += writeSync(journal, all, 0, all.length, at);
    fdatasyncSync(journal);
    for (const { socket, bytes } of taken) forward(socket, bytes);
  };
  return (socket, bytes) => {
    if (batch.length === 0) setImmediate(sync);
    batch.push({ socket, bytes: Buffer.from(bytes) });
  };
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

/** @returns the port of 127.0.0.1 that is relayed to `targetPort`. @param journal a path, for what clients send */
function startRelay(targetPort: number, journal: string | undefined): number {
  const handlers = { data: forward, drain, close, error: (socket: Socket<Side>) => void socket.end() };
  const fromClient = journal === undefined ? forward : forwardSynced(journal);
  const listener = Bun.listen<Side>({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      ...handlers,
      data: fromClient,
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
  const [given, option, journal] = process.argv.slice(2);
  const port = Number(given);
  const known = option === undefined || (option === "--sync" && journal !== undefined);
  if (!Number.isInteger(port) || port < 1 || port > 65_535 || !known) {
    console.error("usage: bun scripts/bench/relay.ts <port on 127.0.0.1> [--sync <file>]");
    process.exit(2);
  }
  console.log(startRelay(port, journal));
}
