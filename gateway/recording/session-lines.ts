/** A session's events that the worker was not sent yet, as it writes them: JSON, each with its line feed. */
import { encodeEvent } from "./encode.ts";
import type { RecordedEvent } from "./events.ts";
import type { AppendPart } from "./protocol.ts";
import { SessionSummary } from "./summary.ts";
import { Utf8Writer } from "./utf8-writer.ts";

const lineFeed = 0x0a;

/** Writers of sessions that have nothing to send: one that is quiet keeps none. */
const writers: Utf8Writer[] = [];
const writersMax = 64;
const keptCapacityMax = 64 * 1_024;

export class SessionLines {
  readonly session: string;
  #writer: Utf8Writer | undefined;
  #events = 0;
  #sent = 0;
  readonly #summary = new SessionSummary();

  constructor(session: string) {
    this.session = session;
  }

  /** Of the session, those that were sent included. */
  get events(): number {
    return this.#sent + this.#events;
  }

  /** @returns the event's length in bytes; undefined, and it is not taken, where it is longer than `lengthMax` */
  add(event: RecordedEvent, lengthMax: number): number | undefined {
    this.#writer ??= writers.pop() ?? new Utf8Writer();
    const writer = this.#writer;
    const start = writer.length;
    try {
      encodeEvent(writer, event);
    } catch (error) {
      writer.truncate(start);
      throw error;
    }
    writer.byte(lineFeed);
    const length = writer.length - start;
    if (length > lengthMax) {
      writer.truncate(start);
      return undefined;
    }
    this.#events += 1;
    if (event.type === "intent") this.#summary.count(event.command, event.verdict);
    return length;
  }

  /** A view of the latest of these bytes, valid until the next event. */
  latest(length: number): Buffer {
    const writer = this.#writer as Utf8Writer;
    return writer.written(writer.length - length);
  }

  /** Moves all of them. @returns what the worker is told of them */
  moveTo(bytes: Uint8Array, at: number): AppendPart {
    const writer = this.#writer as Utf8Writer;
    const { length } = writer;
    bytes.set(writer.written(), at);
    writer.truncate(0);
    if (writers.length < writersMax && writer.capacity <= keptCapacityMax) writers.push(writer);
    this.#writer = undefined;
    const first = this.#sent + 1;
    const events = this.#events;
    this.#sent += events;
    this.#events = 0;
    const { commands, verdicts } = this.#summary;
    return { session: this.session, first, events, length, commands, verdicts };
  }
}
