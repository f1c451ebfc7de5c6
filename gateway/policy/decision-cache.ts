/** A bounded map from everything a decision was made of to the decision; the least recently used goes first. */
import type { Decision } from "./decision.ts";

export class DecisionCache {
  readonly #entries = new Map<string, Decision>();
  readonly #entriesMax: number;

  constructor(entriesMax: number) {
    this.#entriesMax = entriesMax;
  }

  get size(): number {
    return this.#entries.size;
  }

  get(key: string): Decision | undefined {
    const decision = this.#entries.get(key);
    if (decision === undefined) return undefined;
    // Map keeps insertion order: the oldest is first.
    this.#entries.delete(key);
    this.#entries.set(key, decision);
    return decision;
  }

  set(key: string, decision: Decision): void {
    this.#entries.set(key, decision);
    if (this.#entries.size <= this.#entriesMax) return;
    const oldest = this.#entries.keys().next();
    if (!oldest.done) this.#entries.delete(oldest.value);
  }
}
