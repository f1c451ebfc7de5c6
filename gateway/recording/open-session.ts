/** A session whose events are being written: where it stands, and what it has to be written. */
import type { sessions } from "../store/schema.ts";
import { extendByLines, genesis } from "./chain.ts";
import { chunkOf, type SessionRow, type Written } from "./chunk.ts";
import type { SessionOpened } from "./events.ts";
import { SessionSummary } from "./summary.ts";

/** What the list of sessions says of one. */
type Summary = Pick<SessionSummary, "commands" | "verdicts">;

export class OpenSession {
  readonly id: string;
  #row: SessionRow | undefined;
  #head: Buffer;
  #events: number;
  #summary: Summary;
  #pending: Buffer[] = [];
  #pendingEvents = 0;

  private constructor(id: string, row: SessionRow | undefined, head: Buffer, events: number, summary: Summary) {
    this.id = id;
    this.#row = row;
    this.#head = head;
    this.#events = events;
    this.#summary = summary;
  }

  /** One of which nothing is written yet, its opening neither. */
  static begun({ session, gateway, identity, target, at }: SessionOpened): OpenSession {
    const head = genesis(session);
    const { issuer, subject, email, kind } = identity;
    const row = { id: session, gateway, issuer, subject, email, kind, target: target.name, openedAt: at, head };
    return new OpenSession(session, row, head, 0, new SessionSummary());
  }

  static stored(row: typeof sessions.$inferSelect): OpenSession {
    return new OpenSession(row.id, undefined, Buffer.from(row.head), row.events, row);
  }

  /** Of the chain, as written. */
  get head(): Buffer {
    return this.#head;
  }
  /** As written. */
  get events(): number {
    return this.#events;
  }
  /** Number of the event that comes next. */
  get next(): number {
    return this.#events + this.#pendingEvents + 1;
  }

  /**
   * @param lines the next events as JSON, each with its line feed
   * @param summary of the session with them
   */
  add(lines: Buffer, events: number, summary: Summary): void {
    this.#pending.push(lines);
    this.#pendingEvents += events;
    this.#summary = summary;
  }

  /** @param events the next ones, as JSON */
  addEvents(events: readonly string[]): void {
    const summary = new SessionSummary(this.#summary);
    for (const event of events) summary.take(event);
    this.add(Buffer.from(`${events.join("\n")}\n`), events.length, summary);
  }

  /** What there is to write, which counts as written from here on. */
  written(): Written {
    const [first, more] = this.#pending;
    const lines = first !== undefined && more === undefined ? first : Buffer.concat(this.#pending);
    const chunk = chunkOf(this.id, this.#events + 1, this.#pendingEvents, lines);
    const row = this.#row;
    this.#head = extendByLines(this.#head, lines);
    this.#events += this.#pendingEvents;
    this.#pending = [];
    this.#pendingEvents = 0;
    this.#row = undefined;
    const { commands, verdicts } = this.#summary;
    return { chunk, row, events: this.#events, head: this.#head, commands, verdicts };
  }
}
