/**
 * The main thread's side of the recording and the store: events are written as JSON and handed to the worker; in
 * `strict` a command waits until its intent is on disk, in `group` it waits only while the writer has fallen behind.
 */
import { type ErrorCode, GatewayError } from "../errors.ts";
import { limits } from "../limits.ts";
import { filePath } from "../store/file-path.ts";
import { lockFile } from "../store/lock.ts";
import type { storeQueries } from "../store/queries.ts";
import type { RecordedEvent, SessionClosed, SessionOpened } from "./events.ts";
import { Journal } from "./journal.ts";
import type { FromWorker, ToWorker, WorkerFailure, WorkerOptions } from "./protocol.ts";
import { SessionLines } from "./session-lines.ts";

type Queries = typeof storeQueries;
/** Each query of the store, asked of its worker. */
export type StoreCalls = {
  readonly [Name in keyof Queries]: Queries[Name] extends (db: infer _, ...rest: infer Rest) => infer Result
    ? (...rest: Rest) => Result
    : never;
};

interface Waiting {
  readonly appends: number;
  readonly resolve: () => void;
  readonly reject: (error: GatewayError) => void;
}
interface Call {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: GatewayError) => void;
}

/** While one waits for the disk, the next is written. */
const commitsUnderWayMax = 2;

/** A full batch and the event that filled it, where that is not a large one. */
const bufferBytes = 2 * limits.chunkBytesTarget;
const freeBuffersMax = 4;
const newBuffer = (length: number) => new SharedArrayBuffer(Math.max(length, bufferBytes));

export class Recording {
  readonly #worker: Worker;
  readonly #strict: boolean;
  readonly #unlock: () => void;
  /** Sessions with events that the worker was not sent. */
  #dirty = new Set<SessionLines>();
  #dirtyBytes = 0;
  #sent = 0;
  #committed = 0;
  /** Bytes of each append message that is not committed, oldest first, and when it was sent. */
  #unacknowledged: { appends: number; bytes: number; at: number; buffer: SharedArrayBuffer }[] = [];
  #unacknowledgedBytes = 0;
  /** Shared with the worker, which has written what was in them. */
  #free: SharedArrayBuffer[] = [];
  #waiting: Waiting[] = [];
  #calls = new Map<number, Call>();
  #nextCall = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #immediate = false;
  #failure: GatewayError | undefined;
  #closed = false;
  #onFailure: ((error: GatewayError) => void)[] = [];
  #started: (() => void) | undefined;
  #publicKey: string | undefined;
  /** In `strict`, where the store is a file. */
  #journal: Journal | undefined;
  readonly calls: StoreCalls;

  /** @throws GatewayError store.unavailable, or config.invalid for a signing key that is none */
  static async open(options: WorkerOptions): Promise<Recording> {
    const path = filePath(options.url);
    const unlock = path === undefined ? () => undefined : lockFile(path);
    const recording = new Recording(options, unlock);
    try {
      await new Promise<void>((resolve, reject) => {
        recording.#started = resolve;
        recording.onFailure(reject);
      });
      if (path !== undefined && options.durability === "strict") recording.#openJournal(path);
    } catch (error) {
      recording.#worker.terminate();
      unlock();
      throw error;
    }
    return recording;
  }

  private constructor(options: WorkerOptions, unlock: () => void) {
    this.#unlock = unlock;
    this.#strict = options.durability === "strict";
    this.#worker = new Worker(new URL("./worker.ts", import.meta.url).href);
    this.#worker.onmessage = (event: MessageEvent<FromWorker>) => this.#receive(event.data);
    this.#worker.onerror = (event) => this.#fail({ message: event.message });
    this.#post({ type: "start", options });
    const ask = (method: string, rest: readonly unknown[]) => this.#call(method, rest);
    this.calls = new Proxy({} as StoreCalls, {
      get: (_, method) =>
        typeof method === "string" && method !== "then"
          ? (...rest: readonly unknown[]) => ask(method, rest)
          : undefined,
    });
  }

  /** The writer failed: nothing can be recorded any more. */
  onFailure(listener: (error: GatewayError) => void): void {
    this.#onFailure.push(listener);
  }

  /** Of the key that signs seals: SPKI, PEM; undefined where none is configured. */
  get publicKey(): string | undefined {
    return this.#publicKey;
  }

  get failure(): GatewayError | undefined {
    return this.#failure;
  }

  /** @throws GatewayError store.unavailable */
  #openJournal(path: string): void {
    const options = {
      path,
      persist: () => this.#persist(),
      onFailure: (error: unknown) => this.#fail({ message: (error as Error).message }),
    };
    try {
      this.#journal = new Journal(options);
    } catch (cause) {
      throw new GatewayError("store.unavailable", `No file can be made beside ${path}: ${(cause as Error).message}`, {
        cause,
      });
    }
  }

  session(opened: SessionOpened) {
    const { session } = opened;
    const lines = new SessionLines(session);
    this.#post({ type: "open", opened });
    const append = (event: RecordedEvent, bytesMax?: number) => this.#append(lines, event, bytesMax);
    append(opened);
    return {
      append: (event: RecordedEvent) => append(event),
      committed: () => this.#whenCommitted(),
      close: async (event: SessionClosed) => {
        // However far the writer is behind: a session that was stopped for it has its end recorded too.
        append(event, Number.POSITIVE_INFINITY);
        this.#flush();
        await this.#ask((call) => ({ type: "seal", session, call, at: event.at, reason: event.reason }));
      },
    };
  }

  /** Nothing is taken any more; what was is in the store, and the worker ended. */
  async close(): Promise<void> {
    this.#closed = true;
    try {
      if (this.#failure !== undefined) return;
      await this.#persist();
      await this.#journal?.close();
    } finally {
      this.#worker.terminate();
      this.#unlock();
    }
  }

  /** Resolves once the store has, on disk, all that was appended so far. */
  async #persist(): Promise<void> {
    this.#flush();
    await this.#ask((call) => ({ type: "sync", call }));
  }

  #requireOpen(): void {
    if (this.#failure) throw this.#failure;
    if (this.#closed) throw new GatewayError("session.draining", "the gateway is shutting down");
  }

  #append(lines: SessionLines, event: RecordedEvent, bytesMax = limits.recordingQueueBytesMax): void {
    this.#requireOpen();
    const waiting = Math.max(this.#dirtyBytes + this.#unacknowledgedBytes, this.#journal?.length ?? 0);
    const length = lines.add(event, bytesMax - waiting);
    if (length === undefined) {
      throw new GatewayError(
        "recording.lagging",
        "the recording cannot keep up; this session is stopped rather than left unrecorded",
      );
    }
    this.#journal?.append(lines.session, lines.events, lines.latest(length));
    this.#dirty.add(lines);
    this.#dirtyBytes += length;
    if (this.#dirtyBytes >= limits.chunkBytesTarget) this.#flush();
    else this.#timer ??= setTimeout(() => this.#flush(), limits.recordingFlushMs);
  }

  /**
   * Commands of several sessions share a commit, as what it costs is mostly its own: after what the event loop has at
   * hand, and what comes while two are under way goes into the next. What nobody waits for goes with the next that
   * somebody does, or by the timer.
   */
  #shareCommit(): void {
    if (this.#sent - this.#committed >= commitsUnderWayMax || this.#dirty.size === 0) return;
    if (this.#immediate) return;
    this.#immediate = true;
    setImmediate(() => {
      this.#immediate = false;
      this.#flush();
    });
  }

  #flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#dirty.size === 0 || this.#failure) return;
    const length = this.#dirtyBytes;
    const buffer = (length <= bufferBytes ? this.#free.pop() : undefined) ?? newBuffer(length);
    const bytes = new Uint8Array(buffer);
    let at = 0;
    const parts = Array.from(this.#dirty, (lines) => {
      const part = lines.moveTo(bytes, at);
      at += part.length;
      return part;
    });
    this.#dirty.clear();
    this.#dirtyBytes = 0;
    this.#sent += 1;
    this.#unacknowledged.push({ appends: this.#sent, bytes: length, at: performance.now(), buffer });
    this.#unacknowledgedBytes += length;
    this.#post({ type: "append", bytes: buffer, parts });
  }

  #whenCommitted(): Promise<void> | undefined {
    this.#requireOpen();
    if (this.#journal !== undefined) return this.#journal.synced();
    if (!this.#strict) {
      const oldest = this.#unacknowledged[0];
      if (oldest !== undefined && performance.now() - oldest.at > limits.recordingLagMsMax) {
        throw new GatewayError(
          "recording.lagging",
          "the recording has fallen behind; this session is stopped rather than left unrecorded",
        );
      }
      return undefined;
    }
    const appends = this.#dirty.size > 0 ? this.#sent + 1 : this.#sent;
    if (appends <= this.#committed) return undefined;
    return new Promise((resolve, reject) => {
      this.#waiting.push({ appends, resolve, reject });
      this.#shareCommit();
    });
  }

  #call(method: string, rest: readonly unknown[]): Promise<unknown> {
    this.#flush();
    return this.#ask((call) => ({ type: "call", call, method, arguments: rest }));
  }

  #ask(message: (call: number) => ToWorker): Promise<unknown> {
    if (this.#failure) return Promise.reject(this.#failure);
    const call = ++this.#nextCall;
    return new Promise((resolve, reject) => {
      this.#calls.set(call, { resolve, reject });
      this.#post(message(call));
    });
  }

  #post(message: ToWorker): void {
    this.#worker.postMessage(message);
  }

  #receive(message: FromWorker): void {
    switch (message.type) {
      case "started":
        this.#publicKey = message.publicKey;
        this.#started?.();
        this.#started = undefined;
        return;
      case "committed":
        return this.#acknowledge(message.appends);
      case "answer":
        this.#calls.get(message.call)?.resolve(message.value);
        this.#calls.delete(message.call);
        return;
      case "refused":
        this.#calls.get(message.call)?.reject(new GatewayError(message.code as ErrorCode, message.message));
        this.#calls.delete(message.call);
        return;
      case "failed":
        this.#fail(message.failure);
    }
  }

  #acknowledge(appends: number): void {
    this.#committed = appends;
    for (let [oldest] = this.#unacknowledged; oldest !== undefined && oldest.appends <= appends; ) {
      this.#unacknowledgedBytes -= oldest.bytes;
      if (oldest.buffer.byteLength === bufferBytes && this.#free.length < freeBuffersMax)
        this.#free.push(oldest.buffer);
      this.#unacknowledged.shift();
      [oldest] = this.#unacknowledged;
    }
    while (this.#waiting[0] !== undefined && this.#waiting[0].appends <= appends) this.#waiting.shift()?.resolve();
    if (this.#waiting.length > 0) this.#shareCommit();
  }

  #fail({ message, code, hint }: WorkerFailure): void {
    if (this.#failure) return;
    const failure =
      this.#started === undefined
        ? new GatewayError("recording.failed", "the recording failed; nothing runs unrecorded", { cause: message })
        : // Before anybody is served: who starts the gateway is told why it cannot.
          new GatewayError(
            code ?? "store.unavailable",
            code === undefined ? `the store cannot be used: ${message}` : message,
            { ...(hint !== undefined && { hint }) },
          );
    this.#failure = failure;
    this.#journal?.fail(failure);
    for (const waiting of this.#waiting.splice(0)) waiting.reject(failure);
    for (const call of this.#calls.values()) call.reject(failure);
    this.#calls.clear();
    for (const listener of this.#onFailure) listener(failure);
  }
}
