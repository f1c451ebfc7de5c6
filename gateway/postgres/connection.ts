/**
 * One client's connection, start to end: it owns both sockets, moves bytes between them and the session's two halves
 * (`machine.ts`, `responses.ts`) with backpressure each way, and ends both when either side, the token or a fault does.
 */
import { randomBytes, randomInt } from "node:crypto";
import type { Socket } from "node:net";
import { GatewayError } from "../errors.ts";
import { limits } from "../limits.ts";
import type { Session } from "../session/session.ts";
import { encodeBackendMessage } from "./backend-encoder.ts";
import { errorFields } from "./diagnostics.ts";
import type { Expected } from "./expected.ts";
import { decodeOrUnreadable } from "./frontend-decoder.ts";
import type { ClientStream } from "./handshake.ts";
import { Machine } from "./machine.ts";
import type { NoticeFields } from "./messages.ts";
import { FrameReader } from "./reader.ts";
import { checkParameter, Responses } from "./responses.ts";
import type { RunOptions } from "./run.ts";
import type { UpstreamConnection } from "./upstream.ts";
import { MessageWriter } from "./writer.ts";

export interface CancelKey {
  readonly processId: number;
  readonly secretKey: Buffer;
}

/**
 * Own random secrets: 4 bytes for protocol 3.0, 32 for 3.2. The process id is the backend's, as clients tell by it whose
 * notification came, and find themselves in pg_stat_activity.
 */
export function newCancelKey(minor: number, processId = randomInt(1, 2 ** 31 - 1)): CancelKey {
  return { processId, secretKey: randomBytes(minor >= 2 ? 32 : 4) };
}

interface Unsent {
  bytes: Buffer;
  /** Of what the target will owe for them. */
  readonly first: Expected | undefined;
}

/** How long one client's messages are handled in a row. */
const turnMs = 50;

export class Connection {
  readonly session: Session;
  readonly key: CancelKey;
  readonly #socket: Socket;
  readonly #clientReader: FrameReader;
  readonly #upstream: UpstreamConnection;
  readonly #upstreamReader = new FrameReader({ messageBytesMax: limits.upstreamMessageBytesMax });
  readonly #machine: Machine;
  readonly #responses: Responses;
  readonly #out = new MessageWriter();
  readonly #onEnd: (reason: string, error?: unknown) => void;
  /** A message is being handled; at first the names of the target are read. */
  #busy = true;
  /** A command waits for approval. */
  #held = false;
  /** The client sends no more, but may still read. */
  #clientDone = false;
  /** The target's socket takes no more until it drains. */
  #targetFull = false;
  /** What waits for the recording before it goes to the target. */
  readonly #uncommitted: Unsent[] = [];
  #uncommittedBytes = 0;
  #ended = false;
  /** Forwarding in order behind the commits of the recording. */
  #forwarding: Promise<void> | undefined;
  #stall: ReturnType<typeof setTimeout> | undefined;
  readonly #told = Promise.withResolvers<void>();
  /** What the target ran when the session was cut was asked to end. */
  #stopped: Promise<void> | undefined;

  constructor(options: {
    stream: ClientStream;
    upstream: UpstreamConnection;
    run: RunOptions;
    key: CancelKey;
    /** Called once. */
    onEnd: (reason: string, error?: unknown) => void;
  }) {
    this.session = options.run.session;
    this.key = options.key;
    this.#socket = options.stream.socket;
    this.#clientReader = options.stream.reader;
    this.#upstream = options.upstream;
    this.#onEnd = options.onEnd;
    this.#clientDone = options.stream.closed;
    this.#machine = new Machine(options.run, {
      forward: (bytes, first) => this.#forward(bytes, first),
      notice: (fields) => this.#notice(fields),
      cancelUpstream: () => this.#upstream.cancel().catch(() => undefined),
    });
    this.#responses = new Responses(this.#machine, this.#out);
  }

  /** Resolves once it has ended, what the client was told last has left, and nothing of it runs on at the target. */
  async told(): Promise<void> {
    await this.#told.promise;
    await this.#stopped;
  }

  /** Before the client's first command. */
  readNames(): Promise<void> {
    return this.#machine.readNames(false);
  }

  /** Resolves once nothing that the client sends from then on can be hit. */
  async cancel(): Promise<void> {
    const [next] = this.#uncommitted;
    if (this.#machine.withdraw()) {
      // What the gateway asks for before it forwards the command need not be waited for.
      if (next === undefined && this.#machine.expected.length > 0) await this.#machine.cancel();
      return;
    }
    // What still waits for its record is not there yet to be cancelled.
    const refusal = next && this.#machine.refuseUnsent(next.bytes, next.first);
    if (next && refusal) {
      next.bytes = refusal;
      return;
    }
    await this.#forwarding;
    await this.#machine.cancel();
  }

  /** Attaches the target's side; nothing reaches the client before `start`. */
  attach(): void {
    this.#upstream.onData((chunk) => this.#fromUpstream(chunk));
    this.#upstream.onDrain(() => {
      this.#targetFull = false;
      this.#readOn();
    });
    this.#upstream.onClose((error) => this.end("upstream", asClosed(error)));
    this.#socket.on("close", () => {
      this.#told.resolve();
      this.end("client");
    });
    this.#socket.on("end", () => this.#noMore());
    this.#socket.on("error", () => this.end("client"));
    this.#socket.on("drain", () => this.#upstream.resume());
    // Its "close" came while the target was connected.
    if (this.#socket.destroyed) this.end("client");
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** Tells the client that it is in, and serves it. */
  start(): void {
    encodeBackendMessage(this.#out, { type: "AuthenticationOk" });
    for (const [name, value] of this.#upstream.parameters) {
      if (checkParameter(name, value)) encodeBackendMessage(this.#out, { type: "ParameterStatus", name, value });
    }
    encodeBackendMessage(this.#out, {
      type: "BackendKeyData",
      processId: this.key.processId,
      secretKey: this.key.secretKey,
    });
    encodeBackendMessage(this.#out, { type: "ReadyForQuery", status: "I" });
    this.#toClient();
    this.#socket.on("data", (chunk: Buffer) => {
      // What still comes after the end is read and dropped, so that a client in the middle of sending reads why.
      if (this.#ended) return;
      this.#clientReader.push(chunk);
      if (this.#held && this.#clientReader.bufferedBytes > limits.upstreamBufferBytesMax) this.#socket.pause();
      this.#pump();
    });
    this.#busy = false;
    this.#socket.resume();
    this.#pump();
  }

  get #isFull(): boolean {
    return this.#targetFull || this.#uncommittedBytes > limits.upstreamBufferBytesMax;
  }

  /** Reads the client again, unless something of it still waits. */
  #readOn(): void {
    if (this.#busy || this.#isFull || this.#ended) return;
    this.#socket.resume();
    this.#pump();
  }

  /** Handles what the client sent, one message after the other; stops while one waits or the target is full. */
  #pump(): void {
    if (this.#busy || this.#ended) return;
    const until = Date.now() + turnMs;
    try {
      while (!this.#isFull) {
        // A look at the clock costs as much as a small message: what came alone needs none.
        if (this.#clientReader.bufferedBytes > 0 && Date.now() > until) return this.#yield();
        const frame = this.#clientReader.next();
        this.#watchStall(frame === undefined && this.#clientReader.bufferedBytes > 0);
        if (frame === undefined) {
          if (this.#clientDone) return this.#leave();
          break;
        }
        const message = decodeOrUnreadable(frame);
        if (message.type === "Terminate") return this.#terminate();
        const waiting = this.#machine.handle(message);
        if (waiting === undefined) continue;
        this.#busy = true;
        // More than a little waiting input is the client's to keep.
        this.#socket.pause();
        waiting.then(
          () => {
            this.#busy = false;
            this.#held = false;
            this.#readOn();
          },
          (fault) => this.end("fault", fault),
        );
        return;
      }
      this.#machine.flush();
    } catch (fault) {
      this.end("fault", fault);
    }
  }

  /** Others have their turn. */
  #yield(): void {
    this.#busy = true;
    this.#machine.flush();
    this.#socket.pause();
    setImmediate(() => {
      this.#busy = false;
      this.#readOn();
    });
  }

  /** What was sent before it goes to the target first, which runs it before it sees that the client left. */
  #terminate(): void {
    if (this.#forwarding === undefined || this.#ended) return this.end("client");
    this.#busy = true;
    void this.#forwarding.then(() => this.#terminate());
  }

  /** What the client sent before is run and answered, as by the target itself; what is held is given up. */
  #noMore(): void {
    this.#clientDone = true;
    if (this.#held) this.end("client");
    else this.#pump();
  }

  #leave(): void {
    this.#busy = true;
    this.#machine.settled().then(
      () => this.end("client"),
      (fault) => this.end("fault", fault),
    );
  }

  /** A client may not sit inside an unfinished message; one that is held, or not read, is not it. */
  #watchStall(unfinished: boolean): void {
    if (!unfinished && this.#stall !== undefined) {
      clearTimeout(this.#stall);
      this.#stall = undefined;
    } else if (unfinished && this.#stall === undefined) {
      this.#stall = setTimeout(
        () => this.end("fault", new GatewayError("protocol.timeout", "a message was not completed in time")),
        limits.clientMessageStallMs,
      );
    }
  }

  #forward(bytes: Buffer, first: Expected | undefined): void {
    if (this.#ended) return;
    let committed: Promise<void> | undefined;
    try {
      committed = this.session.committed();
    } catch (fault) {
      // Not thrown: whoever sends may hold a promise that nobody would then wait for.
      return this.end("fault", fault);
    }
    const before = this.#forwarding;
    if (committed === undefined && before === undefined) return this.#write(bytes);
    const unsent: Unsent = { bytes, first };
    this.#uncommitted.push(unsent);
    this.#uncommittedBytes += bytes.length;
    if (this.#isFull) this.#socket.pause();
    // In order, whichever of them is committed first.
    const ready = before === undefined ? committed : before.then(() => committed);
    const forwarding: Promise<void> | undefined = ready
      ?.then(() => {
        const wasFull = this.#isFull;
        this.#uncommittedBytes -= bytes.length;
        if (this.#forwarding === forwarding) this.#forwarding = undefined;
        this.#uncommitted.shift();
        this.#write(unsent.bytes);
        if (wasFull) this.#readOn();
      })
      .catch((fault) => this.end("fault", fault));
    this.#forwarding = forwarding;
  }

  #write(bytes: Buffer): void {
    if (this.#ended) return;
    if (this.#upstream.write(bytes)) return;
    // A target that is full stops its client; `attach` resumes it.
    this.#targetFull = true;
    this.#socket.pause();
  }

  #fromUpstream(chunk: Buffer): void {
    if (this.#ended) return;
    try {
      this.#upstreamReader.push(chunk);
      // Not by the iterator: a step of it costs as much as a small message.
      for (let frame = this.#upstreamReader.next(); frame !== undefined; frame = this.#upstreamReader.next()) {
        this.#responses.handle(frame);
        if (this.#ended) return;
      }
      this.#toClient();
    } catch (fault) {
      this.end("fault", asUpstreamFault(fault));
    }
  }

  #toClient(): void {
    if (this.#out.length === 0) return;
    if (!this.#socket.write(this.#out.take())) this.#upstream.pause();
  }

  /** Of a hold: nobody is there who could still cancel it, or read how it ends, once the client has left. */
  #notice(fields: NoticeFields): void {
    this.#held = true;
    if (this.#clientDone) return this.end("client");
    // Whether it leaves shows only behind what it sent.
    this.#socket.resume();
    encodeBackendMessage(this.#out, { type: "NoticeResponse", fields });
    this.#toClient();
  }

  /** Ends both sides once; an error is told to the client as FATAL. */
  end(reason: string, error?: unknown): void {
    if (this.#ended) return;
    this.#ended = true;
    clearTimeout(this.#stall);
    // A client that leaves may leave its statement running; one that is cut must not have it commit later.
    const isCut = reason !== "client" && reason !== "upstream";
    if (isCut && this.#machine.expected.length > 0) this.#stopped = this.#upstream.cancel().catch(() => undefined);
    try {
      this.#machine.abandon();
    } catch (fault) {
      // A recording that takes no more cannot have the outcomes either; both sides end all the same.
      error ??= fault;
    }
    const isTold = reason === "client" || (reason === "upstream" && this.#responses.saidGoodbye);
    if (error !== undefined && !isTold) {
      const told =
        error instanceof GatewayError
          ? error
          : new GatewayError("internal", "the gateway met a fault and closed this session", { cause: error });
      try {
        encodeBackendMessage(this.#out, { type: "ErrorResponse", fields: errorFields(told, "FATAL") });
        this.#socket.end(this.#out.take(), () => this.#told.resolve());
        this.#socket.resume();
      } catch {
        this.#socket.destroy();
      }
    } else {
      this.#socket.end();
    }
    this.#upstream.end();
    setTimeout(() => {
      this.#socket.destroy();
      this.#upstream.destroy();
    }, 2_000).unref();
    this.#onEnd(reason, error);
  }
}

function asClosed(error: Error | undefined): GatewayError {
  if (error instanceof GatewayError) return error;
  return new GatewayError("upstream.unreachable", "the target closed the connection", { cause: error });
}

/** What the target sent malformed is the target's fault, not the client's. */
function asUpstreamFault(fault: unknown): unknown {
  if (fault instanceof GatewayError && fault.code.startsWith("protocol.")) {
    return new GatewayError("upstream.protocol", "the target broke the protocol", { cause: fault });
  }
  return fault;
}
