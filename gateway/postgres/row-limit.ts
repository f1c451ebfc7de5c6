/**
 * Policy's bound on the rows of one command: those behind it do not reach the client, who is told so, and the target is
 * asked to stop where that takes nothing back. It counts over all results and partial executions of the command.
 */
import type { Obligations } from "../policy/decision.ts";
import type { CommandAnalysis } from "../policy/input.ts";
import type { NoticeFields } from "./messages.ts";

type Limit = NonNullable<Obligations["limit"]>;

/** What ends a COPY in the binary format, in a message of its own. */
const binaryTrailer = Buffer.from([0xff, 0xff]);

export class RowLimit {
  readonly #limit: Limit;
  #left: number;
  /** Rows of the result under way that the client got. */
  #shown = 0;
  #cut = false;
  #told = false;
  #copy: "text" | "binary" | undefined;
  /** The target was asked to stop: the error that says it did is no error of the command. */
  stopping = false;

  constructor(limit: Limit) {
    this.#limit = limit;
    this.#left = limit.rows;
  }

  /** The client did not get all of the result. */
  get cut(): boolean {
    return this.#cut;
  }

  /** Of the COPY under way, if there is one. */
  get copyFormat(): "text" | "binary" | undefined {
    return this.#copy;
  }

  /** Counts one more row. @returns true where it is one too many. */
  cuts(): boolean {
    if (this.#left === 0) {
      this.#cut = true;
      return true;
    }
    this.#left -= 1;
    this.#shown += 1;
    return false;
  }

  /** @param header the first line names the columns */
  startCopy(format: 0 | 1, header: boolean): void {
    this.#copy = format === 1 ? "binary" : "text";
    if (header) {
      this.#left += 1;
      this.#shown -= 1;
    }
  }

  /** The target sends a row a message. */
  cutsCopy(data: Buffer): boolean {
    if (this.#copy === "binary" && data.equals(binaryTrailer)) return false;
    return this.cuts();
  }

  /** What the tag says of the result's rows is what the client got of them. @returns the tag of the result that ended */
  endResult(tag: string): string {
    const shown = this.#cut ? tag.replace(/^(SELECT|FETCH|COPY) [0-9]+$/, `$1 ${this.#shown}`) : tag;
    this.#shown = 0;
    this.#copy = undefined;
    return shown;
  }

  /** Once, when something was cut. */
  takeNotice(): NoticeFields | undefined {
    if (!this.#cut || this.#told) return undefined;
    this.#told = true;
    const { rows, rule } = this.#limit;
    return {
      S: "WARNING",
      V: "WARNING",
      C: "01000",
      M: `the result was cut after ${rows} ${rows === 1 ? "row" : "rows"} by policy: ${rule}`,
      H: "Narrow the query, or read it in parts by a condition on its key.",
    };
  }
}

/** Whether ending it early takes back nothing that it did: it only reads, and calls nothing. */
export function mayStopEarly({ statements, complete }: CommandAnalysis): boolean {
  const [only] = statements;
  if (!complete || only === undefined || statements.length !== 1) return false;
  return (only.verb === "SELECT" || only.verb === "COPY") && only.class === "read" && only.functions.length === 0;
}
