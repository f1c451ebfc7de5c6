/**
 * Prepared statements and portals of one session, under the names that the wire and SQL share (PREPARE and Parse,
 * DECLARE and Bind). The target has the last word on a name: an entry counts only once the target confirmed it, and
 * an unconfirmed one counts only inside the batch of messages (up to Sync) that made it, since there a failure makes
 * the target skip whatever would use it.
 */
import { GatewayError } from "../errors.ts";

interface Pending<T> {
  readonly batch: number;
  /** Undefined: the name is being closed. */
  readonly value: T | undefined;
}

export type Lookup<T> =
  | { readonly kind: "found"; readonly value: T }
  | { readonly kind: "absent" }
  /** An earlier, unanswered batch decides: ask again when the target has answered it. */
  | { readonly kind: "unsettled" };

export class NameRegistry<T> {
  readonly #confirmed = new Map<string, T>();
  readonly #pending = new Map<string, Pending<T>[]>();
  readonly #what: string;
  readonly #entriesMax: number;
  readonly #lengthMax: number;
  readonly #lengthOf: (value: T) => number;
  readonly #onEnd: (value: T) => void;
  #length = 0;

  /**
   * @param length of one value in characters, and what all may have together, confirmed or not
   * @param onEnd of a value that no name means any more, or never will
   */
  constructor(
    what: string,
    entriesMax: number,
    length?: { readonly lengthMax: number; readonly lengthOf: (value: T) => number },
    onEnd: (value: T) => void = () => undefined,
  ) {
    this.#onEnd = onEnd;
    this.#what = what;
    this.#entriesMax = entriesMax;
    this.#lengthMax = length?.lengthMax ?? Number.POSITIVE_INFINITY;
    this.#lengthOf = length?.lengthOf ?? (() => 0);
  }

  get size(): number {
    return this.#confirmed.size;
  }

  /** Whether a value of that size fits beside what is there, confirmed or not, but for what its name means now. */
  hasRoomFor(name: string, length: number): boolean {
    const replaced = this.#confirmed.get(name);
    return this.#length - (replaced === undefined ? 0 : this.#lengthOf(replaced)) + length <= this.#lengthMax;
  }

  /** The message that makes (or with undefined, closes) a name is about to be forwarded. @throws GatewayError protocol.too_large */
  propose(name: string, batch: number, value: T | undefined): Pending<T> {
    if (value !== undefined && this.#confirmed.size + this.#pending.size >= this.#entriesMax) {
      throw this.#tooLarge(`more than ${this.#entriesMax} ${this.#what}s`);
    }
    const length = value === undefined ? 0 : this.#lengthOf(value);
    if (!this.hasRoomFor(name, length)) {
      throw this.#tooLarge(`${this.#what}s of more than ${this.#lengthMax} characters`);
    }
    this.#length += length;
    const pending = { batch, value };
    const list = this.#pending.get(name);
    if (list === undefined) this.#pending.set(name, [pending]);
    else list.push(pending);
    return pending;
  }

  /** The target answered: `accepted` says whether the name now means what was proposed. */
  settle(name: string, proposal: Pending<T>, accepted: boolean): void {
    const list = this.#pending.get(name);
    const at = list?.indexOf(proposal) ?? -1;
    if (list === undefined || at < 0) return;
    if (list.length === 1) this.#pending.delete(name);
    else list.splice(at, 1);
    if (!accepted) return this.#forget(proposal.value);
    this.#forget(this.#confirmed.get(name));
    if (proposal.value === undefined) this.#confirmed.delete(name);
    else this.#confirmed.set(name, proposal.value);
  }

  /** What the target last said that the name means. */
  confirmed(name: string): T | undefined {
    return this.#confirmed.get(name);
  }

  lookup(name: string, batch: number): Lookup<T> {
    const list = this.#pending.get(name);
    if (list !== undefined) {
      if (list.some((pending) => pending.batch !== batch)) return { kind: "unsettled" };
      const latest = list.at(-1);
      return latest?.value === undefined ? { kind: "absent" } : { kind: "found", value: latest.value };
    }
    const value = this.#confirmed.get(name);
    return value === undefined ? { kind: "absent" } : { kind: "found", value };
  }

  /** DISCARD ALL, DEALLOCATE ALL, CLOSE ALL, the end of a transaction for portals. */
  clear(keep?: (value: T, name: string) => boolean): void {
    for (const [name, value] of this.#confirmed) {
      if (keep?.(value, name)) continue;
      this.#forget(value);
      this.#confirmed.delete(name);
    }
  }

  #tooLarge(what: string): GatewayError {
    return new GatewayError("protocol.too_large", `${what} in one session`, {
      hint: `Close ${this.#what}s that are no longer used.`,
    });
  }

  #forget(value: T | undefined): void {
    if (value === undefined) return;
    this.#length -= this.#lengthOf(value);
    this.#onEnd(value);
  }
}

export type Proposal<T> = ReturnType<NameRegistry<T>["propose"]>;
