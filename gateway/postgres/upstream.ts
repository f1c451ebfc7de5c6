/**
 * The connection to a target: TCP, TLS by SSLRequest, authentication, then a stream of bytes with backpressure.
 * It is made for one session and is never shared. Errors are GatewayErrors upstream.*, free of secrets.
 */
import { connect, isIP, type Socket } from "node:net";
import { checkServerIdentity, connect as connectTls, type TLSSocket } from "node:tls";
import { GatewayError } from "../errors.ts";
import { limits } from "../limits.ts";
import { isLoopback } from "../loopback.ts";
import { encodeCancelRequest, encodeSSLRequest, encodeStartupMessage } from "./frontend-encoder.ts";
import type { BackendKeyData } from "./messages.ts";
import { type Frame, FrameReader } from "./reader.ts";
import { tlsServerEndPoint } from "./scram.ts";
import { UpstreamStartup } from "./upstream-auth.ts";
import { MessageWriter } from "./writer.ts";

export interface UpstreamAddress {
  readonly host: string;
  readonly port: number;
  readonly tls: "disable" | "require" | "verify-ca" | "verify-full";
  /** Certificates in PEM to verify against; the system's when not given. */
  readonly ca?: string;
  /** Name the certificate must bear in verify-full, where it is not the host. */
  readonly serverName?: string;
}

export interface UpstreamOptions extends UpstreamAddress {
  readonly user: string;
  readonly password?: string;
  readonly database: string;
  /** Further start-up parameters. client_encoding and standard_conforming_strings are always the gateway's. */
  readonly parameters: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
}

/** PostgreSQL's, whose SQL the parser reads as they do: 14 takes 0x1f for a number with a name. */
const versions = { oldest: 15, newest: 18 };

/** @throws GatewayError upstream.unreachable, upstream.tls, upstream.authentication, upstream.protocol, upstream.version */
export async function connectUpstream(options: UpstreamOptions): Promise<UpstreamConnection> {
  const deadline = AbortSignal.timeout(limits.upstreamConnectTimeoutMs);
  const signal = options.signal ? AbortSignal.any([deadline, options.signal]) : deadline;
  const socket = await openSocket(options, signal);
  try {
    const endPoint = "encrypted" in socket ? serverEndPoint(socket as TLSSocket) : undefined;
    const writer = new MessageWriter();
    encodeStartupMessage(writer, 0, {
      ...options.parameters,
      user: options.user,
      database: options.database,
      client_encoding: "UTF8",
      standard_conforming_strings: "on",
    });
    const startup = new UpstreamStartup(
      {
        user: options.user,
        password: options.password,
        cleartextAllowed: options.tls === "disable" && isLoopback(socket.remoteAddress),
      },
      { encrypted: "encrypted" in socket, endPoint },
      writer,
    );
    socket.write(writer.take());
    const reader = new FrameReader({ messageBytesMax: limits.upstreamStartupMessageBytesMax });
    for await (const frame of frames(socket, reader, signal)) {
      const ready = await startup.receive(frame);
      if (writer.length > 0) socket.write(writer.take());
      if (ready) break;
    }
    requireVersion(startup.parameters.get("server_version"));
    const early = reader.takeRemaining();
    return new UpstreamConnection(socket, options, startup.parameters, startup.key, early);
  } catch (cause) {
    socket.destroy();
    throw toGatewayError(cause);
  }
}

/** @param reported as PostgreSQL spells it: "18.4 (Debian 18.4-1)", "16beta1" */
function requireVersion(reported: string | undefined): void {
  const major = Number(/^[0-9]{1,4}/.exec(reported ?? "")?.[0] ?? 0);
  if (major >= versions.oldest && major <= versions.newest) return;
  const what = reported === undefined ? "does not say its version" : `is PostgreSQL ${reported.slice(0, 64)}`;
  throw new GatewayError(
    "upstream.version",
    `the target ${what}; this gateway reads SQL as PostgreSQL ${versions.oldest} to ${versions.newest} do`,
    { hint: "Upgrade the target, or the gateway." },
  );
}

/** A connection that is ready for its first query. Reading is paused until `onData` is called. */
export class UpstreamConnection {
  /** What the target reported by ParameterStatus. */
  readonly parameters: ReadonlyMap<string, string>;
  readonly #socket: Socket;
  readonly #address: UpstreamAddress;
  readonly #key: BackendKeyData | undefined;
  /** What came in the same read as the first ReadyForQuery, e.g. a notice. */
  #early: Buffer;
  #closed = false;
  #failure: Error | undefined;
  #closeListeners: ((error: Error | undefined) => void)[] = [];

  constructor(
    socket: Socket,
    address: UpstreamAddress,
    parameters: ReadonlyMap<string, string>,
    key: BackendKeyData | undefined,
    early: Buffer,
  ) {
    this.#early = early;
    this.parameters = parameters;
    this.#socket = socket;
    this.#address = address;
    this.#key = key;
    socket.setNoDelay(true);
    socket.setKeepAlive(true, 30_000);
    socket.on("error", (error) => {
      this.#failure = error;
    });
    // Without an answer to "end" the socket would stay half open.
    socket.on("end", () => socket.destroy());
    socket.on("close", () => {
      this.#closed = true;
      for (const listener of this.#closeListeners.splice(0)) listener(this.#failure);
    });
  }

  /** Process id of the target's backend, for the recording; its secret key never leaves this object. */
  get processId(): number | undefined {
    return this.#key?.processId;
  }

  /** Bytes written and not yet taken by the network. */
  get bufferedBytes(): number {
    return this.#socket.writableLength;
  }

  /** @returns false when the caller should wait for `onDrain`. The bytes must not be changed afterwards. */
  write(bytes: Buffer): boolean {
    return this.#socket.write(bytes);
  }
  onData(listener: (chunk: Buffer) => void): void {
    this.#socket.on("data", listener);
    const early = this.#early;
    this.#early = Buffer.alloc(0);
    if (early.length > 0) listener(early);
    this.#socket.resume();
  }
  onDrain(listener: () => void): void {
    this.#socket.on("drain", listener);
  }
  /** Called once, also when it has already closed. */
  onClose(listener: (error: Error | undefined) => void): void {
    if (this.#closed) queueMicrotask(() => listener(this.#failure));
    else this.#closeListeners.push(listener);
  }
  pause(): void {
    this.#socket.pause();
  }
  resume(): void {
    this.#socket.resume();
  }
  /** Closes after what was written has been sent. */
  end(): void {
    this.#socket.end();
  }
  destroy(): void {
    this.#socket.destroy();
  }

  /** Asks the target to cancel what this connection runs, over a connection of its own with the same TLS. Nothing tells whether it did. */
  async cancel(): Promise<void> {
    if (this.#key === undefined) return;
    const signal = AbortSignal.timeout(limits.upstreamConnectTimeoutMs);
    const socket = await openSocket(this.#address, signal);
    socket.on("error", () => {});
    const request = encodeCancelRequest(new MessageWriter(), this.#key).take();
    await new Promise<void>((resolve) => {
      const done = () => {
        signal.removeEventListener("abort", done);
        socket.destroy();
        resolve();
      };
      // The server closes without an answer once it has sent the signal.
      socket.on("close", done);
      socket.on("end", done);
      signal.addEventListener("abort", done);
      socket.resume();
      socket.write(request);
    });
  }
}

async function openSocket(address: UpstreamAddress, signal: AbortSignal): Promise<Socket> {
  const socket = connect({ host: address.host, port: address.port, noDelay: true });
  try {
    await settled(socket, signal, "connect");
    if (address.tls === "disable") return socket;
    socket.write(encodeSSLRequest(new MessageWriter()).take());
    const answer = await firstChunk(socket, signal);
    if (answer.length === 1 && answer[0] === 0x4e) {
      throw new GatewayError("upstream.tls", "the target does not offer TLS", {
        hint: "Turn on ssl in the target, or set tls: disable for it.",
      });
    }
    // One byte and nothing behind it: what came before the handshake could have been put there by anyone.
    if (answer.length !== 1 || answer[0] !== 0x53) {
      throw new GatewayError("upstream.tls", "the target sent something else than an answer to the request for TLS");
    }
    return await upgrade(socket, address, signal);
  } catch (cause) {
    socket.destroy();
    throw toGatewayError(cause);
  }
}

async function upgrade(socket: Socket, address: UpstreamAddress, signal: AbortSignal): Promise<TLSSocket> {
  if (socket.readableLength > 0) {
    throw new GatewayError("upstream.tls", "the target sent data before the TLS handshake");
  }
  const verify = address.tls !== "require";
  const name = address.serverName ?? address.host;
  const secure = connectTls({
    socket,
    ...(isIP(name) === 0 && { servername: name }),
    ...(address.ca !== undefined && { ca: address.ca }),
    minVersion: "TLSv1.2",
    rejectUnauthorized: verify,
    // The name is checked below, where it is not left to when the runtime calls this.
    checkServerIdentity: () => undefined,
  });
  try {
    await settled(secure, signal, "secureConnect");
  } catch (cause) {
    secure.destroy();
    if (signal.aborted) throw cause;
    throw new GatewayError("upstream.tls", "the TLS handshake with the target failed", { cause });
  }
  const mismatch = verify && !secure.authorized ? secure.authorizationError : undefined;
  const wrongName = address.tls === "verify-full" ? checkServerIdentity(name, secure.getPeerCertificate()) : undefined;
  if ((verify && !secure.authorized) || wrongName !== undefined) {
    secure.destroy();
    throw new GatewayError("upstream.tls", `the target's certificate is not valid for "${name}"`, {
      hint: "Check ca and server_name of this target.",
      cause: wrongName ?? mismatch,
    });
  }
  secure.pause();
  return secure;
}

function serverEndPoint(socket: TLSSocket): Buffer | undefined {
  const { raw } = socket.getPeerCertificate() ?? {};
  return raw ? tlsServerEndPoint(Buffer.from(raw)) : undefined;
}

/** Resolves at `event`; rejects at an error, a close or when the time is over. */
function settled(socket: Socket, signal: AbortSignal, event: "connect" | "secureConnect"): Promise<void> {
  return new Promise((resolve, reject) => {
    const clean = () => {
      socket.off(event, done).off("error", failed).off("close", closed);
      signal.removeEventListener("abort", aborted);
      socket.on("error", ignore);
    };
    const done = () => {
      clean();
      resolve();
    };
    const failed = (error: Error) => {
      clean();
      reject(error);
    };
    const closed = () => failed(new Error("connection closed"));
    const aborted = () => failed(new Error("timed out or abandoned"));
    socket.on(event, done).on("error", failed).on("close", closed);
    signal.addEventListener("abort", aborted);
    if (signal.aborted) aborted();
  });
}

// An "error" event that nobody listens to would end the process; "close" follows it and tells who waits.
function ignore(): void {}

async function firstChunk(socket: Socket, signal: AbortSignal): Promise<Buffer> {
  for await (const chunk of chunks(socket, signal)) return chunk;
  throw new GatewayError("upstream.unreachable", "the target closed the connection");
}

async function* frames(socket: Socket, reader: FrameReader, signal: AbortSignal): AsyncGenerator<Frame> {
  for await (const chunk of chunks(socket, signal)) {
    reader.push(chunk);
    yield* reader;
  }
  throw new GatewayError("upstream.unreachable", "the target closed the connection before it was ready");
}

/** The socket's chunks one by one, reading only while one is waited for. Leaves the socket paused and open. */
async function* chunks(socket: Socket, signal: AbortSignal): AsyncGenerator<Buffer> {
  const received: Buffer[] = [];
  let ended = false;
  let failure: Error | undefined;
  let wake = () => {};
  const onData = (chunk: Buffer) => {
    socket.pause();
    received.push(chunk);
    wake();
  };
  const onEnd = () => {
    ended = true;
    wake();
  };
  const onError = (error: Error) => {
    failure = error;
    wake();
  };
  const onAbort = () => onError(new Error("timed out or abandoned"));
  socket.on("data", onData).on("end", onEnd).on("close", onEnd).on("error", onError);
  signal.addEventListener("abort", onAbort);
  if (signal.aborted) onAbort();
  try {
    for (;;) {
      const chunk = received.shift();
      if (failure !== undefined) throw failure;
      if (chunk !== undefined) yield chunk;
      else if (ended || socket.destroyed) return;
      else {
        const woken = new Promise<void>((resolve) => {
          wake = resolve;
        });
        socket.resume();
        await woken;
      }
    }
  } finally {
    socket.pause();
    socket.off("data", onData).off("end", onEnd).off("close", onEnd).off("error", onError);
    signal.removeEventListener("abort", onAbort);
    // A paused socket keeps what comes, so that nothing should be left here; dropping it would lose a message.
    if (received.length > 0) socket.destroy(new Error("data received out of turn"));
  }
}

function toGatewayError(cause: unknown): GatewayError {
  if (cause instanceof GatewayError) {
    return cause.code.startsWith("protocol.")
      ? new GatewayError("upstream.protocol", `the target broke the protocol: ${cause.message}`, { cause })
      : cause;
  }
  return new GatewayError("upstream.unreachable", "the target cannot be reached", {
    hint: "Check that it runs and that its address is right.",
    cause,
  });
}
