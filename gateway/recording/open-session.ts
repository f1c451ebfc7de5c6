/** A session whose events are being written: where it stands, and what it has to be written. */
import type { sessions } from "../store/schema.ts";
import { extend, genesis } from "./chain.ts";
import { chunkOf, type SessionRow, type Written } from "./chunk.ts";
import type { SessionOpened } from "./events.ts";
import { SessionSummary } from "./summary.ts";

export class OpenSession {
  readonly id: string;
  #row: SessionRow | undefined;
  #head: Buffer;
  #events: number;
  #pending: string[] = [];
  readonly #summary: SessionSummary;

  private constructor(id: string, row: SessionRow | undefined, head: Buffer, events: number, summary: SessionSummary) {
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
    return new OpenSession(row.id, undefined, Buffer.from(row.head), row.events, new SessionSummary(row));
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
    return this.#events + this.#pending.length + 1;
  }

  /** @param json the next event */
  add(json: string): void {
    this.#pending.push(json);
    this.#summary.take(json);
  }

  /** What there is to write, which counts as written from here on. */
  written(): Written {
    const row = this.#row;
    const chunk = chunkOf(this.id, this.#events + 1, this.#pending);
    for (const json of this.#pending) this.#head = extend(this.#head, json);
    this.#events += this.#pending.length;
    this.#pending = [];
    this.#row = undefined;
    const { commands, verdicts } = this.#summary;
    return { chunk, row, events: this.#events, head: this.#head, commands, verdicts };
  }
}
