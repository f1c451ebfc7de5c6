/**
 * One recorded session, chunk by chunk, up to what its row in the store says, held against chain and seal while it goes
 * by. Only lines that are asked for become text: rows, the most of a recording, are hashed and passed over.
 */
import { extend, genesis } from "../../../gateway/recording/chain.ts";
import type { RecordedEvent } from "../../../gateway/recording/events.ts";
import { listingProblem, sealProblem } from "../../../gateway/recording/seal.ts";
import type { Chunk, Found } from "./store-reader.ts";

export interface ReadState {
  readonly open: boolean;
  /** What cannot be read, or is not what was recorded. */
  readonly problem: string | undefined;
}

const lineFeed = 10;
/** Of each event's line: `{"type":"` and more than this is the same for all. */
const typeAt = '{"type":"'.length;
const wanted = ["intent", "analysis", "session."].map((type) => Buffer.from(type));

export class SessionLines {
  readonly #found: Found;
  readonly #take: (line: string) => void;
  #head: Buffer;
  #events = 0;
  #first: RecordedEvent | undefined;
  #problem: string | undefined;

  /** @param take may get lines of a session that turns out to be broken */
  constructor(found: Found, take: (line: string) => void) {
    this.#found = found;
    this.#take = take;
    this.#head = genesis(found.row.id);
  }

  get #open(): boolean {
    return this.#found.row.closedAt === null && this.#found.seal === undefined;
  }

  add(chunk: Chunk): void {
    if (this.#problem !== undefined) return;
    try {
      this.#read(chunk);
    } catch (error) {
      this.#problem = `event ${this.#events + 1} cannot be read: ${(error as Error).message}`;
    }
  }

  #read({ first, codec, data }: Chunk): void {
    const bytes = codec === "zstd" ? Bun.zstdDecompressSync(data) : data;
    const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    let number = first;
    for (let start = 0; start < text.length; number++) {
      // An open session goes on while it is read.
      if (this.#open && this.#events === this.#found.row.events) return;
      const found = text.indexOf(lineFeed, start);
      const end = found < 0 ? text.length : found;
      this.#events += 1;
      if (number !== this.#events) {
        this.#problem = `event ${this.#events} is missing`;
        return;
      }
      this.#line(text.subarray(start, end));
      start = end + 1;
    }
  }

  #line(line: Buffer): void {
    this.#head = extend(this.#head, line);
    const isWanted = wanted.some((type) => line.compare(type, 0, type.length, typeAt, typeAt + type.length) === 0);
    if (!isWanted && this.#events > 1) return;
    const text = line.toString("utf8");
    this.#first ??= JSON.parse(text) as RecordedEvent;
    this.#take(text);
  }

  /** After the last chunk. */
  end(): ReadState {
    const { row, seal } = this.#found;
    const open = this.#open;
    return { open, problem: this.#problem ?? this.#mismatch(row, seal, open) };
  }

  #mismatch(row: Found["row"], seal: Found["seal"], open: boolean): string | undefined {
    if (this.#events !== row.events) return `${row.events} events were recorded, ${this.#events} are there`;
    if (!this.#head.equals(Buffer.from(row.head))) return "an event was changed: the chain does not lead to its head";
    return (
      listingProblem(row, this.#first) ??
      (open ? undefined : sealProblem(seal, row.id, this.#events, this.#head, undefined))
    );
  }
}
