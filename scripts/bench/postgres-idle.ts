/** What an idle session costs a gateway: the growth of its resident memory over many sessions that do nothing. */
import { readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import type { Endpoint, RunningProcess } from "./postgres-processes.ts";

const warmUpSessions = 20;
const settleMs = 2_000;

/** Kilobytes a session. Linux only: it reads /proc. */
export async function idleSessionKb(process: RunningProcess, sessions: number): Promise<number> {
  const sockets: Socket[] = [];
  try {
    for (let count = 0; count < warmUpSessions; count++) sockets.push(await openSession(process.endpoint));
    await Bun.sleep(settleMs);
    const beforeKb = residentKb(process.pid);
    for (let count = 0; count < sessions; count++) sockets.push(await openSession(process.endpoint));
    await Bun.sleep(settleMs);
    return (residentKb(process.pid) - beforeKb) / sessions;
  } finally {
    for (const socket of sockets) socket.destroy();
  }
}

/** Resident memory of a process. Linux only: it reads /proc. */
export function residentKb(pid: number): number {
  const match = /^VmRSS:\s+([0-9]+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"));
  if (match === null) throw new Error(`/proc/${pid}/status has no VmRSS`);
  return Number(match[1]);
}

/** StartupMessage, PasswordMessage when AuthenticationCleartextPassword asks for it, then all until ReadyForQuery. */
function openSession(endpoint: Endpoint): Promise<Socket> {
  const socket = connect(endpoint.port, "127.0.0.1");
  const parameters = Buffer.from(`user\0${endpoint.user}\0database\0${endpoint.database}\0\0`);
  const head = Buffer.alloc(8);
  head.writeInt32BE(head.length + parameters.length);
  head.writeInt32BE(196_608, 4);
  socket.write(Buffer.concat([head, parameters]));
  return new Promise((opened, reject) => {
    let received = Buffer.alloc(0);
    socket.on("error", reject);
    socket.on("close", () => reject(new Error("The session was closed while it was opened")));
    socket.on("data", (chunk: Buffer) => {
      received = Buffer.concat([received, chunk]);
      while (received.length >= 5 && received.length > received.readInt32BE(1)) {
        const message = received.subarray(0, 1 + received.readInt32BE(1));
        received = received.subarray(message.length);
        const type = String.fromCharCode(message[0] ?? 0);
        if (type === "R" && message.readInt32BE(5) === 3) socket.write(passwordMessage(endpoint.password));
        if (type === "E") reject(new Error(message.toString("utf8", 5).replaceAll("\0", " ")));
        if (type === "Z") opened(socket);
      }
    });
  });
}

function passwordMessage(password: string): Buffer {
  const body = Buffer.from(`p....${password}\0`);
  body.writeInt32BE(body.length - 1, 1);
  return body;
}
